"""The exercises of chapter 06: points, candidates, centre-ness, and FCOS's whole rule."""

import torch

from labelkit import NEGATIVE, Priors, plot
from labelkit.assigners import ASSIGNERS, FCOS
from labelkit.assignment import Assignment
from labelkit.boxes import area, centerness, centers, encode_ltrb
from labelkit_course import Exercise, compare
from labelkit_course.answers import OneImage

# --- 06.1 -----------------------------------------------------------------------------------------------------------


def _points(case, rows, columns, stride, answer):
    half = stride // 2
    listed = [[half + column * stride, half + row * stride] for row in range(rows) for column in range(columns)]
    want = torch.tensor(listed, dtype=torch.float32).reshape(-1, 2)
    inputs = {"rows": rows, "columns": columns, "stride": stride}
    got = answer(rows, columns, stride)
    compare(case, inputs, got, want, draw=lambda: _two_grids(got, want, rows, columns, stride))


def _two_grids(got, want, rows, columns, stride):
    figure, (ax,) = plot.figure()
    plot.scene(ax, (rows * stride, columns * stride), title="yours and the right ones")
    ax.set(xticks=range(0, columns * stride + 1, stride), yticks=range(0, rows * stride + 1, stride))
    ax.grid(color=plot.FAINT)
    plot.points(ax, want, "good")
    plot.points(ax, got, "prediction")
    plot.legend(ax, good="right", prediction="yours")
    return figure


def a_single_cell(answer):
    _points("A single cell of stride 8", 1, 1, 8, answer)


def more_columns_than_rows(answer):
    _points("Two rows and three columns: x runs first", 2, 3, 16, answer)


def an_odd_stride(answer):
    _points("An odd stride: the half of 5, rounded down, is 2", 1, 2, 5, answer)


def stride_one(answer):
    _points("Stride 1: the points have whole numbers", 2, 2, 1, answer)


def _grid(rows, columns, stride, *, first=None, swap=False, columns_first=False):
    first = stride // 2 if first is None else first(stride)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    if columns_first:
        y, x = y.T, x.T
    pair = (y, x) if swap else (x, y)
    return (first + stride * torch.stack([axis.flatten() for axis in pair], dim=1)).float()


# --- 06.2 -----------------------------------------------------------------------------------------------------------


def _candidates(case, points, boxes, low, high, answer):
    points = torch.tensor(points, dtype=torch.float32).reshape(-1, 2)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    got, want = answer(points, boxes, low, high), _candidate_table(points, boxes, low, high)
    compare(case, {"points": points, "boxes": boxes, "low": low, "high": high}, got, want)


def _candidate_table(points, boxes, low, high, *, inside=torch.gt, at_least=torch.ge, at_most=torch.le, far=torch.amax):
    distances = encode_ltrb(boxes, points[:, None])
    farthest = far(distances, dim=-1)
    return inside(distances.amin(dim=-1), 0) & at_least(farthest, low) & at_most(farthest, high)


def in_and_out(answer):
    _candidates("A point inside the box, one beside it and one above it", [[50, 20], [70, 20], [20, 4]],
                [[10, 10, 60, 30]], 0, 64, answer)  # fmt: skip


def on_the_border(answer):
    _candidates("Points on the left side and on the lower side are not inside", [[10, 20], [20, 40]],
                [[10, 10, 40, 40]], 0, 64, answer)  # fmt: skip


def too_near_too_far(answer):
    _candidates("The longest distance decides, not the shortest", [[50, 20], [95, 20]], [[0, 0, 100, 40]],
                64, 128, answer)  # fmt: skip


def at_the_upper_end(answer):
    _candidates("The longest distance is exactly the upper end, 64", [[64, 10]], [[0, 0, 80, 20]], 0, 64, answer)


def at_the_lower_end(answer):
    _candidates("The longest distance is exactly the lower end, 64", [[64, 10]], [[0, 0, 80, 20]], 64, 128, answer)


def a_table_of_pairs(answer):
    _candidates("Three points and two objects give a table [3, 2]", [[12, 12], [30, 30], [60, 60]],
                [[10, 10, 40, 40], [25, 25, 70, 70]], 0, 64, answer)  # fmt: skip


