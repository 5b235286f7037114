"""The exercises of chapter 13: the cut of a mixture, dynamic k twice, transport by copies, who wins."""

from itertools import product

import torch
from scipy.optimize import linear_sum_assignment

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import SimOTA
from labelkit.assigners.paa import below_the_bar
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect
from labelkit_course.exercise import describe

# --- 13.5 -----------------------------------------------------------------------------------------------------------

SCORES = {
    "nine": [0.3, 0.35, 0.4, 0.5, 1.8, 2, 2.1, 2.4, 3],
    "seven": [0.3, 0.32, 0.34, 0.36, 0.38, 2, 2.1],
    "two": [0.5, 2],
}


def _passed(scores):
    table = torch.tensor([scores], dtype=torch.float64)
    return int(below_the_bar(table, torch.ones_like(table, dtype=torch.bool)).sum())


def the_cut(guess):
    truth = {name: _passed(scores) for name, scores in SCORES.items()}
    clues = [
        ({"nine": 4}, "The whole first heap of the nine: its last member is less typical than the cut asks for."),
        ({"seven": 5}, "The whole first heap of the seven: the cut is at its likeliest member, not at its last."),
        ({"nine": 1}, "Only the best of the nine: the likeliest member of a heap is near its middle."),
        ({"seven": 1}, "Only the best of the seven: the likeliest member of a heap is near its middle."),
        ({"two": 2}, "Of the two scores each is a heap of its own."),
        ({"two": 0}, "A heap of one has a likeliest member."),
        (lambda got: got["nine"] > 4 or got["seven"] > 5, "A score of the second heap cannot pass here."),
        (
            lambda got: got["nine"] != 3 or got["seven"] != 3,
            "The curve of a heap is highest at the mean of its members, and the cut is at the member nearest to that.",
        ),
    ]
    expect(guess, truth, clues=clues)


# --- 13.1 -----------------------------------------------------------------------------------------------------------

CASES = {
    "ten times .95": [0.95] * 10,
    ".9 .8 .7 .6 .5 .4 .3 .2 .1 0": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0],
    "ten times .35": [0.35] * 10,
    "ten times .05": [0.05] * 10,
    ".95 .9": [0.95, 0.9],
    "ten times 0": [0.0] * 10,
}
LADDER = ".9 .8 .7 .6 .5 .4 .3 .2 .1 0"
RIGHT = {"ten times .95": 9, LADDER: 4, "ten times .35": 3, "ten times .05": 1, ".95 .9": 1, "ten times 0": 1}


def _dealt(ious):
    """How many of a row of points inside one object SimOTA makes positive; a box covers part of the object's height."""
    width = 8 * len(ious)
    boxes = torch.tensor([[0.0, 0, width, 8 * value] for value in ious])
    target = {"boxes": torch.tensor([[0.0, 0, width, 8]]), "labels": torch.tensor([0])}
    predictions = Predictions(boxes, torch.full((len(ious), 1), 0.5))
    return int(SimOTA(radius=99)(Priors.points((8, width), (8,)), target, predictions).positive.sum())


def how_many(guess):
    clues = [
        ({"ten times .95": 10}, "Ten boxes of .95 add up to 9.5, and the half is not given away."),
        ({LADDER: 5}, "The ladder adds up to 4.5. The sum is cut down, not rounded."),
        ({LADDER: 9}, "It is the sum of the IoUs, not the number of boxes that overlap."),
        ({"ten times .35": 4}, "Ten of .35 add up to 3.5. The sum is cut down, not rounded."),
        ({"ten times 0": 0}, "Never nobody: an object that nothing fits must still be learned."),
        ({"ten times .05": 0}, "Never nobody: half a unit is too little to be given, and an object must be learned."),
        ({".95 .9": 2}, "Two boxes of .95 and .9 add up to 1.85."),
        (lambda got: 0 in got.values(), "Never nobody: every object gets one anchor at least."),
        (lambda got: 10 in got.values(), "It is the sum of the IoUs, not the number of boxes."),
        (lambda got: got["ten times .95"] < 5, "The IoUs are added up, and no mean is taken."),
    ]
    expect(guess, {name: _dealt(ious) for name, ious in CASES.items()}, clues=clues)


