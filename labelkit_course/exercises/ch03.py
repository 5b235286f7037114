"""The exercises of chapter 03: where points are, shapes of a cell, the order of priors, decoding."""

import math

import torch

from labelkit import Priors, plot
from labelkit.boxes import decode_deltas
from labelkit_course import GIVEN, Exercise, compare, expect

# --- 03.1 -----------------------------------------------------------------------------------------------------------


def _level(case, rows, columns, stride, offset, answer):
    got = answer(rows, columns, stride, offset)
    want = Priors.points((rows * stride, columns * stride), (stride,), offset).centers
    inputs = {"rows": rows, "columns": columns, "stride": stride, "offset": offset}
    compare(case, inputs, got, want, draw=lambda: _two_grids(got, want, rows * stride, columns * stride))


def _two_grids(got, want, height, width):
    figure, (ax,) = plot.figure()
    plot.scene(ax, (height, width), title="the numbers show your order")
    plot.points(ax, want, "prior")
    plot.points(ax, got, "prediction")
    for number, (x, y) in enumerate(got.tolist()):
        ax.text(x, y, f"  {number}", fontsize=9)
    plot.legend(ax, prior="right places", prediction="yours")
    return figure


def one_cell(answer):
    _level("A map of one cell has one point, in the middle of the cell", 1, 1, 16, 0.5, answer)


def one_row(answer):
    _level("Along a single row of four cells x grows and y stays the same", 1, 4, 8, 0.5, answer)


def more_columns_than_rows(answer):
    _level("The points of two rows and three columns are counted along the rows", 2, 3, 16, 0.5, answer)


def more_rows_than_columns(answer):
    _level("A map of three rows and two columns has six points", 3, 2, 8, 0.5, answer)


def corner_offset(answer):
    _level("With offset 0 each point is in the upper left corner of its cell", 2, 3, 8, 0.0, answer)


def an_odd_stride(answer):
    _level("At an odd stride the middle of a cell is half a pixel off a whole number", 2, 2, 5, 0.5, answer)


def _mesh(rows, columns, offset, scale=1.0):
    i, j = torch.meshgrid(torch.arange(rows) * scale + offset, torch.arange(columns) * scale + offset, indexing="ij")
    return i, j


def _stacked(x, y):
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def _row_first(rows, columns, stride, offset=0.5):
    i, j = _mesh(rows, columns, offset)
    return _stacked(i * stride, j * stride)


def _along_columns(rows, columns, stride, offset=0.5):
    i, j = _mesh(rows, columns, offset)
    return _stacked(j.T * stride, i.T * stride)


def _no_offset(rows, columns, stride, offset=0.5):
    i, j = _mesh(rows, columns, 0.0)
    return _stacked(j * stride, i * stride)


def _half_a_pixel(rows, columns, stride, offset=0.5):
    i, j = _mesh(rows, columns, offset, scale=float(stride))
    return _stacked(j, i)


def _a_table(rows, columns, stride, offset=0.5):
    return torch.stack(_mesh(rows, columns, 0.5), dim=-1) * stride


def _always_the_middle(rows, columns, stride, offset=0.5):
    return Priors.points((rows * stride, columns * stride), (stride,)).centers


def _floor_of_half(rows, columns, stride, offset=0.5):
    i, j = _mesh(rows, columns, 0.0)
    return _stacked(j * stride + int(offset * stride), i * stride + int(offset * stride))


def _rows_for_columns(rows, columns, stride, offset=0.5):
    i, j = _mesh(columns, rows, offset)
    return _stacked(j * stride, i * stride)


# --- 03.2 -----------------------------------------------------------------------------------------------------------


def _cell(case, sizes, ratios, answer):
    got = answer(sizes, ratios)
    boxes = Priors.anchors((1, 1), (1,), (sizes,), ratios).boxes
    want = boxes[:, 2:] - boxes[:, :2]
    compare(case, {"sizes": sizes, "ratios": ratios}, got, want, atol=1e-3, draw=lambda: _two_cells(got, want))


def _two_cells(got, want):
    figure, axes = plot.figure(2)
    edge = int(max(got.max(), want.max()) * 1.2) + 1
    for ax, shapes, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        plot.scene(ax, (edge, edge), title=title)
        plot.boxes(ax, torch.cat([edge / 2 - shapes / 2, edge / 2 + shapes / 2], dim=1), "prior")
    return figure


