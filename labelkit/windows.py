"""Windows: which cells of the grid can matter to a ground truth, and their pairs, a bounded number at a time.

A window is a rectangle of cells, found by arithmetic from a reach in x and y, clamped to the grid and widened by a
hair. It only narrows the search: whoever asks tests exactly afterwards. Priors without a grid come in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.priors import Grid, Priors

CHUNK = 1 << 15  # pairs from windows at once: enough to hide the cost of a call, few enough for the cache
BLOCK = 1 << 17  # pairs in a block of priors x ground truths, whose intermediate values need no indices


@dataclass(frozen=True, eq=False)
class Windows:
    """For every (ground truth, grid row) a rectangle of cells: first cell and extent, [2, G, M] for (x, y)."""

    start: Int[Tensor, "2 G M"]
    extent: Int[Tensor, "2 G M"]


def windows(
    grid: Grid, center: Float[Tensor, "G 2"], reach_x: Float[Tensor, "G M"], reach_y: Float[Tensor, "G M"]
) -> Windows:
    """The cells whose centre lies within the reach of each ground truth's centre, clamped to the grid.

    A negative reach (or NaN) gives an empty window, an infinite one all cells. Windows are widened by a hair
    (0.01 px and 1e-5 of the coordinates), so rounding can only add cells: test exactly afterwards.
    """
    reach = torch.stack((reach_x, reach_y))
    place = center.T[:, :, None].to(reach.dtype)
    wide = reach + (0.01 + 1e-5 * (place.abs() + reach.abs()))
    low = ((place - wide - grid.origin) / grid.stride).ceil_().clamp_(min=0)
    high = torch.minimum(((place + wide - grid.origin) / grid.stride).floor_(), grid.last)
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
    start_x, start_y = (side.flatten().index_select(0, used) for side in window.start)
    first = first + (start_y * columns + start_x) * step
    width = extent_x.flatten().index_select(0, used)
    count = count.index_select(0, used)
    end = count.cumsum(0)
    table = torch.stack((first, columns * step, step, width, used // len(grid), end - count)).int()
    for low, high, offset, total in _cuts(end):
        which = torch.repeat_interleave(count[low:high], output_size=total - offset)
        first, line, step, width, gt, before = (part[low:high].index_select(0, which) for part in table)
        local = torch.arange(offset, total, dtype=torch.int32, device=table.device) - before
        y = torch.div(local, width, rounding_mode="floor")
        yield first + y * line + (local - y * width) * step, gt


def _cuts(end: Int[Tensor, "n"]) -> list[tuple[int, int, int, int]]:
    """Cut windows into runs of about CHUNK pairs: (first window, last + 1, pairs before, pairs before the next)."""
    total = int(end[-1])
    if total <= CHUNK:
        return [(0, end.shape[0], 0, total)]
    marks = torch.arange(CHUNK, total, CHUNK, device=end.device)
    edges = torch.unique(torch.searchsorted(end, marks) + 1)
    edges = edges[edges < end.shape[0]]
    pairs = [0, *end[edges - 1].tolist(), total]
    edges = [0, *edges.tolist(), end.shape[0]]
    return list(zip(edges[:-1], edges[1:], pairs[:-1], pairs[1:], strict=True))


def within(
    priors: Priors, center: Float[Tensor, "G 2"], reach_x: Float[Tensor, "G L"], reach_y: Float[Tensor, "G L"]
) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs whose centres are apart by no more than the reach of their level, and perhaps a hair more.

    (prior, gt) index vectors in chunks, with a grid or without; test exactly afterwards.
    """
    if priors.grid is not None:
        row = priors.grid.level
        yield from cells(priors.grid, windows(priors.grid, center, reach_x[:, row], reach_y[:, row]))
        return
    reach = torch.stack((reach_x, reach_y))
    wide = reach + (0.01 + 1e-5 * (center.T[:, :, None].abs() + reach.abs()))
    wide = torch.where(reach >= 0, wide, -1)
    if len(priors) * center.shape[0] <= CHUNK:  # so few that a pass for each level would cost more than it saves
        passes = [(0, len(priors), wide.index_select(2, priors.levels))]
    else:
        ends = list(accumulate(priors.level_sizes, initial=0))
        passes = [(ends[i], n, wide[:, :, i : i + 1].expand(-1, -1, n)) for i, n in enumerate(priors.level_sizes)]
    for start, size, near in passes:
        place = priors.centers[start : start + size].T.contiguous()
        for prior, owner in blocks(size, center.shape[0]):
            near_x = (place[0, None, prior] - center[owner, None, 0]).abs() <= near[0, owner, prior]
            near_y = (place[1, None, prior] - center[owner, None, 1]).abs() <= near[1, owner, prior]
            gt, index = (near_x & near_y).nonzero(as_tuple=True)
            yield index + (start + prior.start), gt + owner.start


def blocks(priors: int, gts: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of priors and of ground truths with at most BLOCK pairs, some of each: what belongs to a prior alone, its
    area say, is then computed once for several ground truths. Ground truths are the outer loop."""
    side = max(1, min(priors, max(BLOCK // 16, BLOCK // max(gts, 1))))
    step = max(1, BLOCK // side)
    for low in range(0, gts, step):
        for start in range(0, priors, side):
            yield slice(start, min(start + side, priors)), slice(low, min(low + step, gts))
