"""Candidates: who may match. The ways of finding pairs that every assigner starts from.

`plausible`: alike enough, or among the k most similar. `within`: centres near each other; `inside`: of these, the
centres inside a ground truth; `inside_or_near`: or close to its own. `nearest_per_level`: the k nearest centres of
every level. `challengers`: all that may take a prior from its holder; `owned`: the best of them. `cheapest`: the k
least by a cost that knows more than boxes. `decoded_overlaps`: by what the network regressed; `overlapping`: those of
them above a floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import accumulate

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labelkit.boxes import centers, encode_ltrb, extents, sizes
from labelkit.grid import Grid
from labelkit.priors import Priors
from labelkit.search import windows
from labelkit.search.buckets import buckets_of
from labelkit.search.challengers import challengers, owned
from labelkit.search.cheapest import cheapest
from labelkit.search.decoded import decoded_overlaps
from labelkit.search.elementwise import needs_size
from labelkit.search.lookup import overlapping
from labelkit.search.order import first_in_rows, first_k
from labelkit.search.pairs import Pairs, Similarity
from labelkit.search.plausible import plausible
from labelkit.search.reach import nearness

__all__ = [
    "Pairs",
    "Similarity",
    "challengers",
    "cheapest",
    "decoded_overlaps",
    "floored",
    "inside",
    "inside_or_near",
    "nearest_per_level",
    "needs_size",
    "overlapping",
    "owned",
    "plausible",
    "within",
]


def within(
    priors: Priors, center: Float[Tensor, "G 2"], reach: Callable[[], Float[Tensor, "2 G L"]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs whose centres are apart, in x and y, by no more than the reach of their level, and perhaps a hair more.

    (prior, gt) index vectors in chunks, with a grid or without; test exactly afterwards. On a GPU all pairs, where they
    are few: looking takes longer, and is waited for; the reach is not asked for then.
    """
    few = windows.portions(center.device).small >> 3  # whoever tests afterwards reads all four sides of each pair
    if center.device.type != "cpu" and len(priors) * len(center) <= few:
        everyone = torch.arange(len(priors), device=center.device).repeat(len(center))
        yield everyone, torch.arange(len(center), device=center.device).repeat_interleave(len(priors))
        return
    far = reach()
    if priors.grid is not None:
        window = windows.around(priors.grid, center, far.index_select(2, priors.grid.level))
        yield from windows.cells(priors.grid, window)
        return
    buckets = buckets_of(priors, center.shape[0])
    if buckets is None:
        yield from _within_blocks(priors, center, far)
        return
    for own in buckets.blocks(center.shape[0], 1):
        window = buckets.around(center[own], far[:, own].index_select(2, buckets.grid.level))
        if buckets.narrows(window, own.stop - own.start):
            for place, gt in buckets.pairs(window):
                yield buckets.order.index_select(0, place), gt + own.start
        else:
            for prior, gt in _within_blocks(priors, center[own], far[:, own]):
                yield prior, gt + own.start


def _within_blocks(
    priors: Priors, center: Float[Tensor, "G 2"], reach: Float[Tensor, "2 G L"]
) -> Iterator[tuple[Tensor, Tensor]]:
    """`within` for priors without a grid: every pair, a block at a time."""
    wide = reach + (0.01 + 1e-5 * (center.T[:, :, None].abs() + reach.abs()))
    wide = torch.where(reach >= 0, wide, -1)
    # So few that a pass for each level would cost more than it saves.
    if len(priors) * center.shape[0] <= windows.portions(center.device).chunk:
        levels = [wide[:, :, i : i + 1].expand(-1, -1, n) for i, n in enumerate(priors.level_sizes)]
        passes = [(0, len(priors), torch.cat(levels, dim=2))]
    else:
        ends = list(accumulate(priors.level_sizes, initial=0))
        passes = [(ends[i], n, wide[:, :, i : i + 1].expand(-1, -1, n)) for i, n in enumerate(priors.level_sizes)]
    for start, size, near in passes:
        place = priors.centers.T[:, start : start + size]
        for prior, owner in windows.blocks(size, center.shape[0], center.device):
            near_x = (place[0, None, prior] - center[owner, None, 0]).abs() <= near[0, owner, prior]
            near_y = (place[1, None, prior] - center[owner, None, 1]).abs() <= near[1, owner, prior]
            gt, index = (near_x & near_y).nonzero(as_tuple=True)
            yield index + (start + prior.start), gt + owner.start


