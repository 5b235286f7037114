"""Matching: pairs taken one after another, the best first, until every prior and every ground truth is served."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from labelkit.pairs import Pairs, first_of


def best_first(
    pairs: Pairs, slot: Int[Tensor, "n"], slots: int, room: Int[Tensor, "G"]
) -> Bool[Tensor, "n"]:
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