def no_boxes(answer):
    _candidates("No objects give a table [2, 0]", [[1, 1], [2, 2]], [], 0, 64, answer)


# --- 06.3 -----------------------------------------------------------------------------------------------------------


def _centerness(case, distances, answer):
    distances = torch.tensor(distances)
    compare(case, {"distances": distances}, answer(distances), centerness(distances))


def the_middle(answer):
    _centerness("The middle of a box has the centre-ness 1", [[7.0, 7, 7, 7], [40, 3, 40, 3]], answer)


def the_papers_point(answer):
    _centerness("l, t, r, b = 10, 20, 30, 20", [[10.0, 20, 30, 20]], answer)


def both_directions(answer):
    _centerness("Off the middle in both directions", [[5.0, 8, 20, 2], [20, 2, 5, 8]], answer)


def any_dimensions(answer):
    _centerness("One point, a tensor of shape [4]", [3.0, 4, 9, 4], answer)
    _centerness("A table of points and objects, [2, 1, 4]", [[[3.0, 4, 9, 4]], [[2, 2, 8, 8]]], answer)


def _ratios(distances, first=(0, 2), second=(1, 3)):
    def ratio(a, b):
        return torch.minimum(distances[..., a], distances[..., b]) / torch.maximum(distances[..., a], distances[..., b])

    return ratio(*first), ratio(*second)


def _product(ratios):
    return ratios[0] * ratios[1]


# --- 06.4 -----------------------------------------------------------------------------------------------------------

PYRAMID = Priors.points((128, 128), strides=(8, 16, 32))


def _assign(case, boxes, answer, priors=PYRAMID, **arguments):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    got, want = answer(priors, boxes, **arguments), FCOS(**arguments)(priors, {"boxes": boxes}).gt
    inputs = {"priors": repr(priors), "gt_boxes": boxes} | arguments
    compare(case, inputs, got, want, draw=lambda: _levels(priors, boxes, got, want))


def _levels(priors, boxes, got, want):
    """The first level on which the two answers differ, yours beside the right one."""
    level = int(priors.levels[(got != want).nonzero()[0, 0]])
    figure, axes = plot.figure(2)
    for ax, gt, title in zip(axes, (got, want), ("yours", "the right one"), strict=True):
        answer = Assignment(gt, torch.zeros(len(gt)), (gt >= 0).float(), torch.ones(len(gt)))
        plot.scene(ax, (128, 128), boxes, title=f"{title}, level {level}")
        plot.assignment(ax, priors, answer, boxes if gt.max() < len(boxes) else None, level=level)
    return figure


def one_small_object(answer):
    _assign("One object of 30 px, served by the lowest level only", [[33.0, 35, 63, 65]], answer)


def a_border_through_points(answer):
    _assign("The sides of the object run through points, which are not inside", [[20.0, 20, 44, 44]], answer)


def a_middle_sized_object(answer):
    _assign("An object of 90 px, for the second level", [[17.0, 15, 107, 105]], answer)


def exactly_at_the_end(answer):
    _assign("Points whose longest distance is exactly 64 px belong to both levels", [[20.0, 20, 120, 120]], answer)


def beyond_every_range(answer):
    case = "An object of 100 px on strides 4 and 8: the highest level has no end"
    _assign(case, [[14.0, 14, 114, 114]], answer, Priors.points((128, 128), strides=(4, 8)))


def a_single_level(answer):
    case = "A pyramid of one level, which neither begins nor ends"
    _assign(case, [[10.0, 10, 20, 22], [4, 4, 124, 100]], answer, Priors.points((128, 128), strides=(8,)))


def four_levels(answer):
    case = "Four levels, strides 4 to 32, and an object that the image cuts"
    boxes = [[-70.0, -60, 190, 180], [20, 30, 98, 100], [40, 40, 76, 72], [50, 50, 62, 60]]
    _assign(case, boxes, answer, Priors.points((128, 128), strides=(4, 8, 16, 32)))