def inside(
    priors: Priors, gt: Float[Tensor, "G 4"], min_side: float | None = None, radius: float | None = None
) -> Pairs:
    """All pairs of a ground truth and a prior whose centre lies strictly inside it: min(l, t, r, b) > 0.

    min_side: a side shorter than so many pixels is floored to it, about the box's centre, for this test only: what
    Ultralytics calls STAL. radius: and strictly within so many strides of the box's centre, max(|dx|, |dy|).
    The value of a pair is its least distance to a side, of the floored box.
    """
    found = [
        pairs[pairs.value > 0 if near is None else (pairs.value > 0) & near]
        for pairs, near in _measured(priors, gt, min_side, radius, torch.minimum)
    ]
    return Pairs.cat(found, priors)


def inside_or_near(
    priors: Priors, gt: Float[Tensor, "G 4"], min_side: float | None, radius: float
) -> tuple[Pairs, Bool[Tensor, "n"]]:
    """All pairs of which one of the two holds that `inside` asks for, and which of them are near. Those of a value
    above 0 are inside."""
    found, which = [], []
    for pairs, near in _measured(priors, gt, min_side, radius, torch.maximum):
        assert near is not None
        index = ((pairs.value > 0) | near).nonzero().squeeze(1)
        found.append(pairs[index])
        which.append(near.index_select(0, index))
    return Pairs.cat(found, priors), torch.cat([torch.zeros(0, dtype=torch.bool, device=priors.device), *which])


