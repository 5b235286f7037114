"""The exercises of chapter 03: points of a level, shapes of a cell, the order of priors, decoding."""

import torch

from labelkit import Priors, plot
from labelkit.boxes import decode_deltas
from labelkit_course import Exercise, compare

# --- 03.1 -----------------------------------------------------------------------------------------------------------


def _level(case, rows, columns, stride, offset, answer):
    got = answer(rows, columns, stride, offset)
    want = Priors.points((rows * stride, columns * stride), (stride,), offset).centers
    inputs = {"rows": rows, "columns": columns, "stride": stride, "offset": offset}
    compare(case, inputs, got, want, draw=lambda: _two_grids(got, want, rows * stride, columns * stride))


def _two_grids(got, want, height, width):
    figure, (ax,) = plot.figure()
    plot.scene(ax, (height, width), title="numbered in your order")
    plot.points(ax, want, "prior")
    plot.points(ax, got, "prediction")
    for number, (x, y) in enumerate(got.tolist()):
        ax.text(x, y, f"  {number}", fontsize=9)
    plot.legend(ax, prior="right places", prediction="yours")
    return figure


def one_cell(answer):
    _level("One cell: its middle", 1, 1, 16, 0.5, answer)


def one_row(answer):
    _level("A single row: x grows, y stays", 1, 4, 8, 0.5, answer)


def more_columns_than_rows(answer):
    _level("Two rows of three columns, counted along the rows", 2, 3, 16, 0.5, answer)


def more_rows_than_columns(answer):
    _level("Three rows of two columns", 3, 2, 8, 0.5, answer)


def corner_offset(answer):
    _level("Offset 0: in the corner of the cell", 2, 3, 8, 0.0, answer)


def an_odd_stride(answer):
    _level("An odd stride has its middle between two pixels", 2, 2, 5, 0.5, answer)


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
    _cell("Ratio 1 gives a square", (16.0,), (1.0,), answer)


def high_and_narrow(answer):
    _cell("Ratio 4 is four times as high as wide, with the area of the square", (16.0,), (4.0,), answer)


def two_of_each(answer):
    _cell("Two sizes and two ratios: all sizes of the first ratio come first", (16.0, 64.0), (1.0, 4.0), answer)


def no_rounding(answer):
    _cell("A small anchor keeps its fractions", (5.0,), (0.5, 1.0), answer)


def more_sizes_than_ratios(answer):
    _cell("Three sizes and one ratio", (8.0, 10.0, 13.0), (0.25,), answer)


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
    _place("The first prior", 0, PYRAMID, 2, (0, 0, 0, 0), answer)


def second_shape(answer):
    _place("The second shape of the first cell", 1, PYRAMID, 2, (0, 0, 0, 1), answer)


def next_cell(answer):
    _place("The cell to the right of the first", 2, PYRAMID, 2, (0, 0, 1, 0), answer)


def second_row(answer):
    _place("The first cell of the second row", 6, PYRAMID, 2, (0, 1, 0, 0), answer)


def last_of_level(answer):
    _place("The last prior of the first level", 11, PYRAMID, 2, (0, 1, 2, 1), answer)


def first_of_next_level(answer):
    _place("The first prior of the second level", 12, PYRAMID, 2, (1, 0, 0, 0), answer)


def inside_next_level(answer):
    _place("A prior of the second level counts from the level's start", 15, PYRAMID, 2, (1, 0, 1, 1), answer)


def retinanet(answer):
    shapes = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    _place("The last prior of RetinaNet on 800 x 1344", 201_599, shapes, 9, (4, 6, 10, 8), answer)


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
    _decode("Four zeros give the anchor itself", [[0.0, 0, 0, 0]], [ANCHOR], answer)


def only_a_shift(answer):
    _decode("Half an anchor width to the right, a quarter of its height up", [[0.5, -0.25, 0, 0]], [ANCHOR], answer)


def only_a_size(answer):
    _decode("tw = ln 2, th = -ln 2: twice as wide, half as high", [[0.0, 0, 0.6931472, -0.6931472]], [ANCHOR], answer)


def both_at_once(answer):
    deltas = [[0.1, 0.2, 0.3, -0.4], [-0.5, 0.0, -0.2, 0.1]]
    _decode("Two anchors, shift and size at once", deltas, [ANCHOR, [40.0, 8, 44, 88]], answer)


