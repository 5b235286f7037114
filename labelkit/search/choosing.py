"""Choosing: which of the candidate pairs are taken. Every function marks pairs; ties are broken, never left open.

`first_of`, `first_k`, `first_in_order`: the best of every group, and `counts`: how many there are. `best_per_prior`,
`top_k`: the same by similarity. `best_first`: one pair after another. `minimum_sum`: all at once, at the least total
cost.

The order is always the same: a better value first, then the lower prior or the lower ground truth, on every device.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from labelkit.search.matching import minimum_sum
from labelkit.search.order import counts, first_in_order, first_k, first_of
from labelkit.search.pairs import Pairs

__all__ = ["best_first", "best_per_prior", "counts", "first_in_order", "first_k", "first_of", "minimum_sum", "top_k"]


def best_per_prior(pairs: Pairs, slot: Int[Tensor, "n"], slots: int) -> Bool[Tensor, "n"]:
    """Mark the best pair of every prior: highest similarity, then the lower ground truth.

    slot: the prior's index over the whole batch, image * P + prior, so that images do not meet. Of `Marked` pairs slot
    and answer belong to the table.
    """
    table = pairs.table
    return first_of(slot, slots, -table.value, table.gt, among=pairs.mask)


def top_k(pairs: Pairs, gts: int, k: int) -> Bool[Tensor, "n"]:
    """Mark the k best pairs of every ground truth: highest similarity, then the lower prior."""
    return first_k(pairs.gt, gts, k, -pairs.value, pairs.prior)


def best_first(pairs: Pairs, slot: Int[Tensor, "n"], slots: int, room: Int[Tensor, "G"]) -> Bool[Tensor, "n"]:
    """Mark the pairs that a loop over all pairs would take: highest similarity first, then the lower ground truth,
    then the lower prior; each slot at most once, each ground truth at most room[gt] times.

    All pairs that are the best left to their prior and to their ground truth are taken together: nothing before
    them in the loop can touch either, so the outcome is the loop's in far fewer rounds.
    """
    room, taken = room.clone(), torch.zeros_like(slot, dtype=torch.bool)
    used = torch.zeros(slots, dtype=torch.bool, device=slot.device)
    left = (room[pairs.gt] > 0).nonzero().squeeze(1)
    while left.shape[0] > 0:
        some, some_slot = pairs[left], slot[left]
        for_gt = first_of(some.gt, room.shape[0], -some.value, some.prior)
        for_prior = first_of(some_slot, slots, -some.value, some.gt)
        won = left[for_gt & for_prior]
        taken[won] = True
        used[slot[won]] = True
        room[pairs.gt[won]] -= 1
        left = left[(room[some.gt] > 0) & ~used[some_slot]]
    return taken
