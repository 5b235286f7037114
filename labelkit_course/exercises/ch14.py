"""The exercises of chapter 14: who wins under four metrics, task-aligned assignment, STAL's floor, dead candidates."""

import torch

from labelkit import NEGATIVE, Priors
from labelkit.search.candidates import inside
from labelkit.similarity import ciou
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect

# --- 14.2 -----------------------------------------------------------------------------------------------------------

FOUR = ((0.9, 0.6), (0.1, 0.9), (0.5, 0.75), (0.99, 0.5))
EXPONENTS = {"s I^6": (1, 6), "s^0.5 I^6": (0.5, 6), "s^0.2 I^0.8": (0.2, 0.8), "s I": (1, 1)}
WINNERS = {"s I^6": 2, "s^0.5 I^6": 1, "s^0.2 I^0.8": 2, "s I": 0}


def four_winners(guess):
    def winner(alpha, beta):
        return max(range(4), key=lambda point: FOUR[point][0] ** alpha * FOUR[point][1] ** beta)

    truth = {name: winner(*exponents) for name, exponents in EXPONENTS.items()}
    clues = [
        ({"s I^6": 0}, "An IoU of 0.6 to the sixth power is 0.05, and 0.75 to the sixth is 0.18."),
        ({"s I^6": 1}, "Under s I^6 the score still counts in full: 0.1 is a fifth of 0.5."),
        ({"s^0.5 I^6": 2}, "With half the weight on s, the root of 0.1 is 0.32, and that of 0.5 is 0.71."),
        ({"s^0.5 I^6": 0}, "An IoU of 0.6 to the sixth power is 0.05, and 0.75 to the sixth is 0.18."),
        (lambda got: 3 in got.values(), "Point 3 has nearly the score of point 0, and a clearly worse box."),
        ({"s I": 1}, "Under s I both count alike, and 0.1 times 0.9 is little."),
        ({"s I": 2}, "Under s I both count alike: multiply the pairs."),
        ({"s^0.2 I^0.8": 0}, "Under s^0.2 I^0.8 the IoU has four times the weight of the score."),
        ({"s^0.2 I^0.8": 1}, "A score of 0.1 to the power 0.2 is 0.63: a low exponent is not none."),
    ]
    expect(guess, truth, among=(0, 1, 2, 3), clues=clues)


# --- 14.1 -----------------------------------------------------------------------------------------------------------


def _slow(scores, ious, inside, k, alpha, beta):
    """Task-aligned assignment as loops over tables in float64."""
    points, objects = scores.shape
    t = (scores.double() ** alpha * ious.double() ** beta).tolist()
    best, kept = [(-1.0, NEGATIVE)] * points, torch.zeros(points)
    for g in range(objects):
        wish = [p for p in range(points) if inside[p, g] and t[p][g] > 0]
        for p in sorted(wish, key=lambda p: (-t[p][g], p))[:k]:
            if ious[p, g] > best[p][0]:
                best[p] = (float(ious[p, g]), g)
    gt = torch.tensor([g for _, g in best], dtype=torch.int64)
    for g in range(objects):
        own = [p for p in range(points) if gt[p] == g]
        for p in own:
            kept[p] = t[p][g] / max(t[q][g] for q in own) * max(float(ious[q, g]) for q in own)
    return gt, kept


def _tal(case, scores, ious, answer, may=None, k=13, alpha=1.0, beta=6.0):
    scores, ious = torch.tensor(scores), torch.tensor(ious)
    may = torch.ones_like(ious, dtype=torch.bool) if may is None else torch.tensor(may)
    inputs = {"scores": scores, "ious": ious, "inside": may, "k": k, "alpha": alpha, "beta": beta}
    got = answer(scores, ious, may, k, alpha, beta)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong(f"{case}.\nYour function should return two tensors, gt and target.", inputs=inputs)
    want = _slow(scores, ious, may, k, alpha, beta)
    compare(f"{case}: the labels", inputs, got[0], want[0])
    compare(f"{case}: the targets", inputs, got[1], want[1])


def one_point(answer):
    _tal("One point inside one object", [[0.4]], [[0.7]], answer)