def one_and_many(answer):
    _decode("One box, a tensor of shape [4]", [0.1, 0.2, 0.3, -0.4], ANCHOR, answer)
    _decode("A batch, [2, 1, 4], with the same anchors", [[[0.1, 0, 0, 0]], [[0, 0, 0.5, 0]]], [ANCHOR], answer)


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


EXERCISES = (
    Exercise(
        id="03.1",
        title="The points of a level",
        difficulty=2,
        minutes=8,
        hints=(
            "x depends on the column, y on the row. Cell number 1 lies to the right of cell number 0, so x changes "
            "first.",
            "i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij') gives the row and the "
            "column of every cell, as tables [rows, columns]. Flattened, they run along the rows.",
            "x = (j + offset) * stride, y = (i + offset) * stride. Then "
            "torch.stack([x.flatten(), y.flatten()], dim=1).",
        ),
        tests=(one_cell, one_row, more_columns_than_rows, more_rows_than_columns, corner_offset, an_odd_stride),
        mutants={
            "row for x": (_row_first, "single row"),
            "counted along the columns": (_along_columns, "counted along the rows"),
            "no offset": (_no_offset, "its middle"),
            "offset in pixels": (_half_a_pixel, "its middle"),
            "offset always 0.5": (_always_the_middle, "Offset 0"),
            "floor of half a stride": (_floor_of_half, "An odd stride"),
            "rows and columns swapped": (_rows_for_columns, "single row"),
            "a table, not a list": (_a_table, "shape"),
        },
    ),
    Exercise(
        id="03.2",
        title="The shapes of a cell",
        difficulty=2,
        minutes=10,
        hints=(
            "The formula stands above: width is size / sqrt(ratio), height is size * sqrt(ratio).",
            "To get all pairs, let broadcasting work: sizes as a row [S], square roots of the ratios as a column "
            "[R, 1]. A column with a row gives a table [R, S].",
            "root = torch.tensor(ratios).sqrt()[:, None]; side / root and side * root are tables [R, S]. flatten() "
            "reads a table row by row, which is ratio-major. Stack both along dim=1.",
        ),
        tests=(a_square, high_and_narrow, two_of_each, no_rounding, more_sizes_than_ratios),
        mutants={
            "ratio as width over height": (_width_over_height, "Ratio 4"),
            "the area grows with the ratio": (_area_grows, "Ratio 4"),
            "no square root": (_no_root, "Ratio 4"),
            "size-major": (_size_major, "all sizes of the first ratio"),
            "rounded to whole pixels": (_whole_pixels, "keeps its fractions"),
            "size taken for the area": (_size_is_the_area, "gives a square"),
        },
    ),
    Exercise(
        id="03.3",
        title="From a row of the output to its prior",
        difficulty=3,
        minutes=12,
        hints=(
            "A level has rows * columns * shapes priors. Walk through the levels: if the index is smaller than the "
            "level's number, you are there. If not, subtract that number and go on.",
            "Inside a level: shapes change fastest, then columns, then rows. So divide by shapes first: the "
            "remainder is the shape, the quotient counts the cells.",
            "cell, shape = divmod(index, shapes), then row, column = divmod(cell, columns).",
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
            "<= for < at the end of a level": (_wrong_walk(limit=1), "first prior of the second level"),
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
            "x = xa + tx * wa. The opposite of the logarithm is the exponential: w = wa * exp(tw).",
            "Work on two columns at once: anchors[..., 2:] - anchors[..., :2] is (wa, ha), the mean of the two is "
            "(xa, ya), deltas[..., :2] is (tx, ty), deltas[..., 2:].exp() multiplies the size.",
            "center = (xa, ya) + (tx, ty) * (wa, ha); half = exp((tw, th)) * (wa, ha) / 2; the corners are "
            "center - half and center + half, joined with torch.cat along dim=-1.",
        ),
        tests=(all_zero, only_a_shift, only_a_size, both_at_once, one_and_many),
        mutants={
            "no exponential": (_no_exponential, "tw = ln 2"),
            "shift in pixels": (_shift_in_pixels, "Half an anchor width"),
            "whole size to both sides": (_whole_size, "Four zeros"),
            "from the corner": (_from_the_corner, "tw = ln 2"),
            "shift measured in the new size": (_shift_by_the_new_size, "shift and size at once"),
            "height for width": (_height_for_width, "Half an anchor width"),
            "one pixel too many": (_one_pixel_more, "Half an anchor width"),
            "only two dimensions": (
                lambda d, a: decode_deltas(d[:, :], a),
                "too many indices",
            ),
        },
    ),
)