# --- 13.4 -----------------------------------------------------------------------------------------------------------


def _k(case, ious, want, answer, q=10):
    ious = torch.tensor(ious) if ious else torch.zeros(0, len(want))
    compare(case, {"ious": ious, "q": q}, answer(ious, q), torch.tensor(want, dtype=torch.int64))


def two_objects(answer):
    _k("Two objects, one per column", [[0.75, 0.5], [0.75, 0.25], [0.5, 0.25]], [2, 1], answer)


def cut_down(answer):
    _k("The sum 1.85 is cut down, not rounded", [[0.95], [0.9]], [1], answer)


def at_least_one(answer):
    _k("An object that no box fits would be untrained: at least one", [[0.0, 0.9], [0.1, 0.6]], [1, 1], answer)


def only_q(answer):
    _k("Only the q largest count, q = 2", [[0.75], [0.5], [0.75], [0.75]], [1], answer, q=2)


def the_largest(answer):
    _k("The q largest, wherever they are, q = 3", [[0.0], [0.25], [1.0], [0.75], [0.5]], [2], answer, q=3)


def fewer_than_q(answer):
    _k("Fewer candidates than q: n = 2, q = 10", [[1.0, 0.5], [1.0, 0.75]], [2, 1], answer)


def no_candidates(answer):
    _k("No candidate at all", [], [1, 1], answer)


def no_objects(answer):
    compare("No object", {"ious": torch.zeros(5, 0)}, answer(torch.zeros(5, 0), 10), torch.zeros(0, dtype=torch.int64))


def _wrong_k(total=lambda best: best.sum(dim=0), down=lambda x: x.long(), least=1, take=None):
    def answer(ious, q=10):
        best = take(ious, q) if take else ious.sort(dim=0, descending=True).values[:q]
        return down(total(best)).clamp(min=least)

    return answer


# --- 13.3 -----------------------------------------------------------------------------------------------------------


def _least_sum(cost, k):
    """The least sum over every way to label the anchors with as many positives as possible."""
    rows = cost.tolist()
    wanted, best = min(len(rows), sum(k)), float("inf")
    for labels in product(range(-1, len(k)), repeat=len(rows)):
        if sum(g >= 0 for g in labels) == wanted and all(labels.count(g) <= k[g] for g in range(len(k))):
            best = min(best, sum(row[g] for row, g in zip(rows, labels, strict=True) if g >= 0))
    return best


def _transport(case, cost, k, answer):
    cost = torch.tensor(cost).reshape(-1, len(k))
    got = answer(cost, torch.tensor(k, dtype=torch.int64))
    inputs = {"cost": cost, "k": k}
    shown = "\n".join(f"    {name} = {describe(value)}" for name, value in inputs.items())

    def wrong(what):
        raise Wrong(f"{case}.\n{shown}\n{what}", inputs=inputs)

    compare(
        case, inputs, torch.zeros_like(got) if isinstance(got, torch.Tensor) else got, torch.zeros(len(cost)).long()
    )
    labels = got.tolist()
    if any(not NEGATIVE <= g < len(k) for g in labels):
        wrong(f"A label is {NEGATIVE} or the index of an object; you return {labels}.")
    counts, wanted = [labels.count(g) for g in range(len(k))], min(len(cost), sum(k))
    if any(n > most for n, most in zip(counts, k, strict=True)) or sum(counts) != wanted:
        wrong(f"{wanted} anchors are to be taken; your objects take {counts}.")
    total = sum(cost[p, g].item() for p, g in enumerate(labels) if g >= 0)
    if total > (least := _least_sum(cost, k)) + 1e-5:
        wrong(f"Your costs add up to {total:.2f}, and a plan of {least:.2f} exists.")


def two_want_one(answer):
    _transport("Two objects want the same anchor", [[0.05, 0.1], [0.25, 0.9], [0.95, 0.97]], [1, 1], answer)


