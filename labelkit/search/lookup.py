"""Looking up: boxes that nobody asks for again find their ground truths without being sorted.

Buckets sort the boxes, which pays where the same are asked again. What a network decodes is new at every step. So the
roles change: each ground truth is entered in a table, in all cells that a box may stand in to have an IoU of f or more
with it, and a box reads its own cell. The cells are squares, of one size for each class of area, from one power of 2 to
the next:

- The smaller area is at least f of the larger: that says which classes.
- The intersection has at least the share f of either width w, w': so f w' <= w <= w' / f, and the centres are apart by
  (w + w') / 2 - f max(w, w') at most, which is never more than w' max(1 - f, (1 / f - 1) / 2). The same in y.

Rounding: a box and the bounds of a ground truth find their cell by the same steps, none of which falls where its
argument rises. What is left are the roundings of areas, centres and the value, a few 1e-7 of each: the bounds are wider
by 1e-5. The table only narrows: its pairs are evaluated exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.boxes import centers, extents
from labelkit.priors import Priors
from labelkit.search.buckets import in_chunks
from labelkit.search.pairs import Pairs
from labelkit.search.plausible import plausible, scorer
from labelkit.similarity import iou

ENOUGH = 1 << 18  # pairs: fewer are evaluated in blocks before a table is made
DEARER = 4  # a pair from the table costs so many times one of a block
_LEAST = 0.1  # a lower floor leaves little out
_SLACK = 1e-5  # a hundred roundings
_TINY, _HUGE = 1e-30, 1e30  # square pixels: between them an IoU has all its digits
_SHARE = 1 / 2  # a cell's side, of that of a square of the least area of its class


@dataclass(frozen=True, eq=False)
class Cells:
    """lowest: the exponent of the first class of area; the first and the last class are for all that are beyond.
    origin, extent: (x, y) of the part that is cut into cells, in pixels; what stands outside is counted to its border.
    per_pixel, columns, first: of each class the cells in a pixel and in a line, and the number of its first cell.
    total: all cells."""

    lowest: int
    origin: tuple[float, float]
    extent: tuple[float, float]
    per_pixel: Float[Tensor, "M"]
    columns: Int[Tensor, "M"]
    first: Int[Tensor, "M"]
    total: int

    def row(self, area: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
        """The class of an area; of what is no number, one of the two that are beyond."""
        return _exponent(area).sub_(self.lowest).clamp_(0, len(self.first) - 1)

    def place(self, axis: int, center: Float[Tensor, "n"], per_pixel: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
        """The column (axis 0) or the line (axis 1) that a centre stands in."""
        return center.sub(self.origin[axis]).clamp_(0, self.extent[axis]).mul_(per_pixel).int()

    def of(self, sides: Float[Tensor, "4 P"]) -> Int[Tensor, "P"]:
        """The cell of each box."""
        x1, y1, x2, y2 = sides
        row = self.row((x2 - x1).mul_(y2 - y1))
        per_pixel = self.per_pixel.index_select(0, row)
        cell = self.place(1, (y1 + y2).mul_(0.5), per_pixel).mul_(self.columns.index_select(0, row))
        return cell.add_(self.place(0, (x1 + x2).mul_(0.5), per_pixel)).add_(self.first.index_select(0, row))


@dataclass(frozen=True, eq=False)
class Table:
    """The ground truths entered, cell by cell. run: the number of each cell among those that hold some, counted from 1;
    0 for one that holds none. first, count: where the entries of each of those begin, and how many they are."""

    run: Int[Tensor, "cells"]
    first: Int[Tensor, "r"]
    count: Int[Tensor, "r"]
    gt: Int[Tensor, "entries"]


def overlapping(boxes: Float[Tensor, "P 4"], gt: Float[Tensor, "G 4"], floor: float) -> Pairs:
    """All pairs of a box and a ground truth whose IoU is at least `floor`, in [0, 1], ordered by ground truth.

    Memory follows the boxes, the ground truths and the pairs found.
    """
    priors, found = Priors(boxes, (len(boxes),)), None
    if boxes.device.type == "cpu" and len(boxes) * len(gt) > ENOUGH and floor >= _LEAST:
        found = _looked_up(priors, gt, floor)
    return plausible(priors, gt, iou, floor) if found is None else found


def _looked_up(priors: Priors, gt: Float[Tensor, "G 4"], floor: float) -> Pairs | None:
    """The same; None where a table would not narrow the search, or its bounds do not hold."""
    size, low = extents(gt), floor * (1 - _SLACK)
    area = size[0] * size[1]
    least, most = (one.item() for one in torch.aminmax(area))
    if least < _TINY or most > _HUGE:
        return None
    reach, center = size * max(1 - low, (1 / low - 1) / 2), centers(gt).T
    reach += _SLACK * (center.abs() + reach)
    bounds = torch.stack((center - reach, center + reach)).to(priors.boxes.dtype)
    areas = torch.stack((area * (low * (1 - _SLACK)), area * ((1 + _SLACK) / low)))
    cells = _cells(bounds, areas, len(priors))
    table = None if cells is None else _entered(cells, bounds, areas, len(priors))
    if cells is None or table is None:
        return None
    run = table.run.index_select(0, cells.of(priors.sides))
    used = run.nonzero().squeeze(1)
    run = run.index_select(0, used) - 1
    first, count = table.first.index_select(0, run), table.count.index_select(0, run)
    if int(count.sum()) * DEARER > len(priors) * len(gt):
        return None
    score, found = scorer(priors, gt, iou), []
    for entry, prior in in_chunks(first, count, used) if len(used) else ():
        owner = table.gt.index_select(0, entry)
        value = score(prior, owner)
        found.append(Pairs(prior, owner, value)[value >= floor])
    pairs = Pairs.cat(found, priors)
    pairs = pairs[pairs.gt.argsort(stable=True)]
    return Pairs(pairs.prior, pairs.gt.long(), pairs.value)


def _cells(bounds: Float[Tensor, "2 2 G"], areas: Float[Tensor, "2 G"], boxes: int) -> Cells | None:
    """Cells for everything between the bounds, and for a border that nothing is entered in; None if they were many."""
    exponent = _exponent(areas)
    lowest = int(exponent.amin()) - 1
    number = torch.arange(lowest, int(exponent.amax()) + 2, dtype=bounds.dtype)
    side = torch.exp2((number - 127) / 2) * _SHARE
    border = float(side[-1])  # of a class in which nothing is entered: larger than the cells of those below
    origin = bounds[0].amin(dim=1) - border
    extent = bounds[1].amax(dim=1) - origin + border
    side = side.clamp(min=float((extent.prod() * len(side) / (2 * boxes)).sqrt()))  # two cells a box are enough
    per_pixel = 1 / side
    columns, rows = (extent[:, None] * per_pixel).floor() + 1
    if not float((columns * rows).sum()) <= 8 * (boxes + len(side)):
        return None
    count = (columns * rows).int()
    first = count.cumsum(0, dtype=torch.int32) - count
    (x, y), (width, height) = origin.tolist(), extent.tolist()
    return Cells(lowest, (x, y), (width, height), per_pixel, columns.int(), first, int(count.sum()))


def _entered(cells: Cells, bounds: Float[Tensor, "2 2 G"], areas: Float[Tensor, "2 G"], most: int) -> Table | None:
    """The table of what stands between the bounds; None if it had more than `most` entries, and 64 a ground truth."""
    low, high = cells.row(areas.flatten()).view(2, -1)
    row, owner = _flat(low, high - low + 1, torch.arange(len(low), dtype=torch.int32))
    per_pixel = cells.per_pixel.index_select(0, row)
    ends = [[cells.place(i, one[i].index_select(0, owner), per_pixel) for one in bounds] for i in range(2)]
    (left, right), (top, bottom) = ends
    across, down = right - left + 1, bottom - top + 1
    if int((across.long() * down).sum()) > most + 64 * len(low):
        return None
    line, which = _flat(top, down, torch.arange(len(row), dtype=torch.int32))
    first, columns = (part.index_select(0, row) for part in (cells.first, cells.columns))
    start, columns, across, owner = (part.index_select(0, which) for part in (first + left, columns, across, owner))
    cell, owner = _flat(start + line * columns, across, owner)
    cell, order = cell.sort()
    used, count = torch.unique_consecutive(cell, return_counts=True)
    run, count = torch.zeros(cells.total, dtype=torch.int32), count.int()
    run.index_copy_(0, used.long(), torch.arange(1, len(used) + 1, dtype=torch.int32))
    return Table(run, count.cumsum(0, dtype=torch.int32) - count, count, owner.index_select(0, order))


def _flat(begin: Int[Tensor, "n"], count: Int[Tensor, "n"], tag: Int[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    numbers, tags = zip(*in_chunks(begin, count, tag), strict=True)
    return torch.cat(numbers), torch.cat(tags)


def _exponent(area: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Of the power of 2 that an area has reached, plus 127; it never falls where the area rises. 255, or below 0, for
    what is no number."""
    return area.float().view(torch.int32) >> 23
