"""PAA: a mixture of two normal distributions tells the good candidates of a ground truth from the bad ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.max_iou import MaxIoU
from labelkit.assigners.mixture import fit
from labelkit.assigners.predicted import focal_of_background, focal_of_class, overlaps
from labelkit.assignment import Predictions
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs
from labelkit.search.choosing import counts, first_k
from labelkit.similarity import giou

_ROUNDING = 1e-9  # of a log-likelihood; the order of a sum in float64 must not decide which of two equals is larger


@dataclass(frozen=True)
class PAA(Assigner):
    """Probabilistic anchor assignment (Kim 2020, arXiv 2007.08103, section 3 and algorithm 1). Four steps:

    1. Candidates: max-IoU with one threshold `iou_thresh` and low-quality matches; a prior belongs to one ground truth.
    2. The score of a candidate, less is better: the focal loss (0.25, 2) of its class probabilities, summed over the
       classes, plus w times 1 - GIoU of its decoded box. Of every level the `k` least scores of a ground truth stay.
    3. A mixture of two normal distributions is fitted to them (`labelkit.assigners.mixture`). Component 0 is the one
       that started at the least score. Its member of highest likelihood under the whole mixture is the bar.
    4. Candidates up to the bar are positive, all other priors negative; nobody is in doubt (the grey zone of figure
       3(c) is in no code). A prior has one owner since step 1, so nobody loses.

    The published codes differ, and `variant` says which is meant:

    | | "official", kkhoot/PAA 13d5721 | "mmdet", 3.3.0 |
    |---|---|---|
    | who gets a low-quality match | the prior's own best ground truth | the ground truth that claims it |
    | w | 1 | 1.3, the weight of its box loss |
    | positive | every candidate up to the bar | of these the members of component 0 |
    | component 0 is empty | all candidates are positive | none |
    | a single candidate | positive | negative |

    Equal scores: the lower prior is first; equal likelihoods: the lower score. It happens (to 1 in
    200 ground truths in our benchmark): where component 0 has two members its mean lies in their middle, and in the
    published codes a rounding decides whether the second is positive. The mixtures of all ground truths are
    fitted together, in float64. `similarity` of a positive is the IoU of its decoded box, the target of the method's
    IoU branch; in an explanation a candidate's value is minus its score.
    """

    k: int = 9
    iou_thresh: float = 0.1
    variant: Literal["official", "mmdet"] = "official"

    needs_predictions = True

    def __post_init__(self) -> None:
        check_count("k", self.k)
        check_threshold("iou_thresh", self.iou_thresh)
        if self.variant not in ("official", "mmdet"):
            raise ValueError(f"variant must be 'official' or 'mmdet', got {self.variant!r}")

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        official = self.variant == "official"
        # Who may match: priors that overlap enough, each with one ground truth.
        rule = MaxIoU(self.iou_thresh, self.iou_thresh, low_quality_owner="argmax" if official else "gt")
        owned = rule.assign(priors, gts).winners
        # How well: by what it would cost to learn the pair; the cheapest of every level.
        score = focal_of_background(gts.slot(owned), predictions) + focal_of_class(owned, gts, predictions)
        score = score + (1.0 if official else 1.3) * (1 - overlaps(owned, gts, predictions, giou))
        pairs = Pairs(owned.prior, owned.gt, -score)
        levels = len(priors.level_sizes)
        group = pairs.gt * levels + priors.levels.index_select(0, pairs.prior)
        pairs = pairs[first_k(group, len(gts) * levels, self.k, -pairs.value, pairs.prior)]
        # Who is chosen: what is as good as the first component. Who wins: nobody else asks.
        chosen = pairs[self._up_to_the_bar(pairs, len(gts))]
        return Steps(pairs, chosen, Pairs(chosen.prior, chosen.gt, overlaps(chosen, gts, predictions)))

    def _up_to_the_bar(self, pairs: Pairs, gts: int) -> Bool[Tensor, "n"]:
        """Mark the pairs that pass: a table with the scores of a ground truth in each row, ascending."""
        order = torch.arange(len(pairs), device=pairs.gt.device)
        for criterion in (pairs.prior, -pairs.value, pairs.gt):
            order = order[criterion[order].argsort(stable=True)]
        row, count = pairs.gt[order], counts(pairs.gt, gts)
        place = torch.arange(len(pairs), device=row.device) - (count.cumsum(0) - count)[row]
        widest = int(count.max()) if len(pairs) else 1
        score = as_double(-pairs.value[order])
        table = score.new_zeros(gts, widest)
        table[row.to(table.device), place.to(table.device)] = score
        valid = torch.arange(widest, device=table.device) < count.to(table.device)[:, None]
        passed = below_the_bar(table, valid, self.variant).to(row.device)
        return torch.zeros_like(order, dtype=torch.bool).index_copy_(0, order, passed[row, place])


def below_the_bar(
    score: Float[Tensor, "G n"], valid: Bool[Tensor, "G n"], variant: Literal["official", "mmdet"] = "official"
) -> Bool[Tensor, "G n"]:
    """Which scores of every row are those of positives; rows ascend, float64, valid ones first. See `PAA`."""
    joint = fit(score, valid).log_joint(score)
    first = valid & (joint[0] >= joint[1] - _ROUNDING)
    likelihood = torch.where(first, torch.logaddexp(*joint), -math.inf)
    best = first & (likelihood >= likelihood.amax(dim=1, keepdim=True) - _ROUNDING)
    bar = best.byte().argmax(dim=1, keepdim=True)  # the first of them
    up_to_bar = torch.arange(score.shape[1], device=score.device) <= bar
    if variant == "mmdet":
        return first & up_to_bar & (valid.sum(dim=1, keepdim=True) > 1)
    return valid & (up_to_bar | ~first.any(dim=1, keepdim=True))
