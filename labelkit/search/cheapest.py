"""The cheapest pairs: the k best priors of a ground truth by a cost that knows more than boxes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labelkit.priors import Priors
from labelkit.search import windows
from labelkit.search.order import least_in_rows
from labelkit.search.pairs import Pairs


def cheapest(priors: Priors, gts: range, k: int, cost: Callable[[slice, slice], Tensor]) -> Pairs:
    """The k priors of least cost of each of these ground truths, ties to the lower prior, in that order.

    cost: of a range of priors and a range among these ground truths, a row for each ground truth. It may come of more
    than boxes; so no window narrows the search, and all pairs are asked for, a bounded number at a time. The value of a
    pair is its cost, negated.
    """
    parts: list[Pairs] = []
    kept: tuple[Tensor, Tensor]
    for place, some in windows.blocks(len(priors), len(gts), priors.device):
        value = cost(place, some)
        prior = torch.arange(place.start, place.stop, device=priors.device).expand_as(value)
        if place.start > 0:  # more priors of the same ground truths, behind the cheapest of those before
            value, prior = torch.cat((kept[0], value), dim=1), torch.cat((kept[1], prior), dim=1)
        order = least_in_rows(value, k)
        kept = value.gather(1, order), prior.gather(1, order)
        if place.stop == len(priors):
            gt = torch.arange(gts[some].start, gts[some].stop, device=priors.device)
            parts.append(Pairs(kept[1].flatten(), gt.repeat_interleave(order.shape[1]), -kept[0].flatten()))
    return Pairs.cat(parts, priors)
