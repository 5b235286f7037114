"""The exercises of chapter 09: the nearest of a level, twice the input, ATSS, values of candidates, 6 px, say why."""

from functools import cache

import torch

from labelkit import NEGATIVE, Assignment, Priors, plot
from labelkit.assigners import ATSS, FCOS, MaxIoU, TopK
from labelkit.boxes import centers, encode_ltrb
from labelkit.similarity import iou
from labelkit_course import GIVEN, Exercise, compare, expect, factor
from labelkit_course.exercises.crowns import crowns

# --- 09.1 -----------------------------------------------------------------------------------------------------------


def _nearest(case, points, center, k, answer):
    def distance(index):
        return sum((a - b) ** 2 for a, b in zip(points[index], center, strict=True))

    want = torch.tensor(sorted(range(len(points)), key=distance)[:k], dtype=torch.int64)
    points, center = torch.tensor(points).reshape(-1, 2), torch.tensor(center)
    got = answer(points, center, k)
    inputs = {"points": points, "center": center, "k": k}
    compare(case, inputs, got, want, draw=lambda: _chosen_points(points, center, got, want))


def _chosen_points(points, center, got, want):
    figure, axes = plot.figure(2)
    edge = int(points.max()) + 4
    for ax, chosen, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        plot.scene(ax, (edge, edge), title=title)
        plot.points(ax, points, "negative")
        plot.points(ax, points[chosen], "positive")
        plot.points(ax, center, "gt")
    plot.legend(axes[0], gt="the centre", positive="chosen", negative="others")
    return figure