def a_square(answer):
    _cell("A shape of ratio 1 is a square whose side is the size", (16.0,), (1.0,), answer)


def high_and_narrow(answer):
    _cell("A shape of ratio 4 is four times as high as wide and has the area of the square", (16.0,), (4.0,), answer)


def two_of_each(answer):
    _cell("Of two sizes and two ratios, all sizes of the first ratio come first", (16.0, 64.0), (1.0, 4.0), answer)


def no_rounding(answer):
    _cell("A small anchor keeps the fractions of its width and height", (5.0,), (0.5, 1.0), answer)


def more_sizes_than_ratios(answer):
    _cell("Three sizes and one ratio give three shapes", (8.0, 10.0, 13.0), (0.25,), answer)


def _shapes(width, height, swap=False):
    if swap:
        width, height = width.T, height.T
    return torch.stack([width.flatten(), height.flatten()], dim=1)


def _tensors(sizes, ratios):
    return torch.tensor(sizes), torch.tensor(ratios)[:, None]


def _width_over_height(sizes, ratios):
    side, ratio = _tensors(sizes, ratios)
    return _shapes(side * ratio.sqrt(), side / ratio.sqrt())


def _area_grows(sizes, ratios):
    side, ratio = _tensors(sizes, ratios)
    return _shapes(side.expand(len(ratios), -1), side * ratio)


def _no_root(sizes, ratios):
    side, ratio = _tensors(sizes, ratios)
    return _shapes(side / ratio, side * ratio)


def _size_major(sizes, ratios):
    side, ratio = _tensors(sizes, ratios)
    return _shapes(side / ratio.sqrt(), side * ratio.sqrt(), swap=True)


def _whole_pixels(sizes, ratios):
    side, ratio = _tensors(sizes, ratios)
    return _shapes((side / ratio.sqrt() / 2).round() * 2, (side * ratio.sqrt() / 2).round() * 2)


def _size_is_the_area(sizes, ratios):
    side, ratio = _tensors(sizes, ratios)
    return _shapes(side.sqrt() / ratio.sqrt(), side.sqrt() * ratio.sqrt())


# --- 03.3 -----------------------------------------------------------------------------------------------------------

PYRAMID = [(2, 3), (1, 2)]


def _place(case, index, level_shapes, shapes, want, answer):
    inputs = {"index": index, "level_shapes": level_shapes, "shapes": shapes}
    compare(case, inputs, answer(index, level_shapes, shapes), want)


def first_prior(answer):
    _place("Prior 0 is the first shape of the first cell", 0, PYRAMID, 2, (0, 0, 0, 0), answer)


def second_shape(answer):
    _place("Prior 1 is the second shape of the first cell", 1, PYRAMID, 2, (0, 0, 0, 1), answer)


def next_cell(answer):
    _place(
        "With two shapes per cell, prior 2 begins the cell to the right of the first",
        2,
        PYRAMID,
        2,
        (0, 0, 1, 0),
        answer,
    )


def second_row(answer):
    _place("With three columns of two shapes, prior 6 begins the second row", 6, PYRAMID, 2, (0, 1, 0, 0), answer)


def last_of_level(answer):
    _place("Prior 11 is the last of a first level with twelve", 11, PYRAMID, 2, (0, 1, 2, 1), answer)


def first_of_next_level(answer):
    _place("Prior 12 is the first of the second level, after twelve on the first", 12, PYRAMID, 2, (1, 0, 0, 0), answer)


def inside_next_level(answer):
    _place(
        "On the second level rows and columns are counted from the start of that level",
        15,
        PYRAMID,
        2,
        (1, 0, 1, 1),
        answer,
    )


def retinanet(answer):
    shapes = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    _place("Prior 201,599 is RetinaNet's last on an input of 800 x 1344 px", 201_599, shapes, 9, (4, 6, 10, 8), answer)


def _walk(index, level_shapes, shapes, *, limit=0, subtract=True, split=None):
    for level, (rows, columns) in enumerate(level_shapes):
        count = rows * columns * shapes
        if index < count + limit or level == len(level_shapes) - 1:
            return (level, *split(index, rows, columns, shapes))
        index -= count if subtract else 0


