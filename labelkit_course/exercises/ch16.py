"""The exercises of chapter 16: size classes, shares of positives, points missed, and S3FD's compensation."""

import torch

from labelkit import plot
from labelkit_course import Exercise, compare

# --- 16.1 -----------------------------------------------------------------------------------------------------------


def _count(case, sizes, limits, answer):
    """`sizes`: (width, height) of boxes whose corners lie somewhere in the image."""
    corner = torch.arange(2.0 * len(sizes)).reshape(-1, 2)
    boxes = torch.cat([corner, corner + torch.tensor(sizes).reshape(-1, 2)], dim=1)
    areas = [w * h for w, h in sizes]
    want = [sum(low**2 <= a <= high**2 for a in areas) for low, high in limits]
    compare(case, {"boxes": boxes, "limits": limits}, answer(boxes, limits), want)


AITOD = [(0, 8), (8, 16), (16, 32), (32, 1e5)]


def three_sizes(answer):
    _count("One object of 5 px, two of 12 px", [(5.0, 5.0), (12.0, 12.0), (12.0, 12.0)], AITOD, answer)


def long_and_thin(answer):
    _count("A box of 30 by 2 px: the side is the root of its area", [(30.0, 2.0)], AITOD, answer)


def on_the_border(answer):
    _count("An object of exactly 8 by 8 px belongs to two classes", [(8.0, 8.0), (20.0, 20.0)], AITOD, answer)


def both_ends(answer):
    _count("One class from 4 to 16 px, objects of 4, 16 and 17 px", [(4.0, 4.0), (16.0, 16.0), (17.0, 17.0)],
           [(4, 16)], answer)  # fmt: skip


def nothing_to_count(answer):
    _count("No objects", [], AITOD, answer)


def _counted(low_ok, high_ok, measure=lambda size: size.prod(dim=1), power=2):
    def answer(boxes, limits):
        size = measure(boxes[:, 2:] - boxes[:, :2])
        return [int((low_ok(size, low**power) & high_ok(size, high**power)).sum()) for low, high in limits]

    return answer


def _at_least(a, b):
    return a >= b


def _at_most(a, b):
    return a <= b


def _below(a, b):
    return a < b


def _above(a, b):
    return a > b


# --- 16.2 -----------------------------------------------------------------------------------------------------------


def _share(case, gt, sides, low, high, answer):
    gt, sides = torch.tensor(gt, dtype=torch.int64), torch.tensor(sides)
    served = [sides[k].item() for k in gt.tolist() if k >= 0]
    want = sum(low <= side < high for side in served) / len(served) if served else 0.0
    compare(case, {"gt": gt, "sides": sides, "low": low, "high": high}, answer(gt, sides, low, high), want)


def one_of_each(answer):
    _share("One positive of a small object, three of a large one", [0, 1, 1, 1], [6.0, 40.0], 0, 8, answer)


def with_background(answer):
    _share("Negative and ignored priors do not count", [-1, 0, -2, 1, -1, -1, 1], [6.0, 40.0], 0, 8, answer)


def a_starved_object(answer):
    _share("An object without positives has no share", [1, 1, -1, 2], [5.0, 12.0, 30.0], 0, 8, answer)


def exactly_eight(answer):
    _share("Objects of exactly 8 and 16 px, asked for 8 to 16", [0, 1, 1, 2], [8.0, 16.0, 4.0], 8, 16, answer)


def no_positive(answer):
    _share("Not one positive: the share is 0", [-1, -2, -1], [6.0], 0, 8, answer)


def no_objects_at_all(answer):
    _share("An image without objects", [-1, -1], [], 0, 8, answer)


def _shared(gt, sides, low, high, positive=lambda gt: gt >= 0, keep=lambda s, lo, hi: (s >= lo) & (s < hi)):
    chosen = positive(gt)
    if not chosen.any() or not len(sides):
        return 0.0
    return keep(sides[gt[chosen]], low, high).float().mean().item()


def _over_all_priors(gt, sides, low, high):
    positive = gt >= 0
    if not positive.any():
        return 0.0
    served = sides[gt[positive]]
    return ((served >= low) & (served < high)).sum().item() / len(gt)


def _share_of_objects(gt, sides, low, high):
    if not (gt >= 0).any():
        return 0.0
    return ((sides >= low) & (sides < high)).float().mean().item()


def _not_a_number(gt, sides, low, high):
    served = sides[gt[gt >= 0]]
    return ((served >= low) & (served < high)).float().mean().item()


