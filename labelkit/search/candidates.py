"""Candidates: who may match. The ways of finding pairs that every assigner starts from.

`plausible`: alike enough, or among the k most similar. `within`: centres near each other; `inside`: of these, the
centres inside a ground truth. `nearest_per_level`: the k nearest centres of every level. `challengers`: all that may
take a prior from its holder. `cheapest`: the k least by a cost that knows more than boxes. `decoded_overlaps`: by what
the network regressed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from labelkit.boxes import centers, encode_ltrb, sizes
from labelkit.grid import Grid
from labelkit.priors import Priors
from labelkit.search import windows
from labelkit.search.buckets import Buckets, buckets_of
from labelkit.search.decoded import decoded_overlaps
from labelkit.search.elementwise import checked, needs_size
from labelkit.search.order import first_k
from labelkit.search.pairs import Pairs, Similarity
from labelkit.search.plausible import lowered, plausible, reachable, scorer
from labelkit.search.reach import nearness, reach_of
from labelkit.search.windows import Windows

SlotOf = Callable[[Tensor, Tensor], Tensor]  # (prior, gt) -> where that prior stands over the whole batch

__all__ = [
    "Pairs",
    "Similarity",
    "challengers",
    "cheapest",
    "decoded_overlaps",
    "floored",
    "inside",
    "nearest_per_level",
    "needs_size",
    "plausible",
    "within",
]


def within(
    priors: Priors, center: Float[Tensor, "G 2"], reach_x: Float[Tensor, "G L"], reach_y: Float[Tensor, "G L"]
) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs whose centres are apart by no more than the reach of their level, and perhaps a hair more.

    (prior, gt) index vectors in chunks, with a grid or without; test exactly afterwards.
    """
    if priors.grid is not None:
        row = priors.grid.level
        yield from windows.cells(priors.grid, windows.around(priors.grid, center, reach_x[:, row], reach_y[:, row]))
        return
    buckets = buckets_of(priors, center.shape[0])
    if buckets is None:
        yield from _within_blocks(priors, center, torch.stack((reach_x, reach_y)))
        return
    for own in buckets.blocks(center.shape[0], 1):
        row = buckets.grid.level
        window = buckets.around(center[own], reach_x[own][:, row], reach_y[own][:, row])
        if buckets.narrows(window, own.stop - own.start):
            for place, gt in buckets.pairs(window):
                yield buckets.order.index_select(0, place), gt + own.start
        else:
            for prior, gt in _within_blocks(priors, center[own], torch.stack((reach_x, reach_y))[:, own]):
                yield prior, gt + own.start


