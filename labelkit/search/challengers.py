"""Who may take a prior from its holder, and whom it goes to: the ground truths that are as similar to it, or more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labelkit.grid import Grid
from labelkit.priors import Priors
from labelkit.search import windows
from labelkit.search.buckets import Buckets, buckets_of, many
from labelkit.search.elementwise import checked
from labelkit.search.order import first_of
from labelkit.search.pairs import OfTable, Pairs, Similarity
from labelkit.search.plausible import lowered, reachable, scorer
from labelkit.search.reach import reach_of
from labelkit.search.windows import Windows

SlotOf = Callable[[Tensor, Tensor], Tensor]  # (prior, gt) -> where that prior stands over the whole batch


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
    if priors.grid is not None and reach is not None and len(holders) * gt.shape[0] > windows.portions(gt.device).small:
        # The lowest bar of a grid row says how far away a challenger of that row can be.
        row_bar = holders.value.new_full((len(priors.grid),), math.inf)
        row_bar.scatter_reduce_(0, priors.rows.index_select(0, holders.prior), holders.value, "amin")
        used = (row_bar < math.inf).nonzero().squeeze(1)
        grid = priors.grid[used]
        window = reachable(grid, gt, reach, row_bar[None, used])
        if int((window.extent[0] * window.extent[1]).sum()) < len(holders) * gt.shape[0]:
            return Pairs.cat(list(_beaten_in_windows(priors, grid, gt, similarity, window, bar, slot_of)), priors)
    held = torch.unique(holders.prior)
    if priors.grid is None and reach is not None and many(len(held), gt.shape[0]):
        some = Priors(priors.boxes[held], (len(held),))
        buckets = buckets_of(some, gt.shape[0])
        if buckets is not None:
            found = _beaten_in_buckets(buckets, gt, given, similarity, bar, slot_of, held, holders)
            return Pairs.cat(list(found), priors)
    return Pairs.cat(list(_beaten_in_blocks(priors, gt, similarity, held, bar, slot_of)), priors)


def owned(
    priors: Priors,
    gt: Float[Tensor, "G 4"],
    similarity: Similarity,
    pairs: Pairs,
    asked: Bool[Tensor, "n"],
    slot_of: SlotOf,
    slots: int,
) -> Pairs:
    """The pairs, those that are `asked` for (one a slot at most) with the most similar ground truth of all in place of
    their own, the lower one of equals."""
    if len(pairs) == 0:
        return pairs
    table = _all_of(priors, gt, similarity, pairs)
    if table is None:
        return _owned_of_some(priors, gt, similarity, pairs, asked.nonzero().squeeze(1), slot_of, slots)
    # Nobody counts who asks, which a GPU would be waited for.
    if slots > len(priors):
        everyone = torch.arange(gt.shape[0], device=gt.device)
        first = slot_of(torch.zeros_like(everyone), everyone)  # tells the images apart
        table = table.masked_fill(first.index_select(0, pairs.gt) != first[:, None], -math.inf)
    value, owner = table.max(dim=0)  # the first of equals
    return Pairs(pairs.prior, torch.where(asked, owner, pairs.gt), torch.where(asked, value, pairs.value))


def _all_of(priors: Priors, gt: Tensor, similarity: Similarity, pairs: Pairs) -> Float[Tensor, "G n"] | None:
    """What the priors of these pairs have with every ground truth, where that is known or quickly computed."""
    if isinstance(pairs, OfTable):
        return pairs.whole.index_select(1, pairs.prior)
    if gt.device.type == "cpu" or len(pairs) * gt.shape[0] > windows.portions(gt.device).small:
        return None
    sides = priors.sides.index_select(1, pairs.prior)
    return checked(similarity, priors, gt)(sides[:, None].movedim(0, -1), gt[:, None])


def _owned_of_some(
    priors: Priors, gt: Tensor, similarity: Similarity, pairs: Pairs, index: Tensor, slot_of: SlotOf, slots: int
) -> Pairs:
    """The same, of the pairs at these places."""
    if index.shape[0] == 0:
        return pairs
    holders = pairs[index]
    rivals = challengers(priors, gt, similarity, holders, slot_of, slots)
    slot = slot_of(rivals.prior, rivals.gt)
    best = first_of(slot, slots, -rivals.value, rivals.gt).nonzero().squeeze(1)
    place = index.new_empty(slots).index_copy_(0, slot_of(holders.prior, holders.gt), index)
    place = place.index_select(0, slot.index_select(0, best))
    value = pairs.value.index_copy(0, place, rivals.value.index_select(0, best))
    return Pairs(pairs.prior, pairs.gt.index_copy(0, place, rivals.gt.index_select(0, best)), value)


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
    for prior, owner in windows.blocks(len(held), gt.shape[0], gt.device):
        value = similarity(sides[:, None, prior].movedim(0, -1), gt[owner, None])
        # The slots of a block: those of prior 0 in the image of each ground truth, plus the prior.
        own = torch.arange(owner.start, owner.stop, device=gt.device)
        start = slot_of(torch.zeros_like(own), own)
        own_bar = bar.index_select(0, (start[:, None] + held[prior]).flatten()).view(value.shape)
        near, index = (value >= own_bar).nonzero(as_tuple=True)
        yield Pairs(held.index_select(0, index + prior.start), own.index_select(0, near), value[near, index])
