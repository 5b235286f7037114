"""Windows: which cells of the grid can matter to a ground truth, and their pairs, a bounded number at a time.

A window is a rectangle of cells, found by arithmetic from a reach in x and y, clamped to the grid and widened by a
hair. It only narrows the search: whoever asks tests exactly afterwards. Priors without a grid come in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.grid import Grid

SMALL = 1 << 16  # so few pairs in all are evaluated without looking for windows first
CHUNK = 1 << 15  # pairs from windows at once: enough to hide the cost of a call, few enough for the cache
BLOCK = 1 << 17  # pairs in a block of priors x ground truths, whose intermediate values need no indices


@dataclass(frozen=True, eq=False)
class Windows:
    """For every (ground truth, grid row) a rectangle of cells: first cell and extent, [2, G, M] for (x, y)."""

    start: Int[Tensor, "2 G M"]
    extent: Int[Tensor, "2 G M"]


def around(
    grid: Grid, center: Float[Tensor, "G 2"], reach_x: Float[Tensor, "G M"], reach_y: Float[Tensor, "G M"]
) -> Windows:
    """The cells whose centre lies within the reach of each ground truth's centre, clamped to the grid.

    A negative reach (or NaN) gives an empty window, an infinite one all cells. Windows are widened: by the grid's hair,
    which follows the coordinates of the priors, and by 0.01 px and 1e-5 of what is computed with here. So rounding can
    only add cells: test exactly afterwards.
    """
    reach = torch.stack((reach_x, reach_y))
    place = center.T[:, :, None].to(reach.dtype)
    # 1.00001 reach + 0.00001 |place| + 0.01 + hair, in few calls: they are what a small image costs.
    wide = torch.add(torch.add(grid.margin, place.abs(), alpha=1e-5), reach, alpha=1 + 1e-5)
    place = place - grid.origin
    low = (place - wide).div_(grid.stride).ceil_().clamp_(min=0)
    high = torch.minimum((place + wide).div_(grid.stride).floor_(), grid.last)
    extent = (high - low + 1).clamp_(min=0)
    extent = torch.where(reach >= 0, extent, 0)
    # An empty window may start far outside the grid: keep its index small enough for an int32.
    return Windows(torch.minimum(low, grid.last).int(), extent.int())


def nearest(grid: Grid, center: Float[Tensor, "G 2"], cells: int) -> Windows:
    """The `cells` x `cells` cells of every grid row nearest to each ground truth (fewer on a small level)."""
    place = (center.T[:, :, None].to(grid.origin.dtype) - grid.origin) / grid.stride
    start = (place - (cells - 1) / 2).round().clamp(min=0)
    extent = (grid.last + 1).clamp(max=cells)
    start = torch.minimum(start, grid.last + 1 - extent)
    return Windows(start.int(), extent.expand_as(start).int())


def cells(grid: Grid, window: Windows) -> Iterator[tuple[Tensor, Tensor]]:
    """Flatten windows to (prior, gt) index vectors, int32, ordered by ground truth, in chunks of about CHUNK pairs.

    One window is never split, so a chunk holds at most CHUNK pairs plus the largest window.
    """
    extent_x, extent_y = window.extent
    count = (extent_x * extent_y).flatten()
    used = count.nonzero().squeeze(1)
    if used.shape[0] == 0:
        return
    row = used % len(grid)
    columns, step, first = (part.index_select(0, row) for part in (grid.columns, grid.step, grid.first))
    start_x, start_y, width, height = (side.flatten().index_select(0, used) for side in (*window.start, *window.extent))
    first = first + (start_y * columns + start_x) * step
    table = torch.stack((first, columns * step, step, width, used // len(grid), height)).int()
    for low, high, pairs in _cuts(count.index_select(0, used).cumsum(0)):
        yield _flatten(table[:, low:high], pairs)


def _flatten(table: Int[Tensor, "6 n"], pairs: int) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
    """(prior, gt) of all cells of n windows: first the lines of every window, then the cells of every line.

    table: first prior, priors from line to line, priors from cell to cell, cells in a line, ground truth, lines.
    Most of the arithmetic is done once a line, and three steps are left to do for a pair.
    """
    *parts, height = table
    window = torch.repeat_interleave(height)
    first, line, step, width, gt = (part.index_select(0, window) for part in parts)
    first = first + line * _place_in_group(height, window)
    # Pair number i of the chunk is cell i - before of its line, and stands at first + (i - before) * step.
    before = width.cumsum(0, dtype=torch.int32) - width
    first = first - before * step
    which = torch.repeat_interleave(width, output_size=pairs)
    number = torch.arange(pairs, dtype=torch.int32, device=table.device)
    prior = number.mul_(step.index_select(0, which)).add_(first.index_select(0, which))
    return prior, gt.index_select(0, which)


def _place_in_group(size: Int[Tensor, "n"], group: Int[Tensor, "m"]) -> Int[Tensor, "m"]:
    """0, 1, 2, ... within every group of consecutive elements."""
    before = size.cumsum(0, dtype=torch.int32) - size
    return torch.arange(group.shape[0], dtype=torch.int32, device=size.device) - before.index_select(0, group)


def _cuts(end: Int[Tensor, "n"]) -> list[tuple[int, int, int]]:
    """Cut windows into runs of about CHUNK pairs: (first window, last + 1, pairs). end: pairs up to each window."""
    total = int(end[-1])
    if total <= CHUNK:
        return [(0, end.shape[0], total)]
    marks = torch.arange(CHUNK, total, CHUNK, device=end.device)
    edges = torch.unique(torch.searchsorted(end, marks) + 1)
    edges = edges[edges < end.shape[0]]
    pairs = [0, *end[edges - 1].tolist(), total]
    edges = [0, *edges.tolist(), end.shape[0]]
    return [(edges[i], edges[i + 1], pairs[i + 1] - pairs[i]) for i in range(len(pairs) - 1)]


def blocks(priors: int, gts: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of priors and of ground truths with at most BLOCK pairs, some of each: what belongs to a prior alone, its
    area say, is then computed once for several ground truths. Ground truths are the outer loop."""
    side = max(1, min(priors, max(BLOCK // 16, BLOCK // max(gts, 1))))
    step = max(1, BLOCK // side)
    for low in range(0, gts, step):
        for start in range(0, priors, side):
            yield slice(start, min(start + side, priors)), slice(low, min(low + step, gts))