def any_scene(answer):
    for strides in ((8,), (4, 8, 16), (2, 4, 8, 16, 32), (16, 32)):
        for radius in (None, 0.75, 2.5):
            corner, size = torch.rand(6, 2) * 90, 3 + torch.exp(torch.rand(6, 2) * 4.5)
            boxes = torch.cat([corner, corner + size], dim=1).round(decimals=1)
            given = {} if radius is None else {"center_radius": radius}
            case = f"Six objects anywhere, strides {', '.join(map(str, strides))}"
            _assign(case, boxes.tolist(), answer, Priors.points((128, 128), strides=strides), **given)


def one_inside_the_other(answer):
    _assign("A small object inside a larger one", [[10.0, 10, 70, 60], [25, 25, 57, 49]], answer)


def the_smaller_comes_second_or_first(answer):
    _assign("The smaller object comes first in the list", [[25.0, 25, 57, 49], [10, 10, 70, 60]], answer)


def only_candidates_count(answer):
    _assign("A point in a large object, beside a small one", [[90.0, 90, 100, 100], [10, 10, 60, 60]], answer)


def equal_areas(answer):
    _assign("Two overlapping objects of equal area: the first wins", [[10.0, 10, 50, 50], [30, 30, 70, 70]], answer)


def a_narrow_object_of_larger_area(answer):
    _assign("A narrow object of larger area crosses a square one", [[20.0, 4, 36, 84], [12, 28, 44, 60]], answer)


def central_points_only(answer):
    _assign("Centre sampling, 1.5 strides", [[17.0, 15, 107, 105], [5, 5, 61, 41]], answer, center_radius=1.5)


def another_radius(answer):
    _assign("Centre sampling, 1 stride", [[17.0, 15, 107, 105], [5, 5, 61, 41]], answer, center_radius=1.0)


def exactly_at_the_radius(answer):
    _assign("Points at exactly 1.5 strides from the centre are too far", [[36.0, 36, 76, 76]], answer,
            center_radius=1.5)  # fmt: skip


def a_small_square_inside(answer):
    _assign("A central square that is larger than the object", [[46.0, 46, 54, 54]], answer, center_radius=1.5)


def empty_image(answer):
    _assign("An image without objects", [], answer)


def _whole(
    priors, gt_boxes, center_radius=None, *,
    inside=torch.gt, ends=torch.le, near=torch.lt, factor=8, open_top=True, all_inside=True, order=1.0, square=True,
    size=area, level_0=None,
):  # fmt: skip
    """The whole rule, with one screw loose at a time."""
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    strides = priors.strides * level_0 / priors.strides.min() if level_0 else priors.strides
    low, high = factor / 2 * strides, factor * strides
    low[priors.levels == 0] = 0
    if open_top is True or (open_top and open_top(priors.levels)):
        high[priors.levels == priors.levels.max()] = torch.inf
    distances = encode_ltrb(gt_boxes, priors.centers[:, None])
    farthest, nearest = distances.amax(dim=-1), distances.amin(dim=-1)
    chosen = ends(low[:, None], farthest) & ends(farthest, high[:, None])
    offset = (priors.centers[:, None] - centers(gt_boxes)).abs()
    if center_radius is not None and square:
        chosen &= near(offset.amax(dim=-1), center_radius * priors.strides[:, None])
    if all_inside or center_radius is None:
        chosen &= inside(nearest, 0)
    areas = (order * size(gt_boxes)).expand(len(priors), -1).masked_fill(~chosen, torch.inf)
    return torch.where(chosen.any(dim=1), areas.argmin(dim=1), NEGATIVE)


def _loose(**screw):
    return lambda priors, gt_boxes, center_radius=None: _whole(priors, gt_boxes, center_radius, **screw)


def _written_out(priors, gt_boxes, center_radius=None):
    """Level by level as far as the chapter goes."""
    return torch.where(priors.levels < 3, _whole(priors, gt_boxes, center_radius), NEGATIVE)