def _within_blocks(
    priors: Priors, center: Float[Tensor, "G 2"], reach: Float[Tensor, "2 G L"]
) -> Iterator[tuple[Tensor, Tensor]]:
    """`within` for priors without a grid: every pair, a block at a time."""
    wide = reach + (0.01 + 1e-5 * (center.T[:, :, None].abs() + reach.abs()))
    wide = torch.where(reach >= 0, wide, -1)
    if (
        len(priors) * center.shape[0] <= windows.CHUNK
    ):  # so few that a pass for each level would cost more than it saves
        levels = [wide[:, :, i : i + 1].expand(-1, -1, n) for i, n in enumerate(priors.level_sizes)]
        passes = [(0, len(priors), torch.cat(levels, dim=2))]
    else:
        ends = list(accumulate(priors.level_sizes, initial=0))
        passes = [(ends[i], n, wide[:, :, i : i + 1].expand(-1, -1, n)) for i, n in enumerate(priors.level_sizes)]
    for start, size, near in passes:
        place = priors.centers.T[:, start : start + size]
        for prior, owner in windows.blocks(size, center.shape[0]):
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
    center, shown = centers(gt), floored(gt, min_side)
    half = [(side[:, None] / 2).expand(-1, len(priors.level_sizes)) for side in sizes(shown)]
    near = None
    if radius is not None:
        near = radius * gt.new_tensor(priors.known_strides())
        half = [torch.minimum(side, near) for side in half]
    found = []
    for prior, owner in within(priors, center, *half):
        point = priors.centers.index_select(0, prior)
        least = encode_ltrb(shown.index_select(0, owner), point).amin(dim=-1)
        fits = least > 0
        if near is not None:
            offset = (point - center.index_select(0, owner)).abs().amax(dim=-1)
            fits &= offset < near.index_select(0, priors.levels.index_select(0, prior))
        found.append(Pairs(prior.long(), owner.long(), least)[fits])
    return Pairs.cat(found, priors)


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
    levels = len(priors.level_sizes)
    some = max(1, windows.BLOCK // (levels * min(k, max(priors.level_sizes, default=0)) + 1))
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
    side = math.isqrt(math.ceil(k / int(grid.step.min())) - 1) + 1
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
    for prior, owner in windows.cells(grid, windows.around(grid, center, radius, radius)):
        value = _squared_distances(priors, gt_center, prior, owner)
        group = owner * len(priors.level_sizes) + priors.levels.index_select(0, prior)
        yield Pairs(prior.long(), owner.long(), value)[value <= limit.index_select(0, group)]


def _nearby_in_blocks(priors: Priors, gt: Tensor, k: int) -> Iterator[Pairs]:
    """The same without a grid, one level after another: the nearest priors are the most similar ones by `nearness`."""
    start, gt_center = 0, centers(gt).T.contiguous()
    for level in priors.by_level:
        found = plausible(level, gt, nearness, floor=math.inf, k=k)
        prior = found.prior + start
        yield Pairs(prior, found.gt, _squared_distances(priors, gt_center, prior, found.gt))
        start += len(level)


def challengers(
    priors: Priors,
    gt: Float[Tensor, "G 4"],
    similarity: Similarity,
    holders: Pairs,
    slot_of: SlotOf,
    slots: int,
) -> Pairs:
    """All pairs that equal or beat the pairs `holders` (one a slot) on their priors, the holders among them.

    slot_of, slots: `GroundTruths.slot_of` and their number: a prior serves each image of a batch separately.
    """
    if len(holders) == 0:
        return holders
    given, reach, similarity = similarity, reach_of(similarity), checked(similarity, priors, gt)
    bar = holders.value.new_full((slots,), math.inf)
    bar.index_copy_(0, slot_of(holders.prior, holders.gt), holders.value)
    if priors.grid is not None and reach is not None and len(holders) * gt.shape[0] > windows.SMALL:
        # The lowest bar of a grid row says how far away a challenger of that row can be.
        row_bar = holders.value.new_full((len(priors.grid),), math.inf)
        row_bar.scatter_reduce_(0, priors.rows.index_select(0, holders.prior), holders.value, "amin")
        used = (row_bar < math.inf).nonzero().squeeze(1)
        grid = priors.grid[used]
        window = reachable(grid, gt, reach, row_bar[None, used])
        if int((window.extent[0] * window.extent[1]).sum()) < len(holders) * gt.shape[0]:
            return Pairs.cat(list(_beaten_in_windows(priors, grid, gt, similarity, window, bar, slot_of)), priors)
    held = torch.unique(holders.prior)
    if priors.grid is None and reach is not None:
        some = Priors(priors.boxes[held], (len(held),))
        buckets = buckets_of(some, gt.shape[0])
        if buckets is not None:
            found = _beaten_in_buckets(buckets, gt, given, similarity, bar, slot_of, held, holders)
            return Pairs.cat(list(found), priors)
    return Pairs.cat(list(_beaten_in_blocks(priors, gt, similarity, held, bar, slot_of)), priors)


def _beaten_in_windows(
    priors: Priors, grid: Grid, gt: Tensor, similarity: Similarity, window: Windows, bar: Tensor, slot_of: SlotOf
) -> Iterator[Pairs]:
    score = scorer(priors, gt, similarity)
    for prior, owner in windows.cells(grid, window):
        # Most priors in a window hold nothing: they leave before anything is computed.
        own_bar = bar.index_select(0, slot_of(prior, owner))
        held = (own_bar < math.inf).nonzero().squeeze(1)
        prior, owner = prior.index_select(0, held), owner.index_select(0, held)
        value = score(prior, owner)
        pairs = Pairs(prior, owner, value)[value >= own_bar.index_select(0, held)]
        yield Pairs(pairs.prior.long(), pairs.gt.long(), pairs.value)


def _beaten_in_buckets(
    buckets: Buckets,
    gt: Tensor,
    given: Similarity,
    similarity: Similarity,
    bar: Tensor,
    slot_of: SlotOf,
    held: Tensor,
    holders: Pairs,
) -> Iterator[Pairs]:
    """Of priors without a grid only those that hold something are sorted into buckets."""
    row = buckets.row.index_select(0, torch.searchsorted(held, holders.prior))
    row_bar = holders.value.new_full((len(buckets),), math.inf).scatter_reduce_(0, row, holders.value, "amin")
    held = held.index_select(0, buckets.order)
    for own in buckets.blocks(gt.shape[0], 1):
        score = scorer(buckets.priors, gt[own], similarity)
        window = buckets.reachable(gt[own], given, lowered(row_bar[None]))
        for place, owner in buckets.pairs(window):
            value, prior, owner = score(place, owner), held.index_select(0, place), owner.long() + own.start
            yield Pairs(prior, owner, value)[value >= bar.index_select(0, slot_of(prior, owner))]


def _beaten_in_blocks(
    priors: Priors, gt: Tensor, similarity: Similarity, held: Tensor, bar: Tensor, slot_of: SlotOf
) -> Iterator[Pairs]:
    sides = priors.sides.index_select(1, held)
    for prior, owner in windows.blocks(len(held), gt.shape[0]):
        value = similarity(sides[:, None, prior].movedim(0, -1), gt[owner, None])
        # The slots of a block: those of prior 0 in the image of each ground truth, plus the prior.
        own = torch.arange(owner.start, owner.stop, device=gt.device)
        start = slot_of(torch.zeros_like(own), own)
        own_bar = bar.index_select(0, (start[:, None] + held[prior]).flatten()).view(value.shape)
        near, index = (value >= own_bar).nonzero(as_tuple=True)
        yield Pairs(held.index_select(0, index + prior.start), own.index_select(0, near), value[near, index])


def cheapest(priors: Priors, gts: range, k: int, cost: Callable[[Pairs], Tensor]) -> Pairs:
    """The k priors of least cost of each of these ground truths, ties to the lower prior.

    cost: of pairs, one number each, which may come of more than boxes; so no window narrows the search, and all pairs
    are asked for, a bounded number at a time. The value of a pair is its cost, negated.
    """
    parts: list[Pairs] = []
    for place, some in windows.blocks(len(priors), len(gts)):
        prior = torch.arange(place.start, place.stop, device=priors.device)
        gt = torch.arange(gts[some].start, gts[some].stop, device=priors.device)
        owner = gt.repeat_interleave(len(prior))
        pairs = Pairs(prior.repeat(len(gt)), owner, priors.boxes.new_zeros(()).expand(len(owner)))
        pairs = Pairs(pairs.prior, owner, -cost(pairs))
        if place.start > 0:  # more priors of the same ground truths
            pairs = Pairs.join((parts.pop(), pairs))
        parts.append(pairs[first_k(pairs.gt - gts[some].start, len(gt), k, -pairs.value, pairs.prior)])
    return Pairs.cat(parts, priors)
