"""ATSS: the threshold of a ground truth is the mean plus the standard deviation of its candidates' IoUs."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from labelkit.assigners.arguments import check_count
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.boxes import encode_ltrb
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, nearest_per_level
from labelkit.search.choosing import counts
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
    takes k times the number of priors in a cell. Stated for one square prior of 8 strides in each cell. On points every
    IoU is 0, and so is the threshold: all candidates inside are positive.
    """

    k: int = 9
    ddof: int = 1

    def __post_init__(self) -> None:
        check_count("k", self.k)
        if self.ddof not in (0, 1):
            raise ValueError(f"ddof must be 0 or 1, got {self.ddof!r}")

    def assign(self, priors: Priors, gts: GroundTruths) -> Steps:
        # Who may match: the k nearest priors of every level.
        near = nearest_per_level(priors, gts.boxes, self.k)
        # How well: by IoU.
        boxes = gts.boxes.index_select(0, near.gt)
        pairs = Pairs(near.prior, near.gt, iou(priors.boxes.index_select(0, near.prior), boxes))
        # Who is chosen: IoU >= mean + std of the ground truth's candidates, centre inside.
        threshold = mean_plus_std(pairs, len(gts), self.ddof) - _ROUNDING
        enough = as_double(pairs.value) >= threshold.index_select(0, pairs.gt.to(threshold.device))
        inside = encode_ltrb(boxes, priors.centers.index_select(0, pairs.prior)).amin(dim=1) > _INSIDE
        chosen = pairs.some(enough.to(priors.device) & inside)
        # Who wins: the ground truth with the highest IoU.
        won = gts.winners(chosen)
        return Steps(pairs, chosen, chosen.table.some(won), bar=threshold)


def mean_plus_std(pairs: Pairs, gts: int, ddof: int) -> Float[Tensor, "G"]:
    """Over the values of each ground truth's pairs, in float64; the deviation of `ddof` values or fewer is 0.

    On the device of the pairs, or on the CPU for one without float64.
    """
    value = as_double(pairs.value)
    gt, zeros = pairs.gt.to(value.device), value.new_zeros(gts)
    n = counts(gt, gts)
    mean = zeros.index_add(0, gt, value) / n.clamp(min=1)
    squares = zeros.index_add(0, gt, (value - mean.index_select(0, gt)) ** 2)
    return mean + (squares / (n - ddof).clamp(min=1)).sqrt()