GRID = [[4.0 + 8 * (i % 4), 4.0 + 8 * (i // 4)] for i in range(12)]


def one_nearest(answer):
    _nearest("Twelve points, and the nearest one is asked for", GRID, [13.0, 11.0], 1, answer)


def three_in_order(answer):
    _nearest(
        "Twelve points, and the three nearest are asked for, in order of their distance", GRID, [18.5, 14.0], 3, answer
    )


def straight_or_diagonal(answer):
    case = "One point is off along both axes, another along one: distance is measured in a straight line"
    for right in (15.5, 15.8):
        _nearest(case, [[14.0, 14.0], [right, 10.0], [10.0, 30.0]], [10.0, 10.0], 1, answer)


def corner_of_four_cells(answer):
    _nearest(
        "The centre is where four cells meet: among equal distances the lower index comes first",
        GRID,
        [16.0, 16.0],
        3,
        answer,
    )


def many_equals(answer):
    _nearest(
        "Twenty points have the same distance: the lower index comes first",
        [[5.0, 9.0], [5.0, 1.0]] * 10,
        [5.0, 5.0],
        4,
        answer,
    )


def a_level_too_small(answer):
    _nearest(
        "The level has two points and k is 9: both are returned", [[16.0, 16.0], [48.0, 16.0]], [40.0, 20.0], 9, answer
    )


def _distances(points, center):
    return (points - center).square().sum(dim=1)


# --- 09.3 -----------------------------------------------------------------------------------------------------------


def _priors():
    return Priors.anchors((48, 48), (8, 16), ((16,), (32,)))


def _atss(case, boxes, k, answer, priors=None):
    priors = _priors() if priors is None else priors
    boxes = torch.tensor(boxes).reshape(-1, 4)
    got, want = answer(priors, boxes, k), ATSS(k=k)(priors, {"boxes": boxes}).gt
    compare(case, {"priors": priors, "gt_boxes": boxes, "k": k}, got, want, draw=lambda: _two(priors, boxes, got, want))


def _two(priors, boxes, got, want):
    """The two answers side by side; a label that is none is drawn as background."""
    figure, axes = plot.figure(2)
    for ax, gt, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        gt, zeros = torch.where(gt < len(boxes), gt, NEGATIVE), torch.zeros(len(gt))
        plot.scene(ax, (48, 48), boxes, title=title)
        plot.assignment(ax, priors, Assignment(gt, zeros, zeros, zeros), boxes)
    plot.legend(axes[0], "gt", "positive", "negative")
    return figure


def one_object(answer):
    _atss(
        "One object on two levels, k = 9: candidates pass at mean + deviation or more",
        [[17.5, 16.5, 38.0, 33.0]],
        9,
        answer,
    )


def zeros_count(answer):
    _atss(
        "One small object on two levels, k = 9: candidates with IoU 0 count in mean and deviation",
        [[27.0, 3.5, 38.5, 14.5]],
        9,
        answer,
    )


def k_on_each_level(answer):
    _atss(
        "A wide object on two levels: k candidates are taken on each level, not k in all",
        [[10.5, 16.0, 44.5, 30.0]],
        9,
        answer,
    )


def candidates_by_centre(answer):
    _atss(
        "A tall object at the edge, k = 3: candidates are the nearest centres, whatever their IoU",
        [[32.0, 0.0, 39.5, 26.5]],
        3,
        answer,
    )


def unbiased(answer):
    _atss(
        "A candidate would reach a cut with n, but the deviation divides by n - 1",
        [[25.5, 19.5, 46.5, 38.0]],
        9,
        answer,
    )


def a_centre_outside(answer):
    _atss("A flat object: a candidate whose centre is outside it is left out", [[0.5, 11.5, 29.0, 15.5]], 9, answer)


def a_centre_on_the_edge(answer):
    _atss("A centre is exactly on the side of the object, which is not inside", [[20.0, 12.5, 31.0, 23.5]], 9, answer)


def a_centre_in_the_sliver(answer):
    _atss(
        "A centre is 0.005 px from the side of the object, which does not count as inside",
        [[3.995, 18.0, 11.995, 28.5]],
        9,
        answer,
    )


def neighbours(answer):
    boxes = [[4.5, 3.5, 26.0, 21.0], [4.0, 2.0, 17.0, 16.0]]
    _atss("Two objects choose the same anchors: the higher IoU wins", boxes, 9, answer)


def neighbours_swapped(answer):
    boxes = [[4.0, 2.0, 17.0, 16.0], [4.5, 3.5, 26.0, 21.0]]
    _atss("Two objects choose the same anchors, and the first has the lower IoU with some of them", boxes, 9, answer)


def the_nearer_has_less(answer):
    case = "Two objects choose the same anchor: one has the nearer centre, the other the higher IoU, and that one wins"
    _atss(case, [[8.0, 8.0, 16.0, 16.0], [5.0, 5.0, 23.0, 23.0]], 9, answer)


def small_beside_large(answer):
    case = "A small object beside a large one: each has a cut of its own"
    _atss(case, [[2.0, 2.0, 10.0, 11.0], [14.0, 12.0, 46.0, 45.0]], 9, answer)


def twins(answer):
    boxes = [[17.5, 16.5, 38.0, 33.0], [17.5, 16.5, 38.0, 33.0]]
    _atss("The same box is given twice: the lower index wins", boxes, 9, answer)


def one_single_candidate(answer):
    priors = Priors.from_boxes(torch.tensor([[8.0, 8, 24, 24]]))
    _atss(
        "The pyramid has a single anchor, and the deviation of one candidate is 0",
        [[9.0, 10.0, 25.0, 27.0]],
        9,
        answer,
        priors,
    )


def one_level(answer):
    priors = Priors.anchors((48, 48), (8,), ((16,),))
    _atss(
        "Two objects on a pyramid of one level", [[9.5, 12.0, 27.0, 30.5], [24.0, 20.5, 47.0, 41.0]], 9, answer, priors
    )


def four_levels(answer):
    priors = Priors.anchors((48, 48), (4, 8, 16, 32), ((8,), (16,), (32,), (64,)))
    boxes = [[2.5, 1.0, 46.0, 47.5], [8.0, 9.5, 19.5, 20.0], [26.0, 6.5, 44.0, 24.5]]
    for k in (1, 3, 9):
        _atss(f"Three objects on a pyramid of four levels, k = {k}", boxes, k, answer, priors)


def equal_ious(answer):
    priors = Priors.from_boxes(torch.tensor([[8.0, 8, 40, 40]]).repeat(27, 1))
    case = "All candidates have the same IoU, which is their mean: all of them reach the cut, in 64 bits"
    for i in range(12):
        box = [10.3, 10.3, 26.1 + i, 26.1 + i]
        _atss(case, [box], 27, answer, priors)


def no_objects(answer):
    _atss("An image has no object: all anchors are negative", [], 9, answer)


def _cut(value, _):
    return value.mean() + (value.std() if len(value) > 1 else 0.0)


def _wrong_atss(
    per_level=True, inside=0.01, compete="chosen", by="distance", bits=torch.float64, levels=slice(None), cut=_cut
):
    """ATSS with one thing changed. `cut` is given an object's candidate IoUs, and those of all objects."""

    def candidates(priors, box, k):
        distance = (priors.centers - centers(box)).square().sum(dim=1)
        order = distance if by == "distance" else -iou(priors.boxes, box)
        groups = [(priors.levels == level).nonzero()[:, 0] for level in priors.levels.unique()[levels]]
        groups = groups if per_level else [torch.arange(len(priors))]
        return torch.cat([own[order[own].argsort(stable=True)[:k]] for own in groups])

    def answer(priors, gt_boxes, k=9):
        gt = torch.full((len(priors),), NEGATIVE)
        best = torch.full((len(priors),), -1.0, dtype=bits)
        near = [candidates(priors, box, k) for box in gt_boxes]
        values = [iou(priors.boxes[own], box).to(bits) for own, box in zip(near, gt_boxes, strict=True)]
        for g, (box, own, value) in enumerate(zip(gt_boxes, near, values, strict=True)):
            keep = value >= cut(value, torch.cat(values)) - 1e-12
            keep &= encode_ltrb(box, priors.centers[own]).amin(dim=1) > inside
            if compete == "nearest":
                value = 1 / (1 + (priors.centers[own] - centers(box)).square().sum(dim=1).to(bits))
            if compete in ("chosen", "nearest"):
                keep &= value > best[own]
            elif compete == "first":
                keep &= gt[own] == NEGATIVE
            gt[own[keep]], best[own[keep]] = g, value[keep]
        return gt

    return answer


# --- 09.5 -----------------------------------------------------------------------------------------------------------

RULES = {
    "threshold": MaxIoU(allow_low_quality_matches=False),
    "TopK": TopK(k=9),
    "ATSS": ATSS(),
    "FCOS": FCOS(),
}


@cache
def _positives_per_crown(scale):
    """For each rule, on the tiles and their crowns `scale` times as large; strides and anchors stay in pixels."""
    size = (128 * scale, 128 * scale)
    anchors = Priors.anchors(size, strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
    points = Priors.points(size, strides=(4, 8, 16))
    targets = [{"boxes": scale * tile["boxes"]} for tile in crowns()]
    counts = {}
    for name, rule in RULES.items():
        positives = rule(points if name == "FCOS" else anchors, targets).positive.sum().item()
        counts[name] = positives / sum(len(target["boxes"]) for target in targets)
    return counts


def twice_the_input(guess):
    before, truth = _positives_per_crown(1), _positives_per_crown(2)
    clues = (
        (lambda got: got["TopK"] > 9.01, "In TopK k is a number, not a density: an object chooses k anchors at most."),
        (
            lambda got: got["TopK"] < 0.9 * before["TopK"],
            "In TopK a larger object still chooses k anchors, and it loses fewer of them to its neighbours.",
        ),
        (
            lambda got: got["FCOS"] < 1.5 * before["FCOS"],
            "The points stay as far apart as they are, so the points inside grow with the area of a crown.",
        ),
        (
            lambda got: got["FCOS"] < 2.2 * before["FCOS"],
            "If both sides of a crown double, its area does more than double, and points fill an area.",
        ),
        (
            lambda got: got["FCOS"] > 3.7 * before["FCOS"],
            "The area is four times as large. But a farthest side of more than 32 px belongs to the next level of "
            "FCOS, on which points are twice as far apart.",
        ),
        (
            lambda got: got["ATSS"] > 1.5 * before["ATSS"],
            "ATSS has 27 candidates for an object of any size, and only those that stand out among them pass.",
        ),
        (
            lambda got: got["ATSS"] < 0.7 * before["ATSS"],
            "In ATSS a larger object loses no candidates: it has 27, as before, and more of their centres are inside.",
        ),
        (
            lambda got: got["threshold"] < 1.15 * before["threshold"],
            "Many crowns had no positive under the threshold because no anchor is smaller than 16 px. They have grown.",
        ),
        (
            lambda got: got["threshold"] > 1.9 * before["threshold"],
            "An anchor reaches IoU 0.5 only with crowns of about its own size. Larger crowns are served by larger "
            "anchors, which are farther apart.",
        ),
    )
    expect(guess, truth, within=factor(1.25), clues=clues)


# --- 09.6 -----------------------------------------------------------------------------------------------------------


def _values(case, table, candidates, answer):
    want = torch.stack([table[candidates[:, g], g] for g in range(table.shape[1])], dim=1) if table.shape[1] else table
    want = want[: len(candidates)]
    compare(case, {"table": table, "candidates": candidates}, answer(table, candidates), want)


TABLE = torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8, 0.9], [0.05, 0.15, 0.25, 0.35, 0.45]])
TABLE = torch.cat([TABLE, TABLE + 0.01, TABLE + 0.02])  # nine anchors, five objects


def a_single_object(answer):
    _values("One object and three candidates", TABLE[:, :1], torch.tensor([[4], [0], [7]]), answer)


def two_at_once(answer):
    _values("Two objects, each with three candidates", TABLE[:, :2], torch.tensor([[4, 1], [0, 8], [7, 3]]), answer)


def five_at_once(answer):
    chosen = torch.tensor([[8, 0, 4, 2, 7], [1, 5, 3, 6, 0]])
    _values("Five objects, each with two candidates", TABLE, chosen, answer)


def as_many_of_each(answer):
    chosen = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 2, 0]])
    _values("Three anchors, three objects and three candidates", TABLE[:3, :3], chosen, answer)


