"""The exercises of chapter 09: the nearest of a level, mean plus deviation, ATSS, why an object got nothing."""

import torch

from labelkit import NEGATIVE, Assignment, Priors, plot
from labelkit.assigners import ATSS
from labelkit.boxes import centers, encode_ltrb
from labelkit.similarity import iou
from labelkit_course import Exercise, compare

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
    _nearest("The nearest of twelve points", GRID, [13.0, 11.0], 1, answer)


def three_in_order(answer):
    _nearest("The three nearest, the nearest first", GRID, [18.5, 14.0], 3, answer)


def straight_or_diagonal(answer):
    case = "The distance is the straight line: sqrt(x * x + y * y)"
    for right in (15.5, 15.8):
        _nearest(case, [[14.0, 14.0], [right, 10.0], [10.0, 30.0]], [10.0, 10.0], 1, answer)


def corner_of_four_cells(answer):
    _nearest("A corner where four cells meet: equal distances, the lower index first", GRID, [16.0, 16.0], 3, answer)


def many_equals(answer):
    _nearest("Twenty points at one distance", [[5.0, 9.0], [5.0, 1.0]] * 10, [5.0, 5.0], 4, answer)


def a_level_too_small(answer):
    _nearest("A level with fewer points than k", [[16.0, 16.0], [48.0, 16.0]], [40.0, 20.0], 9, answer)


def _distances(points, center):
    return (points - center).square().sum(dim=1)


# --- 09.2 -----------------------------------------------------------------------------------------------------------


def _cut(case, values, answer):
    values = torch.tensor(values)
    deviation = values.std(dim=0) if len(values) > 1 else torch.zeros(values.shape[1])
    compare(case, {"values": values}, answer(values), values.mean(dim=0) + deviation)


def four_candidates(answer):
    _cut("Four candidates of one object", [[0.1], [0.1], [0.1], [0.5]], answer)


def two_objects(answer):
    _cut("Three candidates of two objects: a cut for each", [[0.1, 0.6], [0.3, 0.6], [0.2, 0.0]], answer)


def zeros_count(answer):
    _cut("Candidates with IoU 0 count as well", [[0.0], [0.0], [0.4], [0.2]], answer)


def equal_candidates(answer):
    _cut("Equal candidates: no deviation", [[0.25], [0.25], [0.25]], answer)


def one_candidate(answer):
    _cut("A single candidate: its own IoU", [[0.4, 0.1]], answer)


def nothing_to_cut(answer):
    values = torch.zeros(9, 0)
    compare("No object", {"values": values}, answer(values), torch.zeros(0))


def _wrong_cut(spread, mean=lambda v: v.mean(dim=0)):
    """Mean + spread, where a single candidate is taken care of."""
    return lambda v: mean(v) + (spread(v) if len(v) > 1 else torch.zeros(v.shape[1]))


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
    _atss("One object of 20 by 16 px, k = 9", [[17.5, 16.5, 38.0, 33.0]], 9, answer)


def k_on_each_level(answer):
    _atss("k candidates on each level, not in all", [[8.5, 26.5, 35.0, 38.5]], 9, answer)


def candidates_by_centre(answer):
    _atss("Candidates are the nearest centres, k = 3", [[32.0, 0.0, 39.5, 26.5]], 3, answer)


def unbiased(answer):
    _atss("The deviation divides by n - 1", [[25.5, 19.5, 46.5, 38.0]], 9, answer)


def a_centre_outside(answer):
    _atss("A candidate whose centre lies outside the object is left out", [[0.5, 11.5, 29.0, 15.5]], 9, answer)


def a_centre_on_the_edge(answer):
    _atss("A centre exactly on the edge is not inside", [[20.0, 12.5, 31.0, 23.5]], 9, answer)


def a_centre_in_the_sliver(answer):
    _atss("A centre 0.005 px from the edge is not inside", [[3.995, 18.0, 11.995, 28.5]], 9, answer)


def neighbours(answer):
    boxes = [[4.5, 3.5, 26.0, 21.0], [4.0, 2.0, 17.0, 16.0]]
    _atss("Two objects want the same anchors: the higher IoU wins", boxes, 9, answer)