def two_units(answer):
    cost = [[0.1, 0.2, 0.9], [0.2, 0.1, 0.8], [0.3, 0.9, 0.1], [0.7, 0.3, 0.2], [0.9, 0.8, 0.7], [0.5, 0.6, 0.4]]
    _transport("Six anchors and three objects that take 2, 1 and 2", cost, [2, 1, 2], answer)


def three_and_one(answer):
    cost = [[0.1, 0.2], [0.2, 0.9], [0.3, 0.9], [0.9, 0.95]]
    _transport("One object takes three and one takes one", cost, [3, 1], answer)


def none_for_one(answer):
    _transport("An object with k = 0 takes none", [[0.1, 0.5], [0.2, 0.4], [0.3, 0.6]], [0, 2], answer)


def more_than_there_are(answer):
    cost = [[0.5, 0.1], [0.4, 0.3], [0.2, 0.9]]
    _transport("The objects ask for five, and there are three anchors", cost, [3, 2], answer)


def negative_costs(answer):
    _transport("Costs below 0 are costs", [[-0.5, 0.2], [-0.4, -0.6], [0.1, -0.5]], [1, 1], answer)


def many_tables(answer):
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        cost = (torch.rand(6, 3, generator=generator) * 100).round() / 100
        k = torch.randint(0, 3, (3,), generator=generator).tolist()
        _transport("A random table of 6 anchors and 3 objects", cost.tolist(), k, answer)


def no_object_at_all(answer):
    got = answer(torch.zeros(4, 0), torch.zeros(0, dtype=torch.int64))
    compare("No object", {"cost": torch.zeros(4, 0)}, got, torch.full((4,), NEGATIVE))


def _in_turn(cost, k):
    gt = torch.full((len(cost),), NEGATIVE)
    for g, units in enumerate(k.tolist()):
        order = cost[:, g].masked_fill(gt >= 0, float("inf")).argsort(stable=True)
        gt[order[: min(units, int((gt < 0).sum()))]] = g
    return gt


def _cheapest_pair_first(cost, k):
    gt, left = torch.full((len(cost),), NEGATIVE), k.clone()
    for pair in cost.flatten().argsort(stable=True).tolist():
        p, g = divmod(pair, cost.shape[1])
        if gt[p] < 0 and left[g] > 0:
            gt[p], left[g] = g, left[g] - 1
    return gt


def _in_rounds(cost, k):
    """One unit of every object at a time, each round the least sum."""
    gt, left = torch.full((len(cost),), NEGATIVE), k.clone()
    while (left > 0).any() and (gt < 0).any():
        free, own = (gt < 0).nonzero()[:, 0], (left > 0).nonzero()[:, 0]
        rows, columns = linear_sum_assignment(cost[free][:, own].numpy())
        gt[free[rows]] = own[columns]
        left[own[columns]] -= 1
    return gt


def _by_copies(cost, k, maximise=False):
    owner, gt = torch.arange(len(k)).repeat_interleave(k), torch.full((len(cost),), NEGATIVE)
    rows, columns = linear_sum_assignment(cost[:, owner].numpy(), maximize=maximise)
    gt[torch.as_tensor(rows)] = owner[torch.as_tensor(columns)]
    return gt


def _transposed(cost, k):
    owner, gt = torch.arange(len(k)).repeat_interleave(k), torch.full((len(k),), NEGATIVE)
    rows, _ = linear_sum_assignment(cost[:, owner].T.numpy())
    gt[owner[torch.as_tensor(rows)]] = torch.as_tensor(rows)
    return gt


# --- 13.2 -----------------------------------------------------------------------------------------------------------


def _winners(case, cost, chosen, want, answer):
    cost, chosen = torch.tensor(cost), torch.tensor(chosen, dtype=torch.bool)
    compare(case, {"cost": cost, "chosen": chosen}, answer(cost, chosen), torch.tensor(want))


def each_its_own(answer):
    _winners(
        "Each anchor was chosen by its cheapest object", [[0.1, 0.9], [0.8, 0.2]], [[1, 0], [0, 1]], [0, 1], answer
    )


def contested(answer):
    case = "Both objects chose both anchors: the one for which it is cheaper wins, the anchor is not nobody's"
    _winners(case, [[0.5, 0.3], [0.2, 0.4]], [[1, 1], [1, 1]], [1, 0], answer)