def the_same_anchor(answer):
    _values("Two objects have the same candidate", TABLE[:, :2], torch.tensor([[4, 4]]), answer)


def a_transposed_table(answer):
    _values("The table was transposed, so its rows are not contiguous in memory", TABLE[:5].T, TABLE.new_zeros(
        2, 5, dtype=torch.int64) + torch.tensor([[3], [1]]), answer)  # fmt: skip


def nobody_to_look_up(answer):
    _values("An image has no object", torch.zeros(9, 0), torch.zeros(3, 0, dtype=torch.int64), answer)


def _given_values(table, candidates):
    columns = torch.arange(table.shape[1]) * len(table)
    return table.flatten()[candidates + columns]


def _all_but_the_last(table, candidates):
    values = torch.zeros(candidates.shape)
    for g in range(max(table.shape[1] - 1, 1) if table.shape[1] else 0):
        values[:, g] = table[candidates[:, g], g]
    return values


# --- 09.7 -----------------------------------------------------------------------------------------------------------


@cache
def _share_without():
    """Of 6 px squares at many places, in percent, those without a positive."""
    steps = 48.25 + torch.arange(0, 16, 0.5)
    corners = torch.cartesian_prod(steps, steps)
    targets = [{"boxes": box[None]} for box in torch.cat([corners, corners + 6], dim=1)]
    anchors = Priors.anchors((128, 128), strides=(8, 16, 32), sizes=((32,), (64,), (128,)))
    points = Priors.points((128, 128), strides=(8, 16, 32))
    answers = {"ATSS": ATSS()(anchors, targets), "FCOS": FCOS()(points, targets)}
    return {name: 100 * (~answer.positive.any(dim=1)).float().mean().item() for name, answer in answers.items()}