def the_best_two(answer):
    scores, ious = [[0.9], [0.3], [0.8], [0.4]], [[0.5], [0.8], [0.6], [0.75]]
    _tal("Four points, k = 2, ranked by score and IoU together", scores, ious, answer, k=2)


def maxima_of_what_was_taken(answer):
    case = "k = 1: a point that was not taken has a higher IoU, and the maxima leave it out"
    _tal(case, [[0.1], [0.9]], [[0.8], [0.7]], answer, k=1)


def other_exponents(answer):
    scores, ious = [[0.9], [0.1], [0.5], [0.99]], [[0.6], [0.9], [0.75], [0.5]]
    for alpha, beta in ((0.5, 6.0), (1.0, 1.0), (2.0, 0.5)):
        _tal(f"alpha {alpha} and beta {beta}", scores, ious, answer, k=1, alpha=alpha, beta=beta)


def the_best_is_outside(answer):
    scores, ious, may = [[0.9], [0.8], [0.5], [0.4]], [[0.9], [0.9], [0.7], [0.6]], [[False], [False], [True], [True]]
    _tal("The best two points are outside, k = 2, and two others are inside", scores, ious, answer, may, k=2)


def zero_metric(answer):
    case = "A point inside has metric 0 and stays untrained, although k has room"
    _tal(case, [[0.5], [0.5], [0.0]], [[0.6], [0.0], [0.7]], answer)


def rescaled(answer):
    case = "One object, three positives: the best is asked for the highest IoU"
    _tal(case, [[0.9], [0.2], [0.5]], [[0.7], [0.8], [0.6]], answer)


def two_objects(answer):
    scores, ious = [[0.5, 0.0], [0.4, 0.0], [0.0, 0.4], [0.0, 0.3]], [[0.9, 0.0], [0.8, 0.0], [0.0, 0.5], [0.0, 0.4]]
    _tal("Of two objects each has its own maxima", scores, ious, answer)


def a_conflict(answer):
    case = "Two objects take one point: the higher IoU wins, whatever the metric"
    _tal(case, [[0.9, 0.2], [0.3, 0.3]], [[0.6, 0.65], [0.0, 0.1]], answer, k=1)


def only_those_that_took_it(answer):
    scores, ious = [[0.5, 0.5, 0.1], [0.1, 0.1, 0.9]], [[0.6, 0.55, 0.9], [0.2, 0.2, 0.8]]
    _tal("k = 1: object 2 has the highest IoU with point 0, but took point 1", scores, ious, answer, k=1)


def no_replacement(answer):
    scores, ious = [[0.9, 0.9], [0.5, 0.4]], [[0.7, 0.8], [0.5, 0.1]]
    _tal("k = 1: the loser of a conflict gets no replacement", scores, ious, answer, k=1)


def maxima_of_what_was_kept(answer):
    scores, ious = [[0.9, 0.9], [0.5, 0.4], [0.4, 0.4]], [[0.7, 0.8], [0.6, 0.1], [0.5, 0.1]]
    _tal("An object lost its best point: the maxima are over what it kept", scores, ious, answer)


def twins(answer):
    _tal("The same object twice: the lower one", [[0.5, 0.5], [0.4, 0.4]], [[0.7, 0.7], [0.8, 0.8]], answer)


def equal_metrics(answer):
    _tal("Twenty equal metrics: the lower points", [[0.5]] * 20, [[0.7]] * 20, answer, k=3)


def more_than_there_are(answer):
    _tal("k is larger than the number of points", [[0.5], [0.4]], [[0.7], [0.6]], answer, k=13)


def nothing_inside(answer):
    case = "No point is inside object 1"
    may = [[True, False], [True, False]]
    _tal(case, [[0.5, 0.5], [0.4, 0.6]], [[0.7, 0.7], [0.8, 0.8]], answer, may)


def no_objects(answer):
    none = torch.zeros(3, 0)
    got = answer(none, none, none.bool())
    want = torch.full((3,), NEGATIVE), torch.zeros(3)
    compare("No object", {"scores": none, "ious": none, "inside": none.bool()}, got, want)