# --- 16.3 -----------------------------------------------------------------------------------------------------------


def _miss(case, boxes, stride, answer):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    size = (boxes[:, 2:] - boxes[:, :2]) / stride
    want = 1 - size[:, 0].clamp(max=1) * size[:, 1].clamp(max=1)
    got = answer(boxes, stride)
    draw = _thrown(boxes, stride, got) if len(boxes) else None
    compare(case, {"boxes": boxes, "stride": stride}, got, want, draw=draw)


def _thrown(boxes, stride, got):
    """The first box at eight places on the grid, and the learner's number."""

    def draw():
        size = boxes[0, 2:] - boxes[0, :2]
        figure, (ax,) = plot.figure()
        plot.scene(ax, (64, 64), title=f"yours: {got[0].item():.3g} of such boxes contain no point")
        grid = torch.cartesian_prod(torch.arange(stride / 2, 64, stride), torch.arange(stride / 2, 64, stride))
        corner = torch.rand(8, 2, generator=torch.Generator().manual_seed(1)) * (60 - size).clamp(min=1)
        plot.points(ax, grid, "prior")
        plot.boxes(ax, torch.cat([corner, corner + size], dim=1), "gt")
        return figure

    return draw


def half_the_stride(answer):
    _miss("A square of 4 px, stride 8", [[10.0, 10, 14, 14]], 8, answer)


def wide_and_low(answer):
    _miss("A box of 6 by 2 px, stride 8", [[10.0, 10, 16, 12]], 8, answer)


def as_large_as_the_stride(answer):
    _miss("A square of exactly the stride is never missed", [[3.0, 3, 11, 11]], 8, answer)


def longer_than_the_stride(answer):
    _miss("A box of 40 by 2 px is caught in x at every place, in y at few", [[2.0, 2, 42, 4]], 8, answer)


def several_at_stride_four(answer):
    _miss("Three boxes, stride 4", [[0.0, 0, 3, 3], [5, 5, 6, 9], [0, 0, 30, 30]], 4, answer)


def no_boxes_to_miss(answer):
    _miss("No boxes", [], 8, answer)


def _missed(boxes, stride, combine):
    size = boxes[:, 2:] - boxes[:, :2]
    return combine(size[:, 0] / stride, size[:, 1] / stride)


# --- 16.4 -----------------------------------------------------------------------------------------------------------


def _reference(table, gt, n, min_iou):
    """Stage two, one ground truth after the other, in plain Python."""
    gt = gt.tolist()
    rows = table.tolist()
    for k in range(table.shape[1]):
        mine = [p for p, row in enumerate(rows) if gt[p] < 0 and row.index(max(row)) == k and row[k] > min_iou]
        mine.sort(key=lambda p: (-rows[p][k], p))
        for p in mine[: max(n - gt.count(k), 0)]:
            gt[p] = k
    return torch.tensor(gt, dtype=torch.int64)


def _fill(case, table, gt, n, min_iou, answer):
    table, gt = torch.tensor(table), torch.tensor(gt, dtype=torch.int64)
    got, want = answer(table, gt, n, min_iou), _reference(table, gt, n, min_iou)
    compare(case, {"table": table, "gt": gt, "n": n, "min_iou": min_iou}, got, want)


ONE = [[0.3], [0.2], [0.25], [0.4], [0.15]]
TWO = [[0.30, 0.05], [0.20, 0.28], [0.25, 0.00], [0.60, 0.10], [0.12, 0.27], [0.00, 0.13]]


def one_object(answer):
    _fill("One object with one prior takes two more, the best first", ONE, [-1, -1, -1, 0, -1], 3, 0.1, answer)


def above_the_limit(answer):
    table = [[0.25], [0.5], [0.125], [0.375]]
    _fill("An IoU of exactly min_iou, 0.25, is not enough", table, [-1, 0, -1, -1], 6, 0.25, answer)


def own_best_only(answer):
    _fill("Two objects: a prior goes only to the one it fits best", TWO, [-1, -1, -1, 0, -1, -1], 4, 0.1, answer)


def each_object_by_itself(answer):
    table = [[0.34, 0.0], [0.33, 0.0], [0.32, 0.0], [0.0, 0.2], [0.0, 0.15], [0.9, 0.0]]
    _fill("Each object is filled up by itself, also the one with the low IoUs", table, [-1] * 5 + [0], 2, 0.1, answer)


