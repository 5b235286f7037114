"""ATSS: the threshold of a ground truth is the mean plus the standard deviation of its candidates' IoUs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from labelkit.assigners.arguments import check_count
from labelkit.assigners.base import Assigner, GroundTruths
from labelkit.assignment import Assignment
from labelkit.boxes import centers, encode_ltrb
from labelkit.pairs import Pairs, best_per_prior, cells, nearest, plausible, top_k_per_group, windows
from labelkit.priors import Priors
from labelkit.similarity import iou

_INSIDE = 0.01  # pixels; a prior's centre has to lie at least this far inside the ground truth
_ROUNDING = 1e-12  # the order of a sum in float64 must not decide what "at least the threshold" means


@dataclass(frozen=True)
class ATSS(Assigner):
    """Adaptive training sample selection (Zhang 2020, arXiv 1912.02424, algorithm 1). For each ground truth

    1. candidates: on each level the k priors whose centres are nearest, then the lower index (fewer on a small level);
    2. threshold: mean + standard deviation of their IoUs, zeros included;
    3. positive: candidates with IoU >= threshold whose centre lies more than 0.01 px inside the ground truth.

    A prior positive for several goes to the one with the highest IoU among those, then to the lower index. All
    others are negative. A ground truth can end with none: see `Assignment.positives_per_gt`.

    ddof: the standard deviation divides by n - ddof; 1 (unbiased) is what all published code computes, 0 NumPy's
    default. With n <= ddof it is 0 and the single candidate may be positive (in the published code it is NaN and the
    ground truth gets nothing). Mean and deviation are float64. k counts priors, as in mmdet; the authors' own code
    takes k times the number of priors in a cell. Stated for one square prior of 8 strides in each cell.
    """

    k: int = 9
    ddof: int = 1

    def __post_init__(self) -> None:
        check_count("k", self.k)
        if self.ddof not in (0, 1):
            raise ValueError(f"ddof must be 0 or 1, got {self.ddof!r}")

    def assign(self, priors: Priors, gts: GroundTruths) -> Assignment:
        # Who may match: the k nearest priors of every level.
        near = k_nearest_per_level(priors, gts.boxes, self.k)
        # How well: by IoU.
        pairs = Pairs(near.prior, near.gt, iou(priors.boxes[near.prior], gts.boxes[near.gt]))
        # Who is chosen: IoU >= mean + std of the ground truth's candidates, centre inside.
        enough = pairs.value.double() >= mean_plus_std(pairs, len(gts), self.ddof)[pairs.gt] - _ROUNDING
        inside = encode_ltrb(gts.boxes[pairs.gt], priors.centers[pairs.prior]).amin(dim=1) > _INSIDE
        chosen = pairs[enough & inside]
        # Who wins: the ground truth with the highest IoU.
        return gts.assignment(chosen[best_per_prior(chosen, gts.slot(chosen), gts.slots)])


def mean_plus_std(pairs: Pairs, gts: int, ddof: int) -> Float[Tensor, "G"]:
    """Over the values of each ground truth's pairs, in float64; the deviation of `ddof` values or fewer is 0."""
    value = pairs.value.double()
    zeros = value.new_zeros(gts)
    n = torch.bincount(pairs.gt, minlength=gts)
    mean = zeros.index_add(0, pairs.gt, value) / n.clamp(min=1)
    squares = zeros.index_add(0, pairs.gt, (value - mean[pairs.gt]) ** 2)
    return mean + (squares / (n - ddof).clamp(min=1)).sqrt()


def k_nearest_per_level(priors: Priors, gt: Float[Tensor, "G 4"], k: int) -> Pairs:
    """The k priors of each level nearest to each ground truth, centre to centre, ties to the lower index.

    The value of a pair is the squared distance.
    """
    pairs = Pairs.cat(list(_nearby(priors, gt, k)), priors)
    offset = priors.centers[pairs.prior] - centers(gt)[pairs.gt]
    dx, dy = offset.unbind(1)
    pairs = Pairs(pairs.prior, pairs.gt, dx * dx + dy * dy)
    levels = len(priors.level_sizes)
    group = pairs.gt * levels + priors.levels[pairs.prior]
    return pairs[top_k_per_group(group, gt.shape[0] * levels, k, pairs.value, pairs.prior)]


def _nearby(priors: Priors, gt: Tensor, k: int) -> Iterator[Pairs]:
    """Pairs that hold the k nearest priors of every level, and more."""
    if priors.grid is None:
        start = 0
        for size in priors.level_sizes:
            level = Priors(priors.boxes[start : start + size], (size,))
            found = plausible(level, gt, _nearness, floor=math.inf, k=k)
            yield Pairs(found.prior + start, found.gt, found.value)
            start += size
        return
    # Any k priors of a level lie within some distance of the ground truth; the k nearest lie within that distance
    # too, and the cells nearest to the ground truth give a short one: the distance of their farthest corner.
    grid, center = priors.grid, centers(gt)
    # Every cell holds `step` priors of its level: fewer cells suffice.
    side = math.isqrt(math.ceil(k / int(grid.step.min())) - 1) + 1
    window = nearest(grid, center, side)
    place = center.T[:, :, None] - grid.origin
    low, high = window.start * grid.stride, (window.start + window.extent - 1) * grid.stride
    radius = torch.maximum((place - low).abs(), (place - high).abs()).square().sum(dim=0).sqrt()
    known = window.extent[0] * window.extent[1] * grid.step
    radius = torch.where(known >= k, radius, math.inf)
    # One radius a level: the cells count with all of their shapes, and the farthest of those decides.
    level = grid.level.expand_as(radius)
    farthest = radius.new_zeros(len(gt), len(priors.level_sizes)).scatter_reduce(1, level, radius, "amax")
    radius = farthest.gather(1, level)
    for prior, owner in cells(grid, windows(grid, center, radius, radius)):
        yield Pairs(prior.long(), owner.long(), radius.new_zeros(prior.shape))


def _nearness(prior: Tensor, gt: Tensor) -> Tensor:
    """Falls with the distance of the centres and never reaches 0: the nearest priors as the most similar ones."""
    offset = centers(prior) - centers(gt)
    return 1 / (1 + offset.square().sum(dim=-1).sqrt())