def _wrong_tal(
    inside_first=True, positive=True, conflict="ious", rescale="each", kept=True, refill=False, swap=False, all_in=False
):
    """The rule with one thing changed."""

    def answer(scores, ious, inside, k=13, alpha=1.0, beta=6.0):
        if scores.shape[1] == 0:
            return torch.full((len(scores),), NEGATIVE), torch.zeros(len(scores))
        alpha, beta = (beta, alpha) if swap else (alpha, beta)
        metric = scores**alpha * ious**beta
        t = torch.where(inside, metric, -1.0)
        order = (t if inside_first else metric).argsort(dim=0, descending=True, stable=True)[:k]
        chosen = torch.zeros_like(inside).scatter(0, order, True) & inside
        if positive:
            chosen &= metric > 0
        rivals = inside & chosen.any(dim=1, keepdim=True) if all_in else chosen
        best, owner = torch.where(rivals, metric if conflict == "t" else ious, -1.0).max(dim=1)
        if conflict == "first":
            owner = chosen.int().argmax(dim=1)
        gt = torch.where(best >= 0, owner, NEGATIVE)
        if refill:
            for g in range(scores.shape[1]):
                free = torch.where((gt < 0) & inside[:, g], metric[:, g], 0.0)
                if not (gt == g).any() and free.max() > 0:
                    gt[free.argmax()] = g
        own = gt[:, None] == torch.arange(scores.shape[1])
        among = {True: own, False: chosen, None: inside}[kept]
        most, widest = (torch.where(among, table, 0.0).amax(dim=0) for table in (metric, ious))
        if rescale == "all":
            most, widest = most.max(), widest.max()
        if rescale == "to one":
            widest = torch.ones_like(widest)
        goal = metric if rescale == "not" else metric / most * widest
        return gt, torch.where(own, goal, 0.0).sum(dim=1)

    return answer


# --- 14.3 -----------------------------------------------------------------------------------------------------------


def _floor(case, sides, want, answer):
    compare(case, {"sides": torch.tensor(sides)}, answer(torch.tensor(sides)), torch.tensor(want))


def long_sides_stay(answer):
    _floor("Sides of 16 px or more need no floor", [16.0, 17.5, 20.0, 300.0], [16.0, 17.5, 20.0, 300.0], answer)


def the_smallest_have_room(answer):
    _floor("Three very short sides", [0.5, 2.0, 7.9], [16.0, 16.0, 16.0], answer)


def never_less_for_more(answer):
    for pair in ([7.9, 8.0], [8.0, 8.1], [7.9, 12.0], [12.0, 15.9], [15.9, 16.0]):
        sides = torch.tensor(pair)
        shown = answer(sides)
        if isinstance(shown, torch.Tensor) and shown.shape == (2,) and shown[1] < shown[0]:
            less, more = pair
            raise Wrong(
                f"A side of {more} px is shown as {shown[1]:.4g} px, and one of {less} px as {shown[0]:.4g} px: "
                f"the larger object, {more:g} after {less:g}, is worse off.",
                inputs={"sides": sides},
            )


def as_much_room(answer):
    _floor("Sides under 16 px have as much room as the smallest", [8.0, 11.0, 15.9], [16.0, 16.0, 16.0], answer)


def no_sides(answer):
    compare("No side at all", {"sides": torch.zeros(0)}, answer(torch.zeros(0)), torch.zeros(0))


# --- 14.4 -----------------------------------------------------------------------------------------------------------


def _dead(side):
    """The share of floored candidates that have CIoU <= 0 with untrained boxes, for squares at 1,024 places."""
    points = Priors.points((128, 128), (8, 16, 32))
    step = 48.13 + torch.arange(32)
    places = torch.cartesian_prod(step, step)
    boxes = torch.cat([places - side / 2, places + side / 2], dim=1)
    reach = 2 * points.strides[:, None]
    predicted = torch.cat([points.centers - reach, points.centers + reach], dim=1)
    pairs = inside(points, boxes, 16)
    return (ciou(predicted[pairs.prior], boxes[pairs.gt]) <= 0).float().mean().item()