def _measured(
    priors: Priors,
    gt: Tensor,
    min_side: float | None,
    radius: float | None,
    both: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[tuple[Pairs, Bool[Tensor, "n"] | None]]:
    """Pairs in chunks with their least distance to a side of the floored box, and whether they are within the radius.
    both: of half the sides and the radius, in pixels, what a prior may be away at most."""
    center, shown = centers(gt), floored(gt, min_side)
    near = None if radius is None else radius * gt.new_tensor(priors.known_strides())

    def reach() -> Tensor:
        half = extents(shown)[:, :, None] / 2
        return half.expand(-1, -1, len(priors.level_sizes)) if near is None else both(half, near)

    for prior, owner in within(priors, center, reach):
        point = priors.centers.index_select(0, prior)
        pairs = Pairs(prior.long(), owner.long(), encode_ltrb(shown.index_select(0, owner), point).amin(dim=-1))
        if near is None:
            yield pairs, None
        else:
            offset = (point - center.index_select(0, owner)).abs().amax(dim=-1)
            yield pairs, offset < near.index_select(0, priors.levels.index_select(0, prior))


def floored(gt: Float[Tensor, "G 4"], min_side: float | None) -> Float[Tensor, "G 4"]:
    """The boxes with no side shorter than `min_side`, about the same centres; a side that is long enough is kept to
    the bit."""
    if min_side is None:
        return gt
    center, half = centers(gt).repeat(1, 2), gt.new_tensor([-1, -1, 1, 1]) * (min_side / 2)
    short = torch.stack(sizes(gt), dim=1).repeat(1, 2) < min_side
    return torch.where(short, center + half, gt)


def nearest_per_level(priors: Priors, gt: Float[Tensor, "G 4"], k: int) -> Pairs:
    """The k priors of each level nearest to each ground truth, centre to centre, ties to the lower index.

    The value of a pair is the squared distance. Memory beside the answer is bounded for every k.
    """
    if len(priors) == 0 or len(gt) == 0:
        return Pairs.cat([], priors)
    if len(priors) * len(gt) <= windows.portions(gt.device).small:
        return _nearest_at_once(priors, gt, k)
    levels = len(priors.level_sizes)
    some = max(1, windows.portions(gt.device).block // (levels * min(k, max(priors.level_sizes, default=0)) + 1))
    found = []
    for start in range(0, len(gt), some):
        part = gt if len(gt) <= some else gt[start : start + some]
        nearby = (
            _nearby_in_blocks(priors, part, k) if priors.grid is None else _nearby_on_grid(priors, priors.grid, part, k)
        )
        pairs = Pairs.cat(list(nearby), priors)
        group = pairs.gt * levels + priors.levels.index_select(0, pairs.prior)
        pairs = pairs[first_k(group, len(part) * levels, k, pairs.value, pairs.prior)]
        found.append(Pairs(pairs.prior, pairs.gt + start, pairs.value) if start else pairs)
    return Pairs.cat(found, priors)


def _nearest_at_once(priors: Priors, gt: Tensor, k: int) -> Pairs:
    """The same where looking for windows takes longer than measuring every distance, and is waited for."""
    offset = priors.centers.T[:, None] - centers(gt).T[:, :, None]
    dx, dy = offset.unbind()
    prior = first_in_rows(dx * dx + dy * dy, priors.level_sizes, k)
    owner = torch.arange(len(gt), device=gt.device)[:, None].expand_as(prior)
    prior, owner = prior.flatten(), owner.flatten()
    return Pairs(prior, owner, _squared_distances(priors, centers(gt).T, prior, owner))


def _squared_distances(priors: Priors, gt_center: Float[Tensor, "2 G"], prior: Tensor, owner: Tensor) -> Tensor:
    x1, y1, x2, y2 = priors.sides.index_select(1, prior)
    x, y = gt_center.index_select(1, owner)
    dx, dy = (x1 + x2) / 2 - x, (y1 + y2) / 2 - y
    return dx * dx + dy * dy


def _nearby_on_grid(priors: Priors, grid: Grid, gt: Tensor, k: int) -> Iterator[Pairs]:
    """Pairs that hold the k nearest priors of every level, and some more.

    Any k priors of a level lie within some distance of the ground truth; the k nearest lie within it too. The cells
    nearest to the ground truth give a short one: the distance of their farthest corner.
    """
    center = centers(gt)
    # Every cell holds `step` priors of its level: fewer cells suffice.
    side = math.isqrt(math.ceil(k / grid.smallest_step) - 1) + 1
    window = windows.nearest(grid, center, side)
    place = center.T[:, :, None] - grid.origin
    low, high = window.start * grid.stride, (window.start + window.extent - 1) * grid.stride
    radius = torch.maximum((place - low).abs(), (place - high).abs()).square().sum(dim=0).sqrt()
    radius = radius + 2 * grid.hair  # the stored centres: a hair in x and one in y
    radius = radius.masked_fill(window.extent[0] * window.extent[1] * grid.step < k, math.inf)
    # One radius a level: the cells count with all of their shapes, and the farthest of those decides.
    level = grid.level.expand_as(radius)
    farthest = radius.new_zeros(len(gt), len(priors.level_sizes)).scatter_reduce(1, level, radius, "amax")
    radius = farthest.gather(1, level)
    limit = farthest + 0.01 + 1e-5 * (center.abs().sum(dim=1, keepdim=True) + farthest)
    limit = limit.square().flatten()
    gt_center = center.T.contiguous()
    for prior, owner in windows.cells(grid, windows.around(grid, center, radius.expand(2, -1, -1))):
        value = _squared_distances(priors, gt_center, prior, owner)
        group = owner * len(priors.level_sizes) + priors.levels.index_select(0, prior)
        pairs = Pairs(prior.long(), owner.long(), value)
        yield pairs.some(value <= limit.index_select(0, group)).table  # a GPU sorts a few more, and waits once less


def _nearby_in_blocks(priors: Priors, gt: Tensor, k: int) -> Iterator[Pairs]:
    """The same without a grid, one level after another: the nearest priors are the most similar ones by `nearness`."""
    start, gt_center = 0, centers(gt).T.contiguous()
    for level in priors.by_level:
        found = plausible(level, gt, nearness, floor=math.inf, k=k)
        prior = found.prior + start
        yield Pairs(prior, found.gt, _squared_distances(priors, gt_center, prior, found.gt))
        start += len(level)
