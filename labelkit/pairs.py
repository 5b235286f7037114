"""Pairs: the sparse candidates (prior, ground truth) in which every assigner is written.

Nothing here builds the prior x ground-truth matrix. On a grid, a window of cells around each ground truth holds every
prior that can matter; its pairs are evaluated exactly. Without a grid the same pairs come from blocks of bounded size.
Work and memory follow the number of plausible pairs. Proofs stand beside the code that needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.boxes import centers, sizes
from labelkit.priors import Grid, Priors
from labelkit.reach import reach_of
from labelkit.windows import Windows, blocks, cells, nearest, windows

SMALL = 1 << 16  # so few pairs in all are evaluated without looking for windows first
FEW = 1 << 12  # so few pairs are sorted outright
_SMALLEST = 1e-45  # the least float32 above 0: a similarity of 0 says "nothing in common" and is never among the k best

Similarity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Vectors of equal length: the prior's index, the ground truth's index over the whole batch, their similarity."""

    prior: Int[Tensor, "n"]
    gt: Int[Tensor, "n"]
    value: Float[Tensor, "n"]

    def __len__(self) -> int:
        return self.prior.shape[0]

    def __getitem__(self, keep: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> Pairs:
        if keep.dtype == torch.bool:
            keep = keep.nonzero().squeeze(1)
        return Pairs(*(part.index_select(0, keep) for part in (self.prior, self.gt, self.value)))

    @classmethod
    def cat(cls, parts: list[Pairs], like: Priors) -> Pairs:
        if len(parts) == 1:
            return parts[0]
        if not parts:
            nothing = torch.zeros(0, dtype=torch.int64, device=like.device)
            return cls(nothing, nothing, like.boxes.new_zeros(0))
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("prior", "gt", "value")))


# --- plausible pairs --------------------------------------------------------------------------------------------------


def plausible(priors: Priors, gt: Float[Tensor, "G 4"], similarity: Similarity, floor: float, k: int = 0) -> Pairs:
    """All pairs whose similarity is at least `floor`, and all that may be among the k best of their ground truth.

    More precisely: every pair with value >= min(floor, v) where v > 0 is the k-th best value of its ground truth (all
    ties included); some below v may come along. A pair with value <= 0 comes only if `floor` asks for it.
    Ordered by ground truth. Work on a grid: the pairs inside the reach of a lower bound of v.
    """
    if len(priors) == 0 or gt.shape[0] == 0:
        return Pairs.cat([], priors)
    reach = reach_of(similarity) if priors.grid is not None and floor > 0 else None
    if len(priors) * gt.shape[0] <= SMALL:
        return _at_once(priors, gt, similarity, floor, k)
    if reach is None:
        return Pairs.cat(list(_from_blocks(priors, gt, similarity, floor, k)), priors)
    bound = gt.new_full((gt.shape[0],), floor)
    if k > 0:
        bound = torch.minimum(bound, _kth_best_nearby(priors, gt, similarity, k).clamp(min=_SMALLEST))
    window = _reachable(priors.grid, gt, reach, bound[:, None])
    parts, score = [], _scorer(priors, gt, similarity)
    for prior, owner in cells(priors.grid, window):
        pairs = Pairs(prior, owner, score(prior, owner))
        pairs = pairs[pairs.value >= bound.index_select(0, owner)]
        parts.append(Pairs(pairs.prior.long(), pairs.gt.long(), pairs.value))
    return Pairs.cat(parts, priors)


