"""Windows: which cells of the grid can matter to a ground truth, and their pairs, a bounded number at a time.

A window is a rectangle of cells, found by arithmetic from a reach in x and y, clamped to the grid and widened by a
hair. It only narrows the search: whoever asks tests exactly afterwards. Priors without a grid come in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.cuts import cuts as cuts_of
from labelkit.grid import Grid

SMALL = 1 << 16  # so few pairs in all are evaluated without looking for windows first
CHUNK = 1 << 15  # pairs from windows at once: enough to hide the cost of a call, few enough for the cache
BLOCK = 1 << 17  # pairs in a block of priors x ground truths, whose intermediate values need no indices


class Portions(NamedTuple):
    """How many pairs are taken at once: see SMALL, CHUNK and BLOCK."""

    small: int
    chunk: int
    block: int


# A GPU is idle while it is told what to do next: few long portions. 2^23 pairs are 32 MiB for each value of a pair;
# from there on reading memory takes longer than the launches that look for windows (benchmarks/counted.py).
ON_GPU = Portions(1 << 23, 1 << 22, 1 << 23)


def portions(device: torch.device) -> Portions:
    """Those for this device."""
    return Portions(SMALL, CHUNK, BLOCK) if device.type == "cpu" else ON_GPU


@dataclass(frozen=True, eq=False)
class Windows:
    """For every (ground truth, grid row) a rectangle of cells: first cell and extent, [2, G, M] for (x, y)."""

    start: Int[Tensor, "2 G M"]
    extent: Int[Tensor, "2 G M"]


def around(grid: Grid, center: Float[Tensor, "G 2"], reach: Float[Tensor, "2 G M"]) -> Windows:
    """The cells whose centre lies within the reach of each ground truth's centre in x and y, clamped to the grid.

    A negative reach (or NaN) gives an empty window, an infinite one all cells. Windows are widened: by the grid's hair,
    which follows the coordinates of the priors, and by 0.01 px and 1e-5 of what is computed with here. So rounding can
    only add cells: test exactly afterwards.
    """
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
    (start_x, start_y), (width, height) = window.start, window.extent
    first = grid.first + (start_y * grid.columns + start_x) * grid.step
    owner = torch.arange(width.shape[0], device=width.device)[:, None]
    parts = torch.broadcast_tensors(first, grid.line, grid.step, width, owner, height)
    table, count = torch.stack(parts).int().flatten(1), (width * height).flatten()
    if count.device.type == "cpu":  # elsewhere the number of those that hold something would have to be waited for
        used = count.nonzero().squeeze(1)
        table, count = table.index_select(1, used), count.index_select(0, used)
    if count.shape[0] == 0:
        return
    ends = torch.stack((count, table[-1])).cumsum(1)
    for low, high, pairs, lines in cuts(ends):
        yield _flatten(table[:, low:high], pairs, lines)


def _flatten(table: Int[Tensor, "6 n"], pairs: int, lines: int) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
    """(prior, gt) of all cells of n windows: first the lines of every window, then the cells of every line.

    table: first prior, priors from line to line, priors from cell to cell, cells in a line, ground truth, lines.
    Most of the arithmetic is done once a line, and three steps are left to do for a pair.
    """
    height = table[-1]
    window = torch.repeat_interleave(height, output_size=lines)
    first, line, step, width, gt = table[:-1].index_select(1, window)
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


def cuts(ends: Int[Tensor, "2 n"]) -> Iterator[tuple[int, ...]]:
    """Cut windows into runs of about CHUNK pairs: (first window, last + 1, pairs, lines).

    ends: the pairs, and the lines, up to each window.
    """
    return cuts_of(ends, portions(ends.device).chunk)


def blocks(priors: int, gts: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Ranges of priors and of ground truths with at most BLOCK pairs, some of each: what belongs to a prior alone, its
    area say, is then computed once for several ground truths. Ground truths are the outer loop."""
    block = portions(device).block
    side = max(1, min(priors, max(block // 16, block // max(gts, 1))))
    step = max(1, block // side)
    for low in range(0, gts, step):
        for start in range(0, priors, side):
            yield slice(start, min(start + side, priors)), slice(low, min(low + step, gts))