def not_asked_for(answer):
    case = "Object 1 never chose anchor 0, for which it would be cheaper"
    _winners(case, [[0.5, 0.3], [0.6, 0.2]], [[1, 0], [0, 1]], [0, 1], answer)


def third_is_cheapest(answer):
    case = "Objects 0 and 1 chose anchor 0, object 2 never chose it"
    _winners(case, [[0.5, 0.4, 0.1], [0.9, 0.9, 0.05]], [[1, 1, 0], [0, 0, 1]], [1, 2], answer)


def nobody_chose(answer):
    _winners("Nobody chose anchor 1", [[0.1, 0.2], [0.01, 0.02]], [[0, 1], [0, 0]], [1, NEGATIVE], answer)


def below_zero(answer):
    _winners("A cost may be below 0", [[-0.5, -0.9, -0.7]], [[1, 0, 1]], [2], answer)


def equal_costs(answer):
    _winners("Equal costs: the lower index", [[0.3, 0.3, 0.3]], [[0, 1, 1]], [1], answer)


def however_dear(answer):
    case = "Object 0 alone chose the anchor and gets it, however dear it is (infeasible pairs cost 100,000)"
    _winners(case, [[100000.5, 0.3]], [[1, 0]], [0], answer)


def _given_with(pick):
    def answer(cost, chosen):
        gt = torch.full((len(cost),), NEGATIVE)
        taken = chosen.any(dim=1)
        gt[taken] = pick(cost, chosen)[taken]
        return gt

    return answer


def _drops_contested(cost, chosen):
    best = cost.masked_fill(~chosen, torch.inf).argmin(dim=1)
    return best.masked_fill(chosen.sum(dim=1) != 1, NEGATIVE)


