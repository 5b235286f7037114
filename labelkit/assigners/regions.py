"""Ignored regions: priors that stand in a crowd, or where nobody looked for objects, teach nothing. For every rule."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from labelkit.assigners.ground_truths import GroundTruths
from labelkit.boxes import centers, encode_ltrb, extents
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, plausible, within
from labelkit.similarity import iof

REGION_THRESH = 0.5  # mmdet's ignore_iof_thr in its configurations


def covered_slots(priors: Priors, gts: GroundTruths, thresh: float) -> Int[Tensor, "m"] | None:
    """Slots whose prior has at least `thresh` of its own area in one region of its image; None without regions.

    A point, which has no area, is covered where it lies in the region or on its border: the limit of a small box.
    """
    if not 0 < thresh <= 1:
        raise ValueError(f"region_thresh must lie in (0, 1], got {thresh!r}")
    regions = gts.only_regions()
    if regions is None:
        return None
    covered = [regions.slot(plausible(priors, regions.boxes, iof, floor=thresh))]
    if priors.has_points:
        covered += [regions.slot(pairs) for pairs in _points_inside(priors, regions.boxes)]
    return torch.cat(covered)


def _points_inside(priors: Priors, regions: Tensor) -> list[Pairs]:

    def reach() -> Tensor:
        return (extents(regions)[:, :, None] / 2).expand(-1, -1, len(priors.level_sizes))

    found = []
    for prior, owner in within(priors, centers(regions), reach):
        box = priors.boxes.index_select(0, prior)
        distance = encode_ltrb(regions.index_select(0, owner), centers(box)).amin(dim=-1)
        point = (box[:, :2] == box[:, 2:]).all(dim=1)
        found.append(Pairs(prior.long(), owner.long(), distance)[(distance >= 0) & point])
    return found