def enough_already(answer):
    table = [[0.5], [0.4], [0.3], [0.2]]
    for n in (2, 1):
        _fill("An object with n priors or more takes none", table, [0, 0, -1, -1], n, 0.1, answer)


def taken_ones_stay(answer):
    table = [[0.34, 0.2], [0.3, 0.1], [0.2, 0.0], [0.0, 0.15]]
    _fill("A prior that was forced to another object stays there, and counts", table, [1, -1, -1, -1], 1, 0.05, answer)


def equal_overlaps(answer):
    _fill("Five equal IoUs, two places: the lower prior index first", [[0.15]] * 5, [-1] * 5, 2, 0.1, answer)


def a_tie_of_owners(answer):
    _fill("A prior that fits two objects equally belongs to the lower index", [[0.2, 0.2]], [-1], 3, 0.1, answer)


def no_object(answer):
    compare(
        "An image without objects: all stay negative",
        {"table": torch.zeros(3, 0), "gt": torch.tensor([-1, -1, -1])},
        answer(torch.zeros(3, 0), torch.tensor([-1, -1, -1]), 6, 0.1),
        torch.tensor([-1, -1, -1]),
    )


def _stage_two(*, strict=True, own=True, count="missing", image=False, free=True, later=False):
    def answer(table, gt, n, min_iou):
        gt, before = gt.clone(), gt
        if table.shape[1] == 0:
            return gt
        best, owner = table.max(dim=1)
        if image:
            weak = torch.where((gt < 0) & (best > min_iou), best, 0)
            extra = weak.argsort(descending=True, stable=True)[: max(n * table.shape[1] - int((gt >= 0).sum()), 0)]
            extra = extra[weak[extra] > 0]
            gt[extra] = owner[extra]
            return gt
        for k in range(table.shape[1]):
            value = best if own else table[:, k]
            may = value > min_iou if strict else value >= min_iou
            may &= (owner == k) if own else torch.ones_like(may)
            may &= (gt < 0) if free else (before != k)
            places = may.nonzero()[:, 0]
            if later:
                places = places.flip(0)
            order = value[places].argsort(descending=True, stable=True)
            missing = n - int(((gt == k) & ((owner == k) | (count != "own best"))).sum())
            room = {"n more": n, "below 0": missing}.get(count, max(missing, 0))
            gt[places[order[:room]]] = k
        return gt

    return answer


def _best_n_of_all(table, gt, n, min_iou):
    """Counts the matched ones among the n best: the mistake of a community port of another method."""
    gt = gt.clone()
    if table.shape[1] == 0:
        return gt
    best, owner = table.max(dim=1)
    for k in range(table.shape[1]):
        top = table[:, k].argsort(descending=True, stable=True)[:n]
        top = top[(gt[top] < 0) & (owner[top] == k) & (best[top] > min_iou)]
        gt[top] = k
    return gt


def _no_objects_forgotten(table, gt, n, min_iou):
    table.max(dim=1)
    return _stage_two()(table, gt, n, min_iou)