EXERCISES = (
    Exercise(
        id="13.5",
        kind="P",
        title="What the cut leaves of a heap",
        difficulty=2,
        minutes=5,
        hints=(),
        tests=(the_cut,),
        mutants={
            "the whole heap": ({"nine": 4, "seven": 3, "two": 1}, "less typical"),
            "the whole heap of the second": ({"nine": 3, "seven": 5, "two": 1}, "not at its last"),
            "the best alone": ({"nine": 1, "seven": 1, "two": 1}, "near its middle"),
            "both of two": ({"nine": 3, "seven": 3, "two": 2}, "a heap of its own"),
            "everybody": ({"nine": 9, "seven": 7, "two": 1}, "second heap"),
            "one too few": ({"nine": 2, "seven": 3, "two": 1}, "nearest to that"),
            "one too many": ({"nine": 3, "seven": 4, "two": 1}, "nearest to that"),
        },
    ),
    Exercise(
        id="13.1",
        kind="P",
        title="How many does it get?",
        difficulty=1,
        minutes=4,
        hints=(),
        tests=(how_many,),
        mutants={
            "rounded up": (RIGHT | {"ten times .95": 10}, "9.5"),
            "the ladder rounded": (RIGHT | {LADDER: 5}, "4.5"),
            "boxes counted": (RIGHT | {LADDER: 9}, "not the number"),
            "none for none": (RIGHT | {"ten times 0": 0}, "Never nobody"),
            "none for half": (RIGHT | {"ten times .05": 0}, "Never nobody"),
            "rounded to two": (RIGHT | {".95 .9": 2}, "1.85"),
            "3.5 rounded": (RIGHT | {"ten times .35": 4}, "3.5"),
            "the mean": (RIGHT | {"ten times .95": 1}, "no mean"),
            "ten for ten": (RIGHT | {"ten times .35": 10}, "not the number"),
            "nothing for two": (RIGHT | {".95 .9": 0}, "one anchor at least"),
        },
    ),
    Exercise(
        id="13.4",
        title="Dynamic k",
        difficulty=2,
        minutes=8,
        hints=(
            "Everything happens within a column, so along dim=0.",
            "sort(dim=0, descending=True).values[:q] holds the q largest of every column, or all if there are fewer.",
            "sum(dim=0), then .long() cuts a positive number down, then clamp(min=1).",
        ),
        tests=(
            two_objects,
            cut_down,
            at_least_one,
            only_q,
            the_largest,
            fewer_than_q,
            no_candidates,
            no_objects,
        ),
        mutants={
            "rounded": (_wrong_k(down=lambda x: x.round().long()), "cut down"),
            "rounded up": (_wrong_k(down=lambda x: x.ceil().long()), "cut down"),
            "sum of all": (_wrong_k(take=lambda ious, q: ious), "q largest"),
            "the first q": (_wrong_k(take=lambda ious, q: ious[:q]), "wherever they are"),
            "no floor of one": (_wrong_k(least=0), "untrained"),
            "along the rows": (lambda ious, q=10: ious.sum(dim=1).long().clamp(min=1), "Two objects"),
            "above n": (_wrong_k(take=lambda ious, q: ious.topk(q, dim=0).values), "out of range"),
            "one number for all": (
                lambda ious, q=10: ious.sum(dim=0).long().clamp(min=1).amax().expand(ious.shape[1]),
                "one per column",
            ),
        },
    ),
    Exercise(
        id="13.3",
        title="Transport is matching with copies",
        difficulty=4,
        minutes=15,
        hints=(
            "A one-to-one matching gives a column one row. What if an object had as many columns as it has units?",
            "torch.arange(len(k)).repeat_interleave(k) names the object of every copied column, and "
            "cost[:, owner] is the table with the copies.",
            "rows, columns = linear_sum_assignment(cost[:, owner].numpy()) needs no square table. "
            "The anchors `rows` belong to owner[columns], all others are NEGATIVE.",
        ),
        tests=(
            two_want_one,
            two_units,
            three_and_one,
            none_for_one,
            more_than_there_are,
            negative_costs,
            many_tables,
            no_object_at_all,
        ),
        mutants={
            "object by object": (_in_turn, "a plan of 0.35 exists"),
            "cheapest pair first": (_cheapest_pair_first, "a plan of 0.35 exists"),
            "rounds of one": (_in_rounds, "a plan of"),
            "one unit each": (lambda cost, k: _by_copies(cost, k.clamp(max=1)), "are to be taken"),
            "the dearest plan": (lambda cost, k: _by_copies(cost, k, maximise=True), "a plan of"),
            "each anchor its cheapest": (lambda cost, k: cost.argmin(dim=1), "are to be taken"),
            "at least one each": (lambda cost, k: _by_copies(cost, k.clamp(min=1)), "k = 0"),
            "transposed": (_transposed, "shape"),
        },
    ),
    Exercise(
        id="13.2",
        kind="B",
        title="A gift nobody asked for",
        difficulty=3,
        minutes=8,
        hints=(
            'Print chosen and cost for the failing case: `their_winners(**course.case("13.2"))`.',
            "Which columns does argmin compare in a row? Which should it compare?",
            "Make a column that did not choose the anchor infinitely expensive before argmin looks.",
        ),
        tests=(
            each_its_own,
            contested,
            not_asked_for,
            third_is_cheapest,
            nobody_chose,
            below_zero,
            equal_costs,
            however_dear,
        ),
        mutants={
            "given": (GIVEN, "Object 1 never chose"),
            "drops contested": (_given_with(_drops_contested), "nobody's"),
            "first chooser": (_given_with(lambda cost, chosen: chosen.int().argmax(dim=1)), "cheaper wins"),
            "the given where contested": (
                _given_with(
                    lambda cost, chosen: torch.where(
                        chosen.sum(dim=1) > 1, cost.argmin(dim=1), cost.masked_fill(~chosen, torch.inf).argmin(dim=1)
                    )
                ),
                "object 2 never chose",
            ),
            "unchosen to the first": (
                lambda cost, chosen: cost.masked_fill(~chosen, torch.inf).argmin(dim=1),
                "Nobody chose",
            ),
            "a large number in place of infinity": (
                _given_with(lambda cost, chosen: torch.where(chosen, cost, 100.0).argmin(dim=1)),
                "however dear",
            ),
        },
    ),
)
