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
from labelkit.pairs import Pairs, best_per_prior, plausible, top_k_per_group
from labelkit.priors import Priors
from labelkit.similarity import iou
from labelkit.windows import cells, nearest, windows

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
        boxes = gts.boxes.index_select(0, near.gt)
        pairs = Pairs(near.prior, near.gt, iou(priors.boxes.index_select(0, near.prior), boxes))
        # Who is chosen: IoU >= mean + std of the ground truth's candidates, centre inside.
        threshold = mean_plus_std(pairs, len(gts), self.ddof) - _ROUNDING
        enough = pairs.value.double() >= threshold.index_select(0, pairs.gt)
        inside = encode_ltrb(boxes, priors.centers.index_select(0, pairs.prior)).amin(dim=1) > _INSIDE
        chosen = pairs[enough & inside]
        # Who wins: the ground truth with the highest IoU.
        return gts.assignment(chosen[best_per_prior(chosen, gts.slot(chosen), gts.slots)])


def mean_plus_std(pairs: Pairs, gts: int, ddof: int) -> Float[Tensor, "G"]:
    """Over the values of each ground truth's pairs, in float64; the deviation of `ddof` values or fewer is 0."""
    value = pairs.value.double()
    zeros = value.new_zeros(gts)
    n = torch.bincount(pairs.gt, minlength=gts)
    mean = zeros.index_add(0, pairs.gt, value) / n.clamp(min=1)
    squares = zeros.index_add(0, pairs.gt, (value - mean.index_select(0, pairs.gt)) ** 2)
    return mean + (squares / (n - ddof).clamp(min=1)).sqrt()


def k_nearest_per_level(priors: Priors, gt: Float[Tensor, "G 4"], k: int) -> Pairs:
    """The k priors of each level nearest to each ground truth, centre to centre, ties to the lower index.

    The value of a pair is the squared distance.
    """
    parts = _nearby_on_grid(priors, gt, k) if priors.grid is not None else _nearby_in_blocks(priors, gt, k)
    pairs, levels = Pairs.cat(list(parts), priors), len(priors.level_sizes)
    group = pairs.gt * levels + priors.levels.index_select(0, pairs.prior)
    return pairs[top_k_per_group(group, gt.shape[0] * levels, k, pairs.value, pairs.prior)]


def _squared_distances(priors: Priors, gt_center: Float[Tensor, "2 G"], prior: Tensor, owner: Tensor) -> Tensor:
    x1, y1, x2, y2 = priors.sides.index_select(1, prior)
    x, y = gt_center.index_select(1, owner)
    dx, dy = (x1 + x2) / 2 - x, (y1 + y2) / 2 - y
    return dx * dx + dy * dy


def _nearby_on_grid(priors: Priors, gt: Tensor, k: int) -> Iterator[Pairs]:
    """Pairs that hold the k nearest priors of every level, and some more.

    Any k priors of a level lie within some distance of the ground truth; the k nearest lie within it too. The cells
    nearest to the ground truth give a short one: the distance of their farthest corner.
    """
    grid, center = priors.grid, centers(gt)
    # Every cell holds `step` priors of its level: fewer cells suffice.
    side = math.isqrt(math.ceil(k / int(grid.step.min())) - 1) + 1
    window = nearest(grid, center, side)
    place = center.T[:, :, None] - grid.origin
    low, high = window.start * grid.stride, (window.start + window.extent - 1) * grid.stride
    radius = torch.maximum((place - low).abs(), (place - high).abs()).square().sum(dim=0).sqrt()
    radius = radius.masked_fill(window.extent[0] * window.extent[1] * grid.step < k, math.inf)
    # One radius a level: the cells count with all of their shapes, and the farthest of those decides.
    level = grid.level.expand_as(radius)
    farthest = radius.new_zeros(len(gt), len(priors.level_sizes)).scatter_reduce(1, level, radius, "amax")
    radius = farthest.gather(1, level)
    limit = (farthest + 0.01 + 1e-5 * (center.abs().sum(dim=1, keepdim=True) + farthest)).square().flatten()
    gt_center = center.T.contiguous()
    for prior, owner in cells(grid, windows(grid, center, radius, radius)):
        value = _squared_distances(priors, gt_center, prior, owner)
        group = owner * len(priors.level_sizes) + priors.levels.index_select(0, prior)
        yield Pairs(prior.long(), owner.long(), value)[value <= limit.index_select(0, group)]


def _nearby_in_blocks(priors: Priors, gt: Tensor, k: int) -> Iterator[Pairs]:
    """The same without a grid, one level after another: the nearest priors are the most similar ones by `_nearness`."""
    start, gt_center = 0, centers(gt).T.contiguous()
    for size in priors.level_sizes:
        found = plausible(Priors(priors.boxes[start : start + size], (size,)), gt, _nearness, floor=math.inf, k=k)
        prior = found.prior + start
        yield Pairs(prior, found.gt, _squared_distances(priors, gt_center, prior, found.gt))
        start += size


def _nearness(prior: Tensor, gt: Tensor) -> Tensor:
    """Falls with the distance of the centres and never reaches 0."""
    offset = centers(prior) - centers(gt)
    return 1 / (1 + offset.square().sum(dim=-1).sqrt())
