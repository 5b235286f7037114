"""Decoded boxes: which of them overlap a ground truth most. They stand on no grid, but mostly near their own prior.

A decoded box that reaches r pixels from its prior's centre overlaps a ground truth only where that centre is nearer to
the ground truth's than r and half a side. So windows of the grid hold all overlaps of the boxes of modest reach, and
the few that reach far are held against every ground truth. Where windows would be no narrower than that, all are.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labelkit.boxes import centers, extents
from labelkit.priors import Priors
from labelkit.search import windows
from labelkit.search.choosing import top_k
from labelkit.search.pairs import Pairs
from labelkit.search.plausible import plausible, scorer
from labelkit.similarity import iou

_MODEST = 3.0  # times the median reach of the level
DEARER = 4  # a pair from a window costs so many times one of a block
MANY = 1 << 20  # pairs: so many are cut down to the k best before more are looked for


def decoded_overlaps(
    priors: Priors,
    decoded: Float[Tensor, "P 4"],
    gt: Float[Tensor, "G 4"],
    among: Bool[Tensor, "P"],
    k: int | None = None,
) -> Pairs:
    """All pairs whose decoded box has an IoU above 0; with k, the k best of every ground truth and some more.

    among: the priors that count. Memory beside the answer is bounded, and with k the answer is too.
    """
    if priors.grid is None or len(priors) * len(gt) <= windows.portions(gt.device).small:
        return _held_against_all(decoded, gt, among, k)
    reach = _reach(priors, decoded)
    modest = torch.stack([_median(part) for part in reach.split(priors.level_sizes, dim=1)], dim=1) * _MODEST
    near = (reach <= modest.index_select(1, priors.levels)).all(dim=0)
    half, row = extents(gt)[:, :, None] / 2, priors.grid.level
    window = windows.around(priors.grid, centers(gt), half + modest[:, None, row])
    if int((window.extent[0] * window.extent[1]).sum()) * DEARER > len(priors) * len(gt):
        return _held_against_all(decoded, gt, among, k)
    found = [_held_against_all(decoded, gt, among & ~near, k)]
    score = scorer(Priors(decoded, priors.level_sizes), gt, iou)
    near &= among
    for prior, owner in windows.cells(priors.grid, window):
        own = near.index_select(0, prior).nonzero().squeeze(1)
        prior, owner = prior.index_select(0, own), owner.index_select(0, own)
        value = score(prior, owner)
        overlaps = Pairs(prior, owner, value)[value > 0]
        found.append(Pairs(overlaps.prior.long(), overlaps.gt.long(), overlaps.value))
        if k is not None and sum(map(len, found)) > MANY:
            pairs = Pairs.join(found)
            found = [pairs[top_k(pairs, len(gt), k)]]
    return Pairs.join(found)


def _held_against_all(decoded: Tensor, gt: Tensor, among: Tensor, k: int | None) -> Pairs:
    """The same from blocks of bounded size."""
    own = among.nonzero().squeeze(1)
    k = len(own) + 1 if k is None else k  # more than there are: all that are above 0
    found = plausible(Priors(decoded[own], (len(own),)), gt, iou, floor=math.inf, k=k)
    return Pairs(own[found.prior], found.gt, found.value)


def _reach(priors: Priors, decoded: Float[Tensor, "P 4"]) -> Float[Tensor, "2 P"]:
    """How far a decoded box reaches from its prior's centre, in x and y."""
    x1, y1, x2, y2 = decoded.unbind(1)
    x, y = priors.centers.unbind(1)
    return torch.stack((torch.maximum(x - x1, x2 - x), torch.maximum(y - y1, y2 - y)))


def _median(reach: Float[Tensor, "2 n"]) -> Float[Tensor, "2"]:
    """Of one in sixteen: any number would do."""
    return reach[:, ::16].median(dim=1).values if reach.shape[1] else reach.new_zeros(2)