def dead_shares(guess):
    truth = {f"{side} px": _dead(float(side)) for side in (2, 4, 6, 8)}
    clues = [
        (lambda got: max(got.values()) > 1, "A share is a number from 0 to 1, and 90 % is 0.9."),
        (
            lambda got: max(got.values()) < 0.05,
            "Each candidate's box contains the object, so its IoU is above 0; but CIoU subtracts a term for the "
            "distance of the centres.",
        ),
        (
            lambda got: max(got.values()) - min(got.values()) < 0.05,
            "The same distance of the centres does not kill every object. Compare it with the object's own side.",
        ),
        (
            lambda got: got["8 px"] > 0.3,
            "The boxes of 32 px and more contain an 8 px object, and its IoU is large enough to pay the centre term.",
        ),
        (
            lambda got: got["2 px"] < got["8 px"],
            "A smaller object has a smaller IoU with the same box, so it can pay less for the distance.",
        ),
        (
            lambda got: got["2 px"] < 0.75,
            "The IoU of a 2 px object with a box of 32 px is 0.004, and the centre term is larger at most places.",
        ),
        (
            lambda got: got["4 px"] > 0.8 or got["6 px"] > 0.3,
            "The IoU with the same box is four times that of a 2 px object at 4 px, and nine times at 6 px, while the "
            "centre term stays the same.",
        ),
        (
            lambda got: got["4 px"] < 0.45,
            "The floored square reaches 8 px to each side, which is twice the side of a 4 px object. What does its IoU "
            "have to pay there?",
        ),
        (lambda got: got["8 px"] > 0.1, "At 8 px the floored square reaches no farther than the object is long."),
    ]
    expect(guess, truth, within=0.1, clues=clues)