def six_pixels(guess):
    truth = _share_without()
    clues = (
        (lambda got: max(got.values()) <= 1 < 100 * max(got.values()), "The shares are percentages, from 0 to 100."),
        (
            {"ATSS": lambda share: share < 6},
            "An object that adapts its cut still needs a candidate whose centre is inside. What if there is none?",
        ),
        ({"FCOS": lambda share: share < 6}, "Points of stride 8 are 8 px apart. What if none is inside the object?"),
        (lambda got: max(got.values()) > 90, "A 6 px square contains a point of stride 8 at some of its places."),
        (
            lambda got: abs(got["ATSS"] - got["FCOS"]) > 8,
            "The cut adapts to the object, but it cannot bring a centre inside. Which test have both rules?",
        ),
        (
            lambda got: abs(got["FCOS"] - 25) <= 6,
            "Along one axis a square misses all points at a quarter of its places. A point is inside along both.",
        ),
        (lambda got: abs(got["FCOS"] - 56) <= 6, "You may have counted the squares that do contain a point."),
    )
    expect(guess, truth, within=6, clues=clues)


# --- 09.4 -----------------------------------------------------------------------------------------------------------


def _reason(case, ious, cut, inside, wins, want, answer):
    ious, inside, wins = torch.tensor(ious), torch.tensor(inside), torch.tensor(wins)
    inputs = {"ious": ious, "cut": cut, "inside": inside, "wins": wins}
    compare(case, inputs, answer(ious, cut, inside, wins), want)