def _usual(index, rows, columns, shapes):
    cell, shape = divmod(index, shapes)
    return (*divmod(cell, columns), shape)


def _down_the_columns(index, rows, columns, shapes):
    cell, shape = divmod(index, shapes)
    column, row = divmod(cell, rows)
    return row, column, shape


def _all_cells_of_a_shape(index, rows, columns, shapes):
    shape, cell = divmod(index, rows * columns)
    return (*divmod(cell, columns), shape)


def _rows_for_columns_in_divmod(index, rows, columns, shapes):
    cell, shape = divmod(index, shapes)
    return (*divmod(cell, rows), shape)


def _wrong_walk(**options):
    return lambda index, level_shapes, shapes: _walk(index, level_shapes, shapes, **{"split": _usual} | options)


# --- 03.4 -----------------------------------------------------------------------------------------------------------

ANCHOR = [10.0, 20, 30, 60]


def _decode(case, deltas, anchors, answer):
    deltas, anchors = torch.tensor(deltas), torch.tensor(anchors)
    got, want = answer(deltas, anchors), decode_deltas(deltas, anchors)
    compare(case, {"deltas": deltas, "anchors": anchors}, got, want, atol=1e-3, draw=lambda: _three(got, want, anchors))


def _three(got, want, anchors):
    figure, (ax,) = plot.figure()
    reach = torch.cat([got.reshape(-1, 4), want.reshape(-1, 4), anchors.reshape(-1, 4)])
    edge = int(reach.max().clamp(16, 400)) + 8
    plot.scene(ax, (edge, edge))
    plot.boxes(ax, anchors, "prior")
    plot.boxes(ax, want, "good")
    plot.boxes(ax, got, "prediction")
    plot.legend(ax, prior="anchor", good="right", prediction="yours")
    return figure


def all_zero(answer):
    _decode("Four zeros decode to the anchor itself", [[0.0, 0, 0, 0]], [ANCHOR], answer)


def only_a_shift(answer):
    _decode(
        "tx = 0.5 and ty = -0.25 shift by half the anchor's width to the right and a quarter of its height up",
        [[0.5, -0.25, 0, 0]],
        [ANCHOR],
        answer,
    )


def only_a_size(answer):
    _decode(
        "tw = ln 2 and th = -ln 2 make the box twice as wide and half as high, about the same centre",
        [[0.0, 0, 0.6931472, -0.6931472]],
        [ANCHOR],
        answer,
    )


def both_at_once(answer):
    deltas = [[0.1, 0.2, 0.3, -0.4], [-0.5, 0.0, -0.2, 0.1]]
    _decode("Two anchors are shifted and change their size at once", deltas, [ANCHOR, [40.0, 8, 44, 88]], answer)


def one_and_many(answer):
    _decode("A single box of shape [4] is decoded as well", [0.1, 0.2, 0.3, -0.4], ANCHOR, answer)
    _decode(
        "A batch of shape [2, 1, 4] is decoded with the same anchors",
        [[[0.1, 0, 0, 0]], [[0, 0, 0.5, 0]]],
        [ANCHOR],
        answer,
    )


def _parts(anchors):
    size = anchors[..., 2:] - anchors[..., :2]
    return (anchors[..., :2] + anchors[..., 2:]) / 2, size


def _corners(center, half):
    return torch.cat([center - half, center + half], dim=-1)


def _no_exponential(deltas, anchors):
    center, size = _parts(anchors)
    return _corners(center + deltas[..., :2] * size, (1 + deltas[..., 2:]) * size / 2)


def _shift_in_pixels(deltas, anchors):
    center, size = _parts(anchors)
    return _corners(center + deltas[..., :2], deltas[..., 2:].exp() * size / 2)


def _whole_size(deltas, anchors):
    center, size = _parts(anchors)
    return _corners(center + deltas[..., :2] * size, deltas[..., 2:].exp() * size)


def _from_the_corner(deltas, anchors):
    _, size = _parts(anchors)
    corner = anchors[..., :2] + deltas[..., :2] * size
    return torch.cat([corner, corner + deltas[..., 2:].exp() * size], dim=-1)