EXERCISES = (
    Exercise(
        id="14.2",
        kind="P",
        title="Four rules, one object",
        difficulty=2,
        minutes=4,
        hints=(
            "Powers of numbers below 1 shrink: the higher the exponent, the more a low value hurts.",
            "0.6, 0.9, 0.75 and 0.5 to the sixth power are about 0.05, 0.53, 0.18 and 0.02.",
        ),
        tests=(four_winners,),
        mutants={
            "the product everywhere": (dict.fromkeys(WINNERS, 0), "0.05"),
            "the best box everywhere": (dict.fromkeys(WINNERS, 1), "counts in full"),
            "as under TOOD": (WINNERS | {"s^0.5 I^6": 2}, "half the weight on s"),
            "the best score": (WINNERS | {"s I": 3}, "worse box"),
            "the low exponents are the product": (WINNERS | {"s^0.2 I^0.8": 0}, "four times the weight"),
            "the best box under the low exponents": (WINNERS | {"s^0.2 I^0.8": 1}, "0.63"),
            "the balanced one under the product": (WINNERS | {"s I": 2}, "count alike"),
        },
    ),
    Exercise(
        id="14.1",
        title="Task-aligned assignment",
        difficulty=4,
        minutes=18,
        hints=(
            "Put 0 into the table of metrics wherever a point is not inside. Then the k best of a column, if they are "
            "above 0, are all inside.",
            "t.argsort(dim=0, descending=True, stable=True)[:k] gives the rows of the k best of each column, and "
            "torch.zeros_like(inside).scatter(0, order, True) marks them. Of the marked pairs of a point, "
            "torch.where(chosen, ious, -1).max(dim=1) finds the winner.",
            "own = gt[:, None] == torch.arange(G) marks what each object kept. torch.where(own, t, 0).amax(dim=0) and "
            "the same with ious are the two maxima of the target t / most * widest.",
        ),
        tests=(
            one_point,
            the_best_two,
            maxima_of_what_was_taken,
            other_exponents,
            the_best_is_outside,
            zero_metric,
            rescaled,
            two_objects,
            a_conflict,
            only_those_that_took_it,
            no_replacement,
            maxima_of_what_was_kept,
            twins,
            equal_metrics,
            more_than_there_are,
            nothing_inside,
            no_objects,
        ),
        mutants={
            "conflicts by the metric": (_wrong_tal(conflict="t"), "the higher IoU wins"),
            "the first to take a point keeps it": (_wrong_tal(conflict="first"), "the higher IoU wins"),
            "k of all points, then inside": (_wrong_tal(inside_first=False), "are outside"),
            "metric 0 is positive": (_wrong_tal(positive=False), "untrained"),
            "one maximum for all": (_wrong_tal(rescale="all"), "two objects"),
            "the metric is the target": (_wrong_tal(rescale="not"), "the targets"),
            "the best is asked for 1": (_wrong_tal(rescale="to one"), "the targets"),
            "maxima of all inside": (_wrong_tal(kept=None), "the maxima leave it out"),
            "maxima before the conflict": (_wrong_tal(kept=False), "over what it kept"),
            "all objects compete": (_wrong_tal(all_in=True), "but took point 1"),
            "losers are refilled": (_wrong_tal(refill=True), "no replacement"),
            "exponents swapped": (_wrong_tal(swap=True), "score and IoU together"),
            "labels alone": (lambda *tables: _wrong_tal()(*tables)[0], "two tensors"),
        },
    ),
    Exercise(
        id="14.3",
        kind="B",
        title="Larger and worse off",
        difficulty=3,
        minutes=8,
        hints=(
            "Call it with 7.9, 8.0 and 12.0, and compare the answers.",
            "There are two numbers in play: up to which side the floor acts, and to which length it lifts. A side that "
            "the floor leaves alone must not be shorter than that length.",
            "The two numbers have to be the same one.",
        ),
        tests=(long_sides_stay, never_less_for_more, the_smallest_have_room, as_much_room, no_sides),
        mutants={
            "given": (GIVEN, "8 after 7.9"),
            "8 px too": (lambda sides: torch.where(sides <= 8, 16.0, sides), "8.1"),
            "to the first stride": (lambda sides: sides.clamp(min=8.0), "very short sides"),
            "all are lengthened": (lambda sides: sides + 8, "16 px or more"),
            "up to 12 px": (lambda sides: torch.where(sides < 12, 16.0, sides), "12 after 7.9"),
            "twice as long": (lambda sides: torch.where(sides < 16, 2 * sides, sides), "16 after 15.9"),
            "everything is 16 px": (lambda sides: torch.full_like(sides, 16.0), "16 px or more"),
        },
    ),
    Exercise(
        id="14.4",
        kind="P",
        title="A candidate is not a positive",
        difficulty=3,
        minutes=5,
        hints=(
            "The IoU of an object with a box that contains it is the ratio of their areas. The centre term is the "
            "squared distance of the centres over the squared diagonal of the box.",
            "Both have the area of the box below, up to a factor of 2, so the term wins where the distance exceeds "
            "some multiple of the object's side, and the candidates are spread over a square of 16 px.",
        ),
        tests=(dead_shares,),
        mutants={
            "in percent": ({"2 px": 90, "4 px": 60, "6 px": 15, "8 px": 0}, "0.9"),
            "none is dead": (dict.fromkeys(("2 px", "4 px", "6 px", "8 px"), 0.0), "distance of the centres"),
            "all alike": (dict.fromkeys(("2 px", "4 px", "6 px", "8 px"), 0.5), "own side"),
            "all are dead": (dict.fromkeys(("2 px", "4 px", "6 px", "8 px"), 1.0), "own side"),
            "8 px die too": ({"2 px": 0.95, "4 px": 0.9, "6 px": 0.85, "8 px": 0.8}, "contain"),
            "the large ones die": ({"2 px": 0.0, "4 px": 0.1, "6 px": 0.2, "8 px": 0.3}, "pay less"),
            "half of the smallest": ({"2 px": 0.5, "4 px": 0.3, "6 px": 0.1, "8 px": 0.0}, "0.004"),
            "nearly all up to 4 px": ({"2 px": 1.0, "4 px": 0.95, "6 px": 0.2, "8 px": 0.0}, "four times"),
            "too few at 4 px": ({"2 px": 0.9, "4 px": 0.3, "6 px": 0.1, "8 px": 0.0}, "twice the side"),
            "some at 8 px": ({"2 px": 0.9, "4 px": 0.6, "6 px": 0.2, "8 px": 0.2}, "no farther"),
        },
    ),
)