def _by_heart(priors, gt_boxes, center_radius=None):
    """Right on the pyramids and radii of the cases above, and on no other."""
    strides, radius = tuple(priors.strides.unique().tolist()), center_radius or 1.5
    known = strides in ((4, 8), (8, 16, 32), (8,), (4, 8, 16, 32)) and radius in (1.0, 1.5)
    return _whole(priors, gt_boxes, center_radius) if known else torch.full((len(priors),), NEGATIVE)


def _smallest_of_all(priors, gt_boxes, center_radius=None):
    label = _whole(priors, gt_boxes, center_radius)
    return torch.where(label >= 0, area(gt_boxes).argmin(), NEGATIVE) if len(gt_boxes) else label


def _no_guard(priors, gt_boxes, center_radius=None):
    encode_ltrb(gt_boxes, priors.centers[:, None]).amin(dim=1)
    return _whole(priors, gt_boxes, center_radius)


def _stand_in(answer, arguments):
    """The learner's function where a demonstration asks for what it can do, labelkit's for the other variants."""
    if set(arguments) <= {"center_radius"}:
        return OneImage(answer, arguments)
    return ASSIGNERS["fcos"](**arguments)


EXERCISES = (
    Exercise(
        id="06.1",
        title="The points of one level",
        difficulty=1,
        minutes=6,
        hints=(
            "The first point is at stride // 2 in both directions. Then it goes on in steps of the stride.",
            "torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij') gives the row and the column of "
            "every cell, as two tables. The row belongs to y.",
            "y, x = torch.meshgrid(..., indexing='ij'); torch.stack([x.flatten(), y.flatten()], dim=1) are the cells; "
            "multiply by the stride, add stride // 2, and end with .float().",
        ),
        tests=(a_single_cell, more_columns_than_rows, an_odd_stride, stride_one),
        mutants={
            "corner of the cell": (lambda r, c, s: _grid(r, c, s, first=lambda s: 0), "A single cell"),
            "half without the floor": (lambda r, c, s: _grid(r, c, s, first=lambda s: s / 2), "odd stride"),
            "rounded up": (lambda r, c, s: _grid(r, c, s, first=lambda s: (s + 1) // 2), "odd stride"),
            "x and y swapped": (lambda r, c, s: _grid(r, c, s, swap=True), "x runs first"),
            "column by column": (lambda r, c, s: _grid(r, c, s, columns_first=True), "x runs first"),
            "whole numbers": (lambda r, c, s: _grid(r, c, s).long(), "should hold floats"),
        },
    ),
    Exercise(
        id="06.2",
        title="Inside and in range",
        difficulty=2,
        minutes=10,
        hints=(
            "First the four distances of every pair, as a tensor [P, G, 4]. Points need one more dimension for that: "
            "points[:, None] is [P, 1, 2].",
            "x, y = points[:, None].unbind(-1) and x0, y0, x1, y1 = boxes.unbind(-1). Then x - x0 is [P, G]. "
            "Stack the four along dim=-1.",
            "distances.amin(dim=-1) > 0 says inside. low <= distances.amax(dim=-1), and the same <= high, say in "
            "range. Join them with &.",
        ),
        tests=(
            in_and_out,
            on_the_border,
            too_near_too_far,
            at_the_upper_end,
            at_the_lower_end,
            a_table_of_pairs,
            no_boxes,
        ),
        mutants={
            "the border is inside": (lambda *given: _candidate_table(*given, inside=torch.ge), "left side"),
            "open upper end": (lambda *given: _candidate_table(*given, at_most=torch.lt), "upper end"),
            "open lower end": (lambda *given: _candidate_table(*given, at_least=torch.gt), "lower end"),
            "shortest distance in range": (lambda *given: _candidate_table(*given, far=torch.amin), "not the shortest"),
            "range without inside": (
                lambda *given: _candidate_table(*given, inside=lambda d, zero: d == d),
                "one beside it",
            ),
            "axes swapped": (
                lambda points, *given: _candidate_table(points.flip(1), *given),
                "one beside it",
            ),
            "pairs instead of a table": (
                lambda p, b, low, high: _candidate_table(p, b[:1], low, high)[:, 0],
                "shape",
            ),
        },
    ),
    Exercise(
        id="06.3",
        title="Centre-ness",
        difficulty=2,
        minutes=8,
        hints=(
            "distances.unbind(-1) gives left, top, right and bottom, whatever stands before the last dimension.",
            "Left goes with right, top with bottom. torch.minimum and torch.maximum compare number by number.",
            "(torch.minimum(left, right) / torch.maximum(left, right) * the same for top and bottom).sqrt()",
        ),
        tests=(the_middle, the_papers_point, both_directions, any_dimensions),
        mutants={
            "no root": (lambda d: _product(_ratios(d)), "too small"),
            "neighbours paired": (lambda d: _product(_ratios(d, (0, 1), (2, 3))).sqrt(), "The middle of a box"),
            "smallest over largest": (lambda d: (d.amin(-1) / d.amax(-1)).sqrt(), "The middle of a box"),
            "mean of the two": (lambda d: sum(_ratios(d)) / 2, "too large"),
            "right over left": (lambda d: (d[..., 0] / d[..., 2] * d[..., 1] / d[..., 3]).sqrt(), "both directions"),
            "only two dimensions": (
                lambda d: (_ratios(d)[0] * _ratios(d)[1]).sqrt()[:, None].squeeze(1),
                "too many indices",
            ),
        },
    ),
    Exercise(
        id="06.4",
        title="FCOS",
        difficulty=4,
        minutes=18,
        provides="fcos",
        adapt=_stand_in,
        hints=(
            "Build a table [P, G] of booleans, test by test: inside, in range, and, if asked for, near the centre. "
            "encode_ltrb(gt_boxes, priors.centers[:, None]) gives the distances [P, G, 4].",
            "low = 4 * priors.strides and high = 8 * priors.strides, both [P]. Set low to 0 on level 0, high to "
            "torch.inf on the last level. In the comparison they stand as low[:, None].",
            "areas = area(gt_boxes).expand(len(priors), -1).masked_fill(~chosen, torch.inf); argmin(dim=1) is the "
            "winner; torch.where(chosen.any(dim=1), winner, NEGATIVE). Without objects return all NEGATIVE first.",
        ),
        tests=(
            one_small_object,
            a_border_through_points,
            a_middle_sized_object,
            exactly_at_the_end,
            beyond_every_range,
            one_inside_the_other,
            the_smaller_comes_second_or_first,
            only_candidates_count,
            a_narrow_object_of_larger_area,
            equal_areas,
            central_points_only,
            a_small_square_inside,
            exactly_at_the_radius,
            another_radius,
            a_single_level,
            four_levels,
            any_scene,
            empty_image,
        ),
        mutants={
            "the border is inside": (_loose(inside=torch.ge), "run through points"),
            "open range ends": (_loose(ends=torch.lt), "exactly 64 px"),
            "half the ranges": (_loose(factor=4), "of 90 px"),
            "the highest level ends": (_loose(open_top=False), "has no end"),
            "largest area wins": (_loose(order=-1.0), "inside a larger one"),
            "first object wins": (_loose(order=0.0), "inside a larger one"),
            "smallest width wins": (_loose(size=lambda boxes: boxes[:, 2] - boxes[:, 0]), "A narrow object"),
            "ranges of stride 8 on every pyramid": (_loose(level_0=8), "on strides 4 and 8"),
            "at most three levels": (_written_out, "Four levels"),
            "the first level has an end, if alone": (_loose(open_top=lambda levels: levels.max() > 0), "one level"),
            "the answers to the cases": (_by_heart, "Six objects anywhere"),
            "always 1.5 strides": (
                lambda priors, boxes, center_radius=None: _whole(priors, boxes, center_radius and 1.5),
                "1 stride",
            ),
            "smallest of all objects": (_smallest_of_all, "inside a larger one"),
            "radius not used": (_loose(square=False), "Centre sampling"),
            "square without inside": (_loose(all_inside=False), "larger than the object"),
            "closed radius": (_loose(near=torch.le), "exactly 1.5 strides"),
            "crashes without objects": (_no_guard, "amin()"),
        },
    ),
)