def _scorer(priors: Priors, gt: Tensor, similarity: Similarity) -> Callable[[Tensor, Tensor], Tensor]:
    """Similarity of index vectors. Coordinates are gathered one by one, so that arithmetic runs on dense memory."""
    gt_sides = gt.T.contiguous()

    def score(prior: Int[Tensor, "n"], owner: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        return similarity(priors.sides.index_select(1, prior).T, gt_sides.index_select(1, owner).T)

    return score


def _reachable(grid: Grid, gt: Tensor, reach: Callable, floor: Tensor) -> Windows:
    """Windows of the cells that can reach `floor`, [G, 1] or [1, M]; none where it is infinite."""
    width, height = sizes(gt)
    floor = torch.where(floor < 1e-30, 0, floor * (1 - 1e-5))  # near 0 float32 is coarse: look everywhere
    across, down = reach(grid.width[None], grid.height[None], width[:, None], height[:, None], floor)
    nowhere = floor == math.inf
    return windows(grid, centers(gt), across.masked_fill(nowhere, -1), down.masked_fill(nowhere, -1))


def _kth_best_nearby(priors: Priors, gt: Tensor, similarity: Similarity, k: int) -> Float[Tensor, "G"]:
    """A lower bound of each ground truth's k-th best value: the k-th best among the cells nearest to it.

    Any k pairs give a valid bound; the nearest ones give a tight one. -inf where fewer than k are near.
    """
    grid, side = priors.grid, math.isqrt(k - 1) + 1
    start_x, start_y = nearest(grid, centers(gt), side).start
    inside = torch.arange(side, dtype=torch.int32, device=gt.device)
    columns, step, rows = (part[:, None, None] for part in (grid.columns, grid.step, grid.rows))
    prior = (grid.first + (start_y * grid.columns + start_x) * grid.step)[..., None, None]
    prior = prior + (inside[:, None] * columns + inside) * step
    valid = None
    if side > grid.smallest_side:
        x, y = start_x[..., None, None] + inside, start_y[..., None, None] + inside[:, None]
        valid = (x < columns) & (y < rows)
        prior = torch.where(valid, prior, 0)
    boxes = priors.sides.index_select(1, prior.flatten()).view(4, gt.shape[0], -1)
    value = similarity(boxes.movedim(0, -1), gt[:, None])
    if valid is not None:
        value = value.masked_fill(~valid.reshape(value.shape), -math.inf)
    if k > value.shape[1]:
        return value.new_full((gt.shape[0],), -math.inf)
    return value.amax(dim=1) if k == 1 else value.topk(k, dim=1).values[:, -1]


def _at_once(priors: Priors, gt: Tensor, similarity: Similarity, floor: float, k: int) -> Pairs:
    """`plausible` for so few pairs that looking for windows would take longer than evaluating them."""
    value = similarity(priors.sides[:, None].movedim(0, -1), gt[:, None])
    bound = floor
    if k > 0:
        best = _merge_best(value.new_full((gt.shape[0], k), -math.inf), value)
        bound = best[:, -1:].clamp(min=_SMALLEST).clamp(max=floor)
    found = (value >= bound).flatten().nonzero().squeeze(1)
    owner = torch.div(found, len(priors), rounding_mode="floor")
    return Pairs(found - owner * len(priors), owner, value.flatten().index_select(0, found))


def _from_blocks(priors: Priors, gt: Tensor, similarity: Similarity, floor: float, k: int) -> Iterator[Pairs]:
    """`plausible` for priors without a grid and for similarities without a reach: every pair, a block at a time.

    Within a block of ground truths the k best so far are kept, so a pair below them is dropped at once; when the
    block is through, the survivors are held against the final k-th best.
    """
    for prior, owner in blocks(len(priors), gt.shape[0]):
        if prior.start == 0:
            parts, best = [], gt.new_full((owner.stop - owner.start, k), -math.inf)
            bound = gt.new_full((owner.stop - owner.start,), min(floor, _SMALLEST) if k > 0 else floor)
        value = similarity(priors.sides[:, None, prior].movedim(0, -1), gt[owner, None])
        row = (value.amax(dim=1) >= bound).nonzero().squeeze(1)  # most blocks are far from most ground truths
        value = value.index_select(0, row)
        if k > 0:
            best.index_copy_(0, row, _merge_best(best.index_select(0, row), value))
            bound = best[:, -1].clamp(min=_SMALLEST).clamp(max=floor)
        own, index = (value >= bound.index_select(0, row)[:, None]).nonzero(as_tuple=True)
        parts.append(Pairs(index + prior.start, row.index_select(0, own), value[own, index]))
        if prior.stop == len(priors):
            found = Pairs.cat(parts, priors)
            found = found[found.value >= bound.index_select(0, found.gt)] if k > 0 and len(parts) > 1 else found
            yield Pairs(found.prior, found.gt + owner.start, found.value)


def _merge_best(best: Float[Tensor, "G k"], value: Float[Tensor, "G n"]) -> Float[Tensor, "G k"]:
    """The k best of each ground truth, from the k best so far and a block of new values."""
    k = best.shape[1]
    if k == 1:
        return torch.maximum(best, value.amax(dim=1, keepdim=True))
    new = value.topk(min(k, value.shape[1]), dim=1).values
    return torch.cat((best, new), dim=1).topk(k, dim=1).values


# --- choosing ---------------------------------------------------------------------------------------------------------


def first_of(group: Int[Tensor, "n"], groups: int, *criteria: Tensor) -> Bool[Tensor, "n"]:
    """Mark the first pair of every group: the smallest in the first of `criteria`, ties by the next, and so on.

    Exactly one pair a group, provided the last criterion has no ties inside a group. Scatter-reduces of minima do not
    depend on the order of execution: the same answer on every device.
    """
    alive = None
    for criterion in criteria:
        top = math.inf if criterion.is_floating_point() else torch.iinfo(criterion.dtype).max
        if alive is not None:
            criterion = torch.where(alive, criterion, top)
        least = criterion.new_full((groups,), top).scatter_reduce_(0, group, criterion, "amin")
        same = criterion == least.index_select(0, group)
        alive = same if alive is None else alive & same
    return alive


def best_per_prior(pairs: Pairs, slot: Int[Tensor, "n"], slots: int) -> Bool[Tensor, "n"]:
    """Mark the best pair of every prior: highest similarity, then the lower ground truth.

    slot: the prior's index over the whole batch, image * P + prior, so that images do not meet.
    """
    return first_of(slot, slots, -pairs.value, pairs.gt)


def top_k_per_group(group: Int[Tensor, "n"], groups: int, k: int, *criteria: Tensor) -> Bool[Tensor, "n"]:
    """Mark the first k pairs of every group in the order of `criteria` (see `first_of`).

    Sorting all pairs is dear, so of many only those equal to their group's k-th least first criterion are sorted:
    what is below it is in, what is above it is out.
    """
    count = torch.bincount(group, minlength=groups)
    widest = int(count.max()) if groups else 0
    if widest <= k:
        return torch.ones_like(group, dtype=torch.bool)
    if len(group) <= FEW or widest * groups > 4 * len(group):  # groups so uneven that their table would be empty
        return _first_in_order(group, count.new_full((groups,), k), *criteria)
    least = _kth_least(group, count, widest, k, criteria[0]).index_select(0, group)
    chosen = criteria[0] < least
    tied = (criteria[0] == least).nonzero().squeeze(1)
    room = k - torch.bincount(group[chosen], minlength=groups)
    tied = tied[_first_in_order(group[tied], room, *(criterion[tied] for criterion in criteria[1:]))]
    return chosen.index_fill_(0, tied, True)


def _kth_least(
    group: Int[Tensor, "n"], count: Int[Tensor, "groups"], widest: int, k: int, value: Float[Tensor, "n"]
) -> Float[Tensor, "groups"]:
    """The k-th least value of every group, infinity where it has fewer: from a table with a group in each row."""
    if widest < k:
        return value.new_full(count.shape, math.inf)
    if bool((group[1:] < group[:-1]).any()):
        order = group.argsort()
        group, value = group[order], value[order]
    before = (count.cumsum(0) - count).index_select(0, group)
    place = torch.arange(len(group), device=group.device) - before + group * widest
    table = value.new_full((len(count) * widest,), math.inf).index_copy_(0, place, value)
    return table.view(-1, widest).topk(k, dim=1, largest=False).values[:, -1]


def _first_in_order(group: Int[Tensor, "n"], room: Int[Tensor, "groups"], *criteria: Tensor) -> Bool[Tensor, "n"]:
    """Mark the first `room` pairs of every group: stable sorts, the last criterion first and the group at the end."""
    order = torch.arange(group.shape[0], device=group.device)
    for criterion in (*reversed(criteria), group):
        order = order[criterion[order].argsort(stable=True)]
    count = torch.bincount(group, minlength=room.shape[0])
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[group[order]]
    return place < room[group]


def top_k_per_gt(pairs: Pairs, gts: int, k: int) -> Bool[Tensor, "n"]:
    """Mark the k best pairs of every ground truth: highest similarity, then the lower prior."""
    return top_k_per_group(pairs.gt, gts, k, -pairs.value, pairs.prior)


# --- competing --------------------------------------------------------------------------------------------------------


def challengers(
    priors: Priors,
    gt: Float[Tensor, "G 4"],
    similarity: Similarity,
    holders: Pairs,
    slot_of: Callable[[Pairs], Int[Tensor, "n"]],
    slots: int,
) -> Pairs:
    """All pairs that equal or beat the pairs `holders` (one a slot) on their priors, the holders among them.

    slot_of, slots: `GroundTruths.slot` and their number: a prior serves each image of a batch separately.
    """
    bar = holders.value.new_full((slots,), math.inf)
    bar.index_copy_(0, slot_of(holders), holders.value)
    reach = reach_of(similarity) if priors.grid is not None else None
    if reach is not None and len(holders) * gt.shape[0] > SMALL:
        # The lowest bar of a grid row says how far away a challenger of that row can be.
        row_bar = holders.value.new_full((len(priors.grid),), math.inf)
        row_bar.scatter_reduce_(0, priors.rows.index_select(0, holders.prior), holders.value, "amin")
        used = (row_bar < math.inf).nonzero().squeeze(1)
        grid = priors.grid[used]
        window = _reachable(grid, gt, reach, row_bar[None, used])
        if int((window.extent[0] * window.extent[1]).sum()) < len(holders) * gt.shape[0]:
            return Pairs.cat(list(_beaten_in_windows(priors, grid, gt, similarity, window, bar, slot_of)), priors)
    held = torch.unique(holders.prior)
    return Pairs.cat(list(_beaten_in_blocks(priors, gt, similarity, held, bar, slot_of)), priors)


def _beaten_in_windows(priors, grid, gt, similarity, window, bar, slot_of) -> Iterator[Pairs]:
    score = _scorer(priors, gt, similarity)
    for prior, owner in cells(grid, window):
        # Most priors in a window hold nothing: they leave before anything is computed.
        own_bar = bar.index_select(0, slot_of(Pairs(prior, owner, bar)))
        held = (own_bar < math.inf).nonzero().squeeze(1)
        prior, owner = prior.index_select(0, held), owner.index_select(0, held)
        value = score(prior, owner)
        pairs = Pairs(prior, owner, value)[value >= own_bar.index_select(0, held)]
        yield Pairs(pairs.prior.long(), pairs.gt.long(), pairs.value)


def _beaten_in_blocks(priors, gt, similarity, held, bar, slot_of) -> Iterator[Pairs]:
    sides = priors.sides.index_select(1, held)
    for prior, owner in blocks(len(held), gt.shape[0]):
        value = similarity(sides[:, None, prior].movedim(0, -1), gt[owner, None])
        # The slots of a block: those of prior 0 in the image of each ground truth, plus the prior.
        own = torch.arange(owner.start, owner.stop, device=gt.device)
        start = slot_of(Pairs(torch.zeros_like(own), own, bar))
        own_bar = bar.index_select(0, (start[:, None] + held[prior]).flatten()).view(value.shape)
        near, index = (value >= own_bar).nonzero(as_tuple=True)
        yield Pairs(held.index_select(0, index + prior.start), own.index_select(0, near), value[near, index])