EXERCISES = (
    Exercise(
        id="16.1",
        title="Count by size class",
        difficulty=1,
        minutes=6,
        hints=(
            "Compare areas with squares: low**2 <= area <= high**2. labelkit's area gives the areas.",
            "(areas >= low**2) & (areas <= high**2) is a mask; its sum is the count.",
            "return [int(((areas >= low**2) & (areas <= high**2)).sum()) for low, high in limits]",
        ),
        tests=(three_sizes, long_and_thin, on_the_border, both_ends, nothing_to_count),
        mutants={
            "upper end left out": (_counted(_at_least, _below), "exactly 8 by 8"),
            "lower end left out": (_counted(_above, _at_most), "exactly 8 by 8"),
            "sides against areas": (_counted(_at_least, _at_most, power=1), "5 px"),
            "the longer side": (
                _counted(_at_least, _at_most, lambda size: size.amax(dim=1) if len(size) else size[:, 0], power=1),
                "30 by 2",
            ),
            "the mean side": (_counted(_at_least, _at_most, lambda size: size.mean(dim=1), power=1), "30 by 2"),
        },
    ),
    Exercise(
        id="16.2",
        title="Whose positives are they?",
        difficulty=2,
        minutes=8,
        hints=(
            "A prior is positive where gt >= 0. Only those count, on top and below the line of the fraction.",
            "sides[gt[gt >= 0]] is the side of the object behind every positive prior.",
            "served = sides[gt[positive]]; the mean of ((served >= low) & (served < high)).float() is the share. "
            "The mean of nothing is NaN, so return 0.0 before.",
        ),
        tests=(one_of_each, with_background, a_starved_object, exactly_eight, no_positive, no_objects_at_all),
        mutants={
            "over all priors": (_over_all_priors, "do not count"),
            "background served by the last object": (
                lambda gt, s, lo, hi: _shared(gt, s, lo, hi, positive=lambda g: g >= -2), "do not count",
            ),
            "index 0 forgotten": (
                lambda gt, s, lo, hi: _shared(gt, s, lo, hi, positive=lambda g: g > 0), "three of a large",
            ),
            "share of the objects": (_share_of_objects, "three of a large"),
            "upper end included": (
                lambda gt, s, lo, hi: _shared(gt, s, lo, hi, keep=lambda v, a, b: (v >= a) & (v <= b)), "exactly 8",
            ),
            "lower end left out": (
                lambda gt, s, lo, hi: _shared(gt, s, lo, hi, keep=lambda v, a, b: (v > a) & (v < b)), "exactly 8",
            ),
            "NaN without positives": (_not_a_number, "Not one positive"),
        },
    ),
    Exercise(
        id="16.3",
        title="Missed by the grid",
        difficulty=2,
        minutes=8,
        hints=(
            "First the probability of being caught in x, w / s, but never more than 1. The same in y.",
            "Both must happen, and they are independent: multiply. Missed is 1 minus that.",
            "caught = ((boxes[:, 2:] - boxes[:, :2]) / stride).clamp(max=1), then 1 - caught[:, 0] * caught[:, 1].",
        ),
        tests=(
            half_the_stride, wide_and_low, as_large_as_the_stride, longer_than_the_stride, several_at_stride_four,
            no_boxes_to_miss,
        ),
        mutants={
            "caught instead of missed": (
                lambda b, s: _missed(b, s, lambda x, y: x.clamp(max=1) * y.clamp(max=1)), "too small",
            ),
            "no clamp": (lambda b, s: _missed(b, s, lambda x, y: 1 - x * y), "40 by 2"),
            "clamp after the product": (
                lambda b, s: _missed(b, s, lambda x, y: 1 - (x * y).clamp(max=1)), "40 by 2",
            ),
            "missed in x and in y": (
                lambda b, s: _missed(b, s, lambda x, y: (1 - x).clamp(min=0) * (1 - y).clamp(min=0)), "square of 4 px",
            ),
            "only the longer side": (
                lambda b, s: _missed(b, s, lambda x, y: 1 - torch.maximum(x, y).clamp(max=1) ** 2), "6 by 2",
            ),
            "one number for all": (
                lambda b, s: _missed(b, s, lambda x, y: (1 - x.clamp(max=1) * y.clamp(max=1)).mean()), "shape",
            ),
        },
    ),
    Exercise(
        id="16.4",
        title="Fill up",
        difficulty=4,
        minutes=20,
        hints=(
            "best, owner = table.max(dim=1) gives for each prior its own best ground truth and that IoU. Then go "
            "through the ground truths one by one.",
            "For ground truth k the candidates are gt < 0, owner == k and best > min_iou. It misses n minus the number "
            "of priors it already has, and never less than 0.",
            "free = (mask).nonzero()[:, 0]; order = best[free].argsort(descending=True, stable=True); "
            "gt[free[order[:missing]]] = k. Work on gt.clone(). With no ground truths max has nothing to look at: with "
            "dim=1 of a [P, 0] table it fails, so return gt before.",
        ),
        tests=(
            one_object, enough_already, above_the_limit, own_best_only, each_object_by_itself, taken_ones_stay,
            equal_overlaps, a_tie_of_owners, no_object,
        ),
        mutants={
            "at least min_iou": (_stage_two(strict=False), "exactly min_iou"),
            "n more instead of up to n": (_stage_two(count="n more"), "takes two more"),
            "a negative number is missing": (_stage_two(count="below 0"), "n priors or more"),
            "only priors of its own counted": (_stage_two(count="own best"), "stays there"),
            "not its own best": (_stage_two(own=False), "fits best"),
            "the image is filled up": (_stage_two(image=True), "by itself"),
            "matched ones among the n best": (_best_n_of_all, "stays there"),
            "taken priors are taken again": (_stage_two(free=False), "stays there"),
            "the higher index first": (_stage_two(later=True), "Five equal"),
            "no objects forgotten": (_no_objects_forgotten, "max()"),
        },
    ),
)  # fmt: skip
