"""DynamicSoftLabel: SimOTA with costs that know how good a box is, and that ask softly for a prior near the centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_min_side, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.dynamic_k import Cost, dynamic_k, portions, sum_over_classes, take_cheapest, winners, worth
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import class_scores, overlaps
from labelkit.assignment import Predictions
from labelkit.boxes import centers
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, inside_or_near
from labelkit.search.choosing import first_k

_BEYOND = 2  # strides: past the radius by so many, the centre term alone is 100
_DEAR = 99.0


@dataclass(frozen=True)
class DynamicSoftLabel(Assigner):
    """Dynamic soft label assignment (RTMDet, Lyu 2022, arXiv 2212.07784, section 3.3). With s the prior's score, u the
    IoU of its decoded box, d the distance of its centre from the ground truth's, in strides of its level, a pair costs

        class                 + iou_weight * -ln(u + 1e-7) + 10 ^ (d - radius)
        class: of one column, cross-entropy(s, y) * (y - s)^2, with y = u for the ground truth's own class and else 0.

    1. kept: priors whose centre lies strictly inside any ground truth, sides floored to `min_side` first. All of them
       may serve any ground truth of the image: one outside it is only dear.
    2. chosen: the k_g cheapest, then the lower index; k_g is the sum of the ground truth's `k` largest IoUs, truncated,
       and at least 1.
    3. a prior chosen by several goes to the ground truth of lowest cost among all of its image, whether that chose
       it or not, then to the lower index. The others get no replacement.

    `similarity` of a positive is its IoU, which is also its `score_target`; `weight` is 1. Nothing is ignored. The
    distance counts in strides, so coarse levels are favoured. Published with points at offset 0.

    Two rules go by this name, and their labels differ in most images:
    variant: "mmdet" (DynamicSoftLabelAssigner of mmdet 3.3), class: summed over all columns; k_g from kept priors.
        "mmyolo" (BatchDynamicSoftLabelAssigner of mmyolo 0.6), class: the ground truth's column alone; k_g from all
        priors, kept or not. Where k_g is more than there are kept priors, that code goes on with arbitrary ones
        that are inside nothing; here nothing but kept priors is ever taken.

    Published code starts from logits, here s is a probability: ln s and ln(1 - s) are held at -100, as in torch's
    cross-entropy, where a score has been rounded to 0 or 1. Costs are computed in float64 and compared in float32.
    """

    k: int = 13
    variant: Literal["mmdet", "mmyolo"] = "mmdet"
    iou_weight: float = 3.0
    radius: float = 3.0
    min_side: float | None = None

    needs_predictions = True

    def __post_init__(self) -> None:
        check_count("k", self.k)
        check_min_side(self.min_side)
        check_threshold("iou_weight", self.iou_weight)
        check_threshold("radius", self.radius)
        if self.variant not in ("mmdet", "mmyolo"):
            raise ValueError(f"variant must be 'mmdet' or 'mmyolo', got {self.variant!r}")

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        # Who may match: the priors inside any ground truth; those that aren't near cost 100 and more.
        pairs, close = inside_or_near(priors, gts.boxes, self.min_side, self.radius + _BEYOND)
        kept = gts.mark(pairs.some(pairs.value > 0))
        near = pairs[close]
        near = near[kept[gts.slot(near)]]
        # How well: by class, box and distance.
        cost = partial(self._cost, priors, gts, predictions)
        known = Pairs(near.prior, near.gt, cost(near))
        # Who is chosen: the cheapest, as many as its best boxes are worth.
        counted = kept if self.variant == "mmdet" else torch.ones_like(kept)
        room = dynamic_k(priors, gts, predictions.boxes, counted, self.k)
        candidates, chosen = take_cheapest(known, room, _DEAR, partial(self._others, gts, kept, cost))
        # Who wins: the ground truth of lowest cost.
        won = winners(known, chosen, gts, _DEAR, cost)
        overlap = overlaps(won, gts, predictions)
        return Steps(worth(candidates), worth(chosen), Pairs(won.prior, won.gt, overlap), score_target=overlap)

    def _cost(self, priors: Priors, gts: GroundTruths, predictions: Predictions, pairs: Pairs) -> Float[Tensor, "n"]:
        score, overlap = (as_double(of(pairs, gts, predictions)) for of in (class_scores, overlaps))
        offset = as_double(priors.centers[pairs.prior] - centers(gts.boxes)[pairs.gt])
        distance = offset.square().sum(dim=1).sqrt() / as_double(priors.strides[pairs.prior])
        classes = _soft_cross_entropy(score, overlap)
        if self.variant == "mmdet":
            classes += sum_over_classes(predictions, gts.slot(pairs), _of_absent) - _of_absent(score)
        cost = classes - self.iou_weight * (overlap + 1e-7).log() + (math.log(10) * (distance - self.radius)).exp()
        return cost.float().to(priors.device)

    def _others(self, gts: GroundTruths, kept: Bool[Tensor, "slots"], cost: Cost, short: Int[Tensor, "n"]) -> Pairs:
        """The k cheapest of all kept priors for some ground truths."""
        found = []
        for part in portions(short, gts.num_priors):
            place, prior = kept.view(gts.images, gts.num_priors)[gts.image[part]].nonzero(as_tuple=True)
            pairs = Pairs(prior, part[place], gts.boxes.new_zeros(len(prior)))
            pairs = Pairs(prior, pairs.gt, cost(pairs))
            found.append(pairs[first_k(pairs.gt, len(gts), self.k, pairs.value, prior)])
        return Pairs.join(found)


def _soft_cross_entropy(score: Tensor, target: Tensor) -> Tensor:
    """Times the squared error: the quality focal loss with beta 2."""
    log, log_not = score.log().clamp(min=-100), torch.log1p(-score).clamp(min=-100)
    return -(target * log + (1 - target) * log_not) * (target - score).square()


def _of_absent(score: Tensor) -> Tensor:
    return _soft_cross_entropy(score, torch.zeros_like(score))