def _shift_by_the_new_size(deltas, anchors):
    center, size = _parts(anchors)
    new = deltas[..., 2:].exp() * size
    return _corners(center + deltas[..., :2] * new, new / 2)


def _height_for_width(deltas, anchors):
    center, size = _parts(anchors)
    return _corners(center + deltas[..., :2] * size.flip(-1), deltas[..., 2:].exp() * size / 2)


def _one_pixel_more(deltas, anchors):
    grown = anchors + torch.tensor([0.0, 0, 1, 1])
    return decode_deltas(deltas, grown) - torch.tensor([0.0, 0, 1, 1])


# --- 03.5 -----------------------------------------------------------------------------------------------------------

INPUT, STRIDES, FINER = (800, 1344), (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)
SHARE, FACTOR = "share on stride 8", "factor"


def where_they_are(guess):
    points, finer = Priors.points(INPUT, STRIDES), Priors.points(INPUT, FINER)
    truth = {SHARE: points.level_sizes[0] / len(points), FACTOR: len(finer) / len(points)}
    within = {SHARE: 0.04, FACTOR: 0.3}
    halved = "About the share: the next level has half as many rows *and* half as many columns."
    clues = [
        (lambda got: got[SHARE] > 1, "The share is a number between 0 and 1, not in percent."),
        ({SHARE: 0.2}, "About the share: the five levels are not equal. How many cells does each have?"),
        ({SHARE: 0.5}, halved),
        (
            lambda got: got[FACTOR] < 0.95,
            "About the factor: the strides got finer, so there are more points than before.",
        ),
        (
            lambda got: got[FACTOR] <= 1.05,
            "About the factor: there are five levels as before, but each has other strides.",
        ),
        ({FACTOR: 1.2}, "About the factor: the new level is larger than all the others together."),
        ({FACTOR: 2.0}, "About the factor: half the stride means twice as many rows *and* twice as many columns."),
    ]
    expect(guess, truth, within=within, clues=clues)


# --- 03.6 -----------------------------------------------------------------------------------------------------------


def _all_cells(case, height, width, stride, answer):
    got, want = answer(height, width, stride), Priors.points((height, width), (stride,)).centers
    inputs = {"height": height, "width": width, "stride": stride}
    if isinstance(got, torch.Tensor) and got.shape == want.shape:
        wrong = (got != want).any(dim=1).nonzero()
        case += f"; yours are wrong from point {int(wrong[0])} on" if len(wrong) else ""
    compare(case, inputs, got, want, draw=lambda: _first_column(got, want, height, width, stride))


def _first_column(got, want, height, width, stride):
    """The places that the rows of the output get which belong to the network's first column."""
    figure, (ax,) = plot.figure()
    plot.scene(ax, (height, width), title="points of the network's first column")
    every = math.ceil(width / stride)
    plot.points(ax, want[::every], "prior")
    plot.points(ax, got[::every], "prediction")
    plot.legend(ax, prior="right places", prediction="yours")
    return figure


def a_multiple(answer):
    _all_cells("At stride 8 an image of 64 x 96 px has 8 rows of 12 points", 64, 96, 8, answer)


def a_rest(answer):
    _all_cells("An image of 64 x 103 px has a point in every cell of stride 8", 64, 103, 8, answer)


def half_a_cell(answer):
    _all_cells("In 64 x 100 px the width is 12.5 strides, and half a column needs its points too", 64, 100, 8, answer)


def widths_around(answer):
    for width in range(97, 105):
        _all_cells(f"Points of stride 8 cover the whole width of {width} px", 40, width, 8, answer)


def odd_heights(answer):
    for height in (41, 47, 50):
        _all_cells(f"Points of stride 8 cover an image that is {height} px high", height, 52, 8, answer)


def smaller_than_a_cell(answer):
    _all_cells("An image of 5 x 6 px is smaller than a cell of stride 8 and has one point", 5, 6, 8, answer)


def another_stride(answer):
    _all_cells("At stride 16 a width of 70 px is covered by fewer points", 40, 70, 16, answer)


