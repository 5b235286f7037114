"""The cheapest pairs: the k best priors of a ground truth by a cost that knows more than boxes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labelkit.priors import Priors
from labelkit.search import windows
from labelkit.search.order import first_k
from labelkit.search.pairs import Pairs


def cheapest(priors: Priors, gts: range, k: int, cost: Callable[[Pairs], Tensor]) -> Pairs:
    """The k priors of least cost of each of these ground truths, ties to the lower prior.

    cost: of pairs, one number each, which may come of more than boxes; so no window narrows the search, and all pairs
    are asked for, a bounded number at a time. The value of a pair is its cost, negated.
    """
    parts: list[Pairs] = []
    for place, some in windows.blocks(len(priors), len(gts), priors.device):
        prior = torch.arange(place.start, place.stop, device=priors.device)
        gt = torch.arange(gts[some].start, gts[some].stop, device=priors.device)
        owner = gt.repeat_interleave(len(prior))
        pairs = Pairs(prior.repeat(len(gt)), owner, priors.boxes.new_zeros(()).expand(len(owner)))
        pairs = Pairs(pairs.prior, owner, -cost(pairs))
        if place.start > 0:  # more priors of the same ground truths
            pairs = Pairs.join((parts.pop(), pairs))
        parts.append(pairs[first_k(pairs.gt - gts[some].start, len(gt), k, -pairs.value, pairs.prior)])
    return Pairs.cat(parts, priors)