def twins(answer):
    boxes = [[17.5, 16.5, 38.0, 33.0], [17.5, 16.5, 38.0, 33.0]]
    _atss("The same box twice: the lower index", boxes, 9, answer)


def one_single_candidate(answer):
    priors = Priors.from_boxes(torch.tensor([[8.0, 8, 24, 24]]))
    _atss("One level with one anchor", [[9.0, 10.0, 25.0, 27.0]], 9, answer, priors)


def one_level(answer):
    priors = Priors.anchors((48, 48), (8,), ((16,),))
    _atss("A pyramid of one level", [[9.5, 12.0, 27.0, 30.5], [24.0, 20.5, 47.0, 41.0]], 9, answer, priors)


def four_levels(answer):
    priors = Priors.anchors((48, 48), (4, 8, 16, 32), ((8,), (16,), (32,), (64,)))
    boxes = [[2.5, 1.0, 46.0, 47.5], [8.0, 9.5, 19.5, 20.0], [26.0, 6.5, 44.0, 24.5]]
    for k in (1, 3, 9):
        _atss(f"A pyramid of four levels, k = {k}", boxes, k, answer, priors)


def equal_ious(answer):
    priors = Priors.from_boxes(torch.tensor([[8.0, 8, 40, 40]]).repeat(27, 1))
    for i in range(12):
        box = [10.3, 10.3, 26.1 + i, 26.1 + i]
        _atss("All candidates have the same IoU: all reach the cut, in 64 bits", [box], 27, answer, priors)


def no_objects(answer):
    _atss("An image without objects: all anchors are negative", [], 9, answer)


def _wrong_atss(
    per_level=True,
    correction=1,
    inside=0.01,
    compete="chosen",
    single=True,
    by="distance",
    bits=torch.float64,
    levels=slice(None),
):
    """ATSS with one thing changed."""

    def answer(priors, gt_boxes, k=9):
        gt = torch.full((len(priors),), NEGATIVE)
        best = torch.full((len(priors),), -1.0, dtype=bits)
        for g, box in enumerate(gt_boxes):
            distance = (priors.centers - centers(box)).square().sum(dim=1)
            order = distance if by == "distance" else -iou(priors.boxes, box)
            groups = [(priors.levels == level).nonzero()[:, 0] for level in priors.levels.unique()[levels]]
            groups = groups if per_level else [torch.arange(len(priors))]
            near = torch.cat([own[order[own].argsort(stable=True)[:k]] for own in groups])
            value = iou(priors.boxes[near], box).to(bits)
            deviation = value.std(correction=correction) if len(value) > 1 or not single else 0.0
            centred = encode_ltrb(box, priors.centers[near]).amin(dim=1) > inside
            keep = (value >= value.mean() + deviation - 1e-12) & centred
            if compete == "chosen":
                keep &= value > best[near]
            gt[near[keep]], best[near[keep]] = g, value[keep]
        return gt

    return answer


# --- 09.4 -----------------------------------------------------------------------------------------------------------


def _reason(case, ious, cut, inside, wins, want, answer):
    ious, inside, wins = torch.tensor(ious), torch.tensor(inside), torch.tensor(wins)
    inputs = {"ious": ious, "cut": cut, "inside": inside, "wins": wins}
    compare(case, inputs, answer(ious, cut, inside, wins), want)


def all_below(answer):
    _reason("No candidate reaches the cut", [0.2, 0.3], 0.35, [True, True], [True, True], "cut", answer)


def exactly_the_cut(answer):
    both = [True, True]
    _reason("A candidate exactly at the cut reaches it", [0.25, 0.5], 0.5, both, both, "positive", answer)


def beside_the_object(answer):
    case = "The candidate that reaches the cut is not inside"
    _reason(case, [0.5, 0.1], 0.25, [False, True], [True, True], "centre", answer)


def all_lost(answer):
    case = "Two candidates are left after cut and centre, and both are lost"
    _reason(case, [0.5, 0.6, 0.1], 0.25, [True, True, True], [False, False, True], "conflict", answer)


def not_the_same_candidate(answer):
    case = "One candidate is inside, another one is won"
    _reason(case, [0.5, 0.6], 0.25, [True, False], [False, True], "conflict", answer)