def all_below(answer):
    _reason("Two candidates, both below the cut", [0.2, 0.3], 0.35, [True, True], [True, True], "cut", answer)


def exactly_the_cut(answer):
    both = [True, True]
    _reason("A candidate with exactly the IoU of the cut reaches it", [0.25, 0.5], 0.5, both, both, "positive", answer)


def beside_the_object(answer):
    case = "The only candidate that reaches the cut is not inside"
    _reason(case, [0.5, 0.1], 0.25, [False, True], [True, True], "centre", answer)


def all_lost(answer):
    case = "Two candidates pass the cut and the centre test, and the object loses both"
    _reason(case, [0.5, 0.6, 0.1], 0.25, [True, True, True], [False, False, True], "conflict", answer)


def not_the_same_candidate(answer):
    case = "One candidate is inside, and another one would be won"
    _reason(case, [0.5, 0.6], 0.25, [True, False], [False, True], "conflict", answer)


def one_of_many(answer):
    case = "One candidate of three passes all steps"
    _reason(case, [0.5, 0.6, 0.4], 0.25, [False, True, True], [True, False, True], "positive", answer)


def no_candidates(answer):
    none = torch.zeros(0, dtype=torch.bool)
    got = answer(torch.zeros(0), 0.5, none, none)
    compare(
        "The object has no candidate at all",
        {"ious": torch.zeros(0), "cut": 0.5, "inside": none, "wins": none},
        got,
        "cut",
    )


def _steps(*steps):
    """A diagnosis from (name, mask of what is left) pairs."""
    return next((name for name, left in steps if not left.any()), "positive")