def _by_columns(columns):
    """The given code with another count of columns."""

    def their_points(height, width, stride):
        n = torch.arange(math.ceil(height / stride) * math.ceil(width / stride))
        count = columns(height, width, stride)
        return stride * torch.stack([n % count + 0.5, n // count + 0.5], dim=1)

    return their_points


def _fewer_points(height, width, stride):
    n, columns = torch.arange(math.ceil(height / stride) * (width // stride)), width // stride
    return stride * torch.stack([n % columns + 0.5, n // columns + 0.5], dim=1)


def _squeezed(height, width, stride):
    points = Priors.points((height, width), (stride,)).centers
    return points * torch.tensor([width / stride / math.ceil(width / stride), 1])


def _rows_rounded_down(height, width, stride):
    n, columns = torch.arange((height // stride) * math.ceil(width / stride)), math.ceil(width / stride)
    return stride * torch.stack([n % columns + 0.5, n // columns + 0.5], dim=1)


EXERCISES = (
    Exercise(
        id="03.5",
        kind="P",
        title="Where are they all?",
        difficulty=1,
        minutes=3,
        hints=(),
        tests=(where_they_are,),
        mutants={
            "equal levels": ({SHARE: 0.2, FACTOR: 4.0}, "not equal"),
            "half of all": ({SHARE: 0.5, FACTOR: 4.0}, "half as many rows *and*"),
            "a level more": ({SHARE: 0.75, FACTOR: 1.2}, "larger than all the others together"),
            "twice as many": ({SHARE: 0.75, FACTOR: 2.0}, "twice as many rows *and*"),
            "as many as before": ({SHARE: 0.75, FACTOR: 1.0}, "other strides"),
            "fewer": ({SHARE: 0.75, FACTOR: 0.25}, "more points than before"),
            "percent": ({SHARE: 75, FACTOR: 4.0}, "between 0 and 1"),
        },
    ),
    Exercise(
        id="03.1",
        title="The points of a level",
        difficulty=2,
        minutes=8,
        hints=(
            "x depends on the column and y on the row. Because cell 1 is to the right of cell 0, x changes first.",
            "i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij') returns the row and the "
            "column of every cell as tables [rows, columns], and flatten() reads a table along its rows.",
            "x = (j + offset) * stride and y = (i + offset) * stride, from which "
            "torch.stack([x.flatten(), y.flatten()], dim=1) makes the pairs.",
        ),
        tests=(one_cell, one_row, more_columns_than_rows, more_rows_than_columns, corner_offset, an_odd_stride),
        mutants={
            "row for x": (_row_first, "single row"),
            "counted along the columns": (_along_columns, "counted along the rows"),
            "no offset": (_no_offset, "in the middle of the cell"),
            "offset in pixels": (_half_a_pixel, "in the middle of the cell"),
            "offset always 0.5": (_always_the_middle, "With offset 0"),
            "floor of half a stride": (_floor_of_half, "At an odd stride"),
            "rows and columns swapped": (_rows_for_columns, "single row"),
            "a table, not a list": (_a_table, "shape"),
        },
    ),
    Exercise(
        id="03.6",
        kind="B",
        title="The leaning grid",
        difficulty=2,
        minutes=6,
        hints=(
            "Work out by hand where point 12 of an image of 64 x 103 px is at stride 8. Which row is it in?",
            "n % columns and n // columns are right if `columns` is the length of a row. Compare it with the number "
            "of columns that the first line counts with.",
            "The first line rounds the number of columns up and the second rounds it down. Both should round up.",
        ),
        tests=(a_multiple, a_rest, half_a_cell, widths_around, odd_heights, smaller_than_a_cell, another_stride),
        mutants={
            "given": (GIVEN, "from point 12 on"),
            "round": (_by_columns(lambda h, w, s: round(w / s)), "12.5 strides"),
            "columns from the height": (_by_columns(lambda h, w, s: math.ceil(h / s)), "64 x 96"),
            "always one more": (_by_columns(lambda h, w, s: w // s + 1), "64 x 96"),
            "the number of points rounded down too": (_fewer_points, "64 x 103"),
            "squeezed into the image": (_squeezed, "64 x 103"),
            "rows rounded down": (_rows_rounded_down, "41 px high"),
            "rounded up from .5 on": (_by_columns(lambda h, w, s: int(w / s + 0.5)), "97 px"),
            "stride 8 written out": (_by_columns(lambda h, w, s: math.ceil(w / 8)), "stride 16"),
            "rows for columns": (lambda h, w, s: Priors.points((h, w), (s,)).centers.flip(1), "64 x 96"),
        },
    ),
    Exercise(
        id="03.2",
        title="The shapes of a cell",
        difficulty=2,
        minutes=10,
        hints=(
            "By the formula above the width is size / sqrt(ratio) and the height is size * sqrt(ratio).",
            "Broadcasting makes all pairs. If sizes are a row [S] and the square roots of the ratios a column [R, 1], "
            "dividing one by the other gives a table [R, S].",
            "With root = torch.tensor(ratios).sqrt()[:, None], side / root and side * root are tables [R, S]. Since "
            "flatten() reads a table row by row, which is ratio-major, it remains to stack both along dim=1.",
        ),
        tests=(a_square, high_and_narrow, two_of_each, no_rounding, more_sizes_than_ratios),
        mutants={
            "ratio as width over height": (_width_over_height, "ratio 4"),
            "the area grows with the ratio": (_area_grows, "ratio 4"),
            "no square root": (_no_root, "ratio 4"),
            "size-major": (_size_major, "all sizes of the first ratio"),
            "rounded to whole pixels": (_whole_pixels, "keeps the fractions"),
            "size taken for the area": (_size_is_the_area, "whose side is the size"),
        },
    ),
    Exercise(
        id="03.3",
        title="From a row of the output to its prior",
        difficulty=3,
        minutes=12,
        hints=(
            "A level has rows * columns * shapes priors. Go through the levels, and if the index is not smaller than "
            "that number, subtract it before you go on to the next.",
            "Inside a level shapes change fastest, then columns, then rows. Divide by the number of shapes first, "
            "because the remainder is the shape and the quotient counts the cells.",
            "cell, shape = divmod(index, shapes), and then row, column = divmod(cell, columns).",
        ),
        tests=(
            first_prior,
            second_shape,
            next_cell,
            second_row,
            last_of_level,
            first_of_next_level,
            inside_next_level,
            retinanet,
        ),
        mutants={
            "cells counted down the columns": (_wrong_walk(split=_down_the_columns), "to the right of the first"),
            "shape changes slowest": (_wrong_walk(split=_all_cells_of_a_shape), "second shape of the first cell"),
            "rows for columns": (_wrong_walk(split=_rows_for_columns_in_divmod), "second row"),
            "<= for < at the end of a level": (_wrong_walk(limit=1), "the first of the second level"),
            "the level's start is not subtracted": (_wrong_walk(subtract=False), "second level"),
            "row and column swapped": (
                lambda i, s, k: (lambda p: (p[0], p[2], p[1], p[3]))(_walk(i, s, k, split=_usual)),
                "to the right",
            ),
        },
    ),
    Exercise(
        id="03.4",
        title="Decode",
        difficulty=3,
        minutes=10,
        hints=(
            "The first equation gives x = xa + tx * wa. Since the exponential undoes the logarithm, w = wa * exp(tw).",
            "You can work on two columns at once. anchors[..., 2:] - anchors[..., :2] is (wa, ha), half the sum of the "
            "two is (xa, ya), deltas[..., :2] is (tx, ty), and deltas[..., 2:].exp() multiplies the size.",
            "center = (xa, ya) + (tx, ty) * (wa, ha) and half = exp((tw, th)) * (wa, ha) / 2. The corners are "
            "center - half and center + half, which torch.cat joins along dim=-1.",
        ),
        tests=(all_zero, only_a_shift, only_a_size, both_at_once, one_and_many),
        mutants={
            "no exponential": (_no_exponential, "twice as wide"),
            "shift in pixels": (_shift_in_pixels, "half the anchor's width"),
            "whole size to both sides": (_whole_size, "Four zeros"),
            "from the corner": (_from_the_corner, "about the same centre"),
            "shift measured in the new size": (_shift_by_the_new_size, "change their size at once"),
            "height for width": (_height_for_width, "half the anchor's width"),
            "one pixel too many": (_one_pixel_more, "half the anchor's width"),
            "only two dimensions": (
                lambda d, a: decode_deltas(d[:, :], a),
                "too many indices",
            ),
        },
    ),
)