def one_of_many(answer):
    case = "One candidate of three passes everything"
    _reason(case, [0.5, 0.6, 0.4], 0.25, [False, True, True], [True, False, True], "positive", answer)


def no_candidates(answer):
    none = torch.zeros(0, dtype=torch.bool)
    got = answer(torch.zeros(0), 0.5, none, none)
    compare("No candidate at all", {"ious": torch.zeros(0), "cut": 0.5, "inside": none, "wins": none}, got, "cut")


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
                "The nearest of twelve",
            ),
            "sum of the offsets": (
                lambda p, c, k: (p - c).sum(dim=1).abs().argsort(stable=True)[:k],
                "The nearest of twelve",
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
        id="09.2",
        title="Mean plus standard deviation",
        difficulty=2,
        minutes=8,
        hints=(
            "Everything goes along dim=0: the candidates of one object stand in a column.",
            "values.std(dim=0) divides by n - 1 already. But for one row it is NaN, and PyTorch warns.",
            "mean = values.mean(dim=0); the sum of (values - mean).square() over dim=0, divided by "
            "max(len(values) - 1, 1), then the root, plus the mean.",
        ),
        tests=(four_candidates, two_objects, zeros_count, equal_candidates, one_candidate, nothing_to_cut),
        mutants={
            "biased, as in NumPy": (_wrong_cut(lambda v: v.std(dim=0, correction=0)), "Four candidates"),
            "variance": (_wrong_cut(lambda v: v.var(dim=0)), "Four candidates"),
            "mean alone": (lambda v: v.mean(dim=0), "Four candidates"),
            "one cut for all": (
                _wrong_cut(lambda v: v.std().expand(v.shape[1]), lambda v: v.mean().expand(v.shape[1])),
                "a cut for each",
            ),
            "along the rows": (lambda v: v.mean(dim=1), "shape"),
            "zeros left out": (
                lambda v: (
                    torch.stack([_wrong_cut(lambda c: c.std(dim=0))(c[c > 0][:, None])[0] for c in v.T])
                    if v.shape[1]
                    else torch.zeros(0)
                ),
                "a cut for each",
            ),
            "not a number for one": (
                lambda v: v.mean(dim=0) + (v.std(dim=0) if len(v) > 1 else float("nan")),
                "A single candidate",
            ),
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
            unbiased,
            a_centre_outside,
            a_centre_on_the_edge,
            a_centre_in_the_sliver,
            neighbours,
            twins,
            one_single_candidate,
            one_level,
            four_levels,
            equal_ious,
            no_objects,
        ),
        mutants={
            "k over all levels": (_wrong_atss(per_level=False), "on each level"),
            "three levels written out": (_wrong_atss(levels=slice(3)), "of four levels"),
            "two levels written out": (_wrong_atss(levels=slice(2)), "of four levels"),
            "the first level left out, if others are": (_wrong_atss(levels=slice(-2, None)), "of four levels"),
            "candidates by IoU": (_wrong_atss(by="iou"), "nearest centres"),
            "divided by n": (_wrong_atss(correction=0), "divides by n - 1"),
            "no centre test": (_wrong_atss(inside=-1e9), "centre lies outside"),
            "the edge is inside": (_wrong_atss(inside=-1e-9), "edge is not inside"),
            "a sliver is inside": (_wrong_atss(inside=1e-9), "0.005 px"),
            "the last object overwrites": (_wrong_atss(compete="nobody"), "the higher IoU wins"),
            "a single candidate gets nothing": (_wrong_atss(single=False), "one anchor"),
            "in 32 bits": (_wrong_atss(bits=torch.float32), "the same IoU"),
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
                "exactly at the cut",
            ),
            "each step on its own": (
                lambda v, t, i, w: _steps(("cut", v >= t), ("centre", i), ("conflict", w)),
                "is not inside",
            ),
            "the last step forgets the second": (
                lambda v, t, i, w: _steps(("cut", v >= t), ("centre", (v >= t) & i), ("conflict", (v >= t) & w)),
                "another one is won",
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
                "exactly at the cut",
            ),
            "conflict before centre": (
                lambda v, t, i, w: _steps(("cut", v >= t), ("conflict", (v >= t) & w), ("centre", (v >= t) & i & w)),
                "another one is won",
            ),
        },
    ),
)