EXERCISES = (
    Exercise(
        id="09.1",
        title="The nearest of one level",
        difficulty=1,
        minutes=6,
        hints=(
            "Squared distances sort like distances, and need no root.",
            "(points - center).square().sum(dim=1) holds all of them. argsort gives indices in order.",
            "argsort(stable=True) keeps the lower index first among equals, and [:k] of a shorter list is the list.",
        ),
        tests=(one_nearest, three_in_order, straight_or_diagonal, corner_of_four_cells, many_equals, a_level_too_small),
        mutants={
            "farthest": (
                lambda p, c, k: _distances(p, c).argsort(descending=True, stable=True)[:k],
                "the nearest one",
            ),
            "sum of the offsets": (
                lambda p, c, k: (p - c).sum(dim=1).abs().argsort(stable=True)[:k],
                "the nearest one",
            ),
            "city blocks": (lambda p, c, k: (p - c).abs().sum(dim=1).argsort(stable=True)[:k], "straight line"),
            "the larger offset": (
                lambda p, c, k: (p - c).abs().amax(dim=1).argsort(stable=True)[:k],
                "straight line",
            ),
            "sorted by index": (
                lambda p, c, k: _distances(p, c).argsort(stable=True)[:k].sort().values,
                "three nearest",
            ),
            "last of equals": (
                lambda p, c, k: len(p) - 1 - _distances(p, c).flip(0).argsort(stable=True)[:k],
                "four cells meet",
            ),
            "k too large": (
                lambda p, c, k: (
                    _distances(p, c).topk(k, largest=False, sorted=True).indices
                    if k > len(p)
                    else _distances(p, c).argsort(stable=True)[:k]
                ),
                "out of range",
            ),
        },
    ),
    Exercise(
        id="09.5",
        kind="P",
        title="Twice the input",
        difficulty=2,
        minutes=5,
        hints=(),
        tests=(twice_the_input,),
        mutants={
            "all four times": (
                {"threshold": 8.0, "TopK": 34.0, "ATSS": 18.0, "FCOS": 50.4},
                "not a density",
            ),
            "TopK twice": ({"threshold": 3.0, "TopK": 17.0, "ATSS": 4.5, "FCOS": 36.0}, "not a density"),
            "TopK halved": ({"threshold": 3.0, "TopK": 4.3, "ATSS": 4.5, "FCOS": 36.0}, "still chooses k"),
            "nothing changes": ({"threshold": 2.0, "TopK": 8.5, "ATSS": 4.5, "FCOS": 12.6}, "inside grow"),
            "points twice": ({"threshold": 3.0, "TopK": 9.0, "ATSS": 4.5, "FCOS": 25.2}, "more than double"),
            "points four times": ({"threshold": 3.0, "TopK": 9.0, "ATSS": 4.5, "FCOS": 50.4}, "next level"),
            "ATSS twice": ({"threshold": 3.0, "TopK": 9.0, "ATSS": 9.0, "FCOS": 36.0}, "27 candidates"),
            "ATSS halved": ({"threshold": 3.0, "TopK": 9.0, "ATSS": 2.2, "FCOS": 36.0}, "loses no candidates"),
            "threshold the same": ({"threshold": 2.0, "TopK": 9.0, "ATSS": 4.5, "FCOS": 36.0}, "They have grown"),
            "threshold twice": ({"threshold": 4.0, "TopK": 9.0, "ATSS": 4.5, "FCOS": 36.0}, "farther apart"),
        },
    ),
    Exercise(
        id="09.3",
        title="ATSS",
        difficulty=4,
        minutes=20,
        provides="atss",
        hints=(
            "A loop over the objects. Keep two tensors for all anchors: whose it is (NEGATIVE at first), and with what "
            "IoU (-1 at first).",
            "Candidates: for each level, own = (priors.levels == level).nonzero()[:, 0] are its anchors, and "
            "own[distance[own].argsort(stable=True)[:k]] the nearest of them. torch.cat puts the levels together.",
            "value = iou(priors.boxes[near], box).double(). Keep where value >= value.mean() + deviation - 1e-12, "
            "encode_ltrb(box, priors.centers[near]).amin(dim=1) > 0.01, value > best[near]. Write g and value there.",
        ),
        tests=(
            one_object,
            k_on_each_level,
            candidates_by_centre,
            zeros_count,
            unbiased,
            a_centre_outside,
            a_centre_on_the_edge,
            a_centre_in_the_sliver,
            neighbours,
            neighbours_swapped,
            small_beside_large,
            the_nearer_has_less,
            twins,
            one_level,
            four_levels,
            equal_ious,
            one_single_candidate,
            no_objects,
        ),
        mutants={
            "k over all levels": (_wrong_atss(per_level=False), "on each level"),
            "three levels written out": (_wrong_atss(levels=slice(3)), "of four levels"),
            "two levels written out": (_wrong_atss(levels=slice(2)), "of four levels"),
            "the first level left out, if others are": (_wrong_atss(levels=slice(-2, None)), "of four levels"),
            "candidates by IoU": (_wrong_atss(by="iou"), "nearest centres"),
            "divided by n": (_wrong_atss(cut=lambda v, _: v.mean() + v.std(correction=0)), "divides by n - 1"),
            "variance": (_wrong_atss(cut=lambda v, _: v.mean() + v.var()), "at mean + deviation"),
            "mean alone": (_wrong_atss(cut=lambda v, _: v.mean()), "at mean + deviation"),
            "a quantile": (_wrong_atss(cut=lambda v, _: v.quantile(0.84)), "at mean + deviation"),
            "zeros left out": (_wrong_atss(cut=lambda v, _: _cut(v[v > 0], _)), "IoU 0 count"),
            "one cut for all": (_wrong_atss(cut=lambda _, everybody: _cut(everybody, _)), "a cut of its own"),
            "no centre test": (_wrong_atss(inside=-1e9), "centre is outside"),
            "the edge is inside": (_wrong_atss(inside=-1e-9), "is not inside"),
            "a sliver is inside": (_wrong_atss(inside=1e-9), "0.005 px"),
            "the last object overwrites": (_wrong_atss(compete="nobody"), "the higher IoU wins"),
            "the nearest object wins": (_wrong_atss(compete="nearest"), "the higher IoU, and that one wins"),
            "the first object keeps": (_wrong_atss(compete="first"), "the first has the lower IoU"),
            "not a number for one": (_wrong_atss(cut=lambda v, _: v.mean() + v.std()), "a single anchor"),
            "in 32 bits": (_wrong_atss(bits=torch.float32), "the same IoU"),
        },
    ),
    Exercise(
        id="09.6",
        kind="B",
        title="Right with one object",
        difficulty=3,
        minutes=8,
        hints=(
            "Write down a table of three rows and two columns, flatten it by hand, and see where row 1, column 0 went.",
            "flatten() puts one row after the other. How many places further is the next row, and how many the next "
            "column?",
            "The value of row p and column g is at place p * G + g of the flattened table. gather does the whole "
            "look-up: it takes, in each column, the rows that an index names.",
        ),
        tests=(
            a_single_object,
            two_at_once,
            five_at_once,
            as_many_of_each,
            the_same_anchor,
            a_transposed_table,
            nobody_to_look_up,
        ),
        mutants={
            "given": (GIVEN, "Two objects"),
            "transposed without a copy": (
                lambda t, c: t.T.view(-1)[c + torch.arange(t.shape[1]) * len(t)],
                "view size",
            ),
            "along the rows": (lambda t, c: t.gather(1, c), "index"),
            "by the candidates' number": (
                lambda t, c: t.flatten()[c * len(c) + torch.arange(t.shape[1])],
                "out of bounds",
            ),
            "each column for all": (lambda t, c: t[c, 0], "Two objects"),
            "the last object is forgotten": (_all_but_the_last, "Two objects"),
            "fails without objects": (
                lambda t, c: torch.stack([t[c[:, g], g] for g in range(t.shape[1])], dim=1),
                "non-empty TensorList",
            ),
        },
    ),
    Exercise(
        id="09.7",
        kind="P",
        title="Does it adapt at 6 px?",
        difficulty=2,
        minutes=4,
        hints=(),
        tests=(six_pixels,),
        mutants={
            "nobody": ({"ATSS": 0, "FCOS": 44}, "What if there is none"),
            "no point is missed": ({"ATSS": 44, "FCOS": 0}, "none is inside the object"),
            "everybody": ({"ATSS": 100, "FCOS": 100}, "at some of its places"),
            "ATSS adapts": ({"ATSS": 20, "FCOS": 44}, "cannot bring a centre inside"),
            "one axis": ({"ATSS": 25, "FCOS": 25}, "along both"),
            "those with a point": ({"ATSS": 56, "FCOS": 56}, "that do contain"),
            "fractions": ({"ATSS": 0.44, "FCOS": 0.44}, "percentages"),
        },
    ),
    Exercise(
        id="09.4",
        title="Say why",
        difficulty=2,
        minutes=8,
        hints=(
            "Go step by step, and remember which candidates are left. The first step that leaves none is the cause.",
            "left = ious >= cut. If not left.any(), it was the cut. Then left = left & inside, and so on.",
            'The third step is left & wins. If something is left after all three, return "positive".',
        ),
        tests=(
            all_below,
            exactly_the_cut,
            beside_the_object,
            all_lost,
            not_the_same_candidate,
            one_of_many,
            no_candidates,
        ),
        mutants={
            "above instead of at least": (
                lambda v, t, i, w: _steps(("cut", v > t), ("centre", (v > t) & i), ("conflict", (v > t) & i & w)),
                "exactly the IoU",
            ),
            "each step on its own": (
                lambda v, t, i, w: _steps(("cut", v >= t), ("centre", i), ("conflict", w)),
                "is not inside",
            ),
            "the last step forgets the second": (
                lambda v, t, i, w: _steps(("cut", v >= t), ("centre", (v >= t) & i), ("conflict", (v >= t) & w)),
                "another one would",
            ),
            "all instead of any": (
                lambda v, t, i, w: (
                    "cut"
                    if not (v >= t).all() or not len(v)
                    else "centre"
                    if not i.all()
                    else "conflict"
                    if not w.all()
                    else "positive"
                ),
                "exactly the IoU",
            ),
            "conflict before centre": (
                lambda v, t, i, w: _steps(("cut", v >= t), ("conflict", (v >= t) & w), ("centre", (v >= t) & i & w)),
                "another one would",
            ),
        },
    ),
)
