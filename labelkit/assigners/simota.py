"""SimOTA: how many priors a ground truth takes follows from how well the boxes near it already fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_min_side, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.dynamic_k import dynamic_k, portions, sum_over_classes, take_cheapest, winners, worth
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import class_scores, overlaps
from labelkit.assignment import Predictions
from labelkit.boxes import as_float
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, decoded_overlaps, inside, inside_or_near
from labelkit.search.choosing import first_k

_RADIUS = {"mmdet": 2.5, "yolox": 1.5}
_FEASIBLE = 1e19  # no feasible pair costs as much
_INFEASIBLE = 1e20  # a factor: dearer than every feasible pair, and float32 still tells two apart


@dataclass(frozen=True)
class SimOTA(Assigner):
    """Simplified optimal transport assignment (YOLOX, Ge 2021, arXiv 2107.08430, section 2.1).

    1. kept: priors whose centre lies strictly inside any ground truth or inside the square of `radius` strides to each
       side of any ground truth's centre; a pair is feasible if the centre lies in both of this ground truth.
    2. cost: sum over classes of the binary cross-entropy of score and label, + iou_weight * -ln(IoU + eps), IoU that
       of the decoded box. Feasible pairs come before all others.
    3. chosen: the k_g cheapest, then the lower index; k_g is the sum of the ground truth's `k` largest IoUs over all
       kept priors, feasible or not, truncated, and at least 1. Kept priors that aren't feasible fill up what is
       missing: so a ground truth with no prior inside takes the best of its neighbours' priors.
    4. a prior chosen by several goes to the ground truth of lowest cost among all of its image, whether that chose
       it or not, then to the lower index. The others get no replacement: a ground truth can end with none.

    `similarity` of a positive is its IoU, which is also its `score_target`; `weight` is 1. Nothing is ignored.

    variant: "mmdet", the rule above: the paper's YOLOX and mmdet 3.3, eps 1e-7; "yolox", YOLOX since January 2023
        (#1589): kept and feasible are the squares alone, also outside the ground truth; eps 1e-8.
    radius: None takes the published one, 2.5 in "mmdet" and 1.5 in "yolox".
    min_side: a side shorter than so many pixels is floored to it for "inside"; not in "yolox", which does not ask.

    Published code adds 1e5 (YOLOX since 2023: 1e6) to the cost of a pair that isn't feasible, which in float32 leaves
    steps of 0.008 among those; here their order is exact. Scores are the square root of class score times objectness in
    both. The -ln of a score is held at 100, as in torch's cross-entropy. Costs are computed in float64 and compared in
    float32. OTA itself is another rule: focal loss for the classes, a transport plan for the choice.
    """

    radius: float | None = None
    k: int = 10
    iou_weight: float = 3.0
    variant: Literal["mmdet", "yolox"] = "mmdet"
    min_side: float | None = None

    needs_predictions = True

    def __post_init__(self) -> None:
        check_count("k", self.k)
        check_min_side(self.min_side)
        check_threshold("iou_weight", self.iou_weight)
        if self.radius is not None:
            check_threshold("radius", self.radius)
        if self.variant not in ("mmdet", "yolox"):
            raise ValueError(f"variant must be 'mmdet' or 'yolox', got {self.variant!r}")
        if self.variant == "yolox" and self.min_side is not None:
            raise ValueError(f"min_side must be None in variant 'yolox', which asks for no inside, got {self.min_side}")

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        costs = _Costs(gts, predictions, self.iou_weight, 1e-7 if self.variant == "mmdet" else 1e-8)
        # Who may match: the priors near its centre and inside; kept: all that are near or inside anybody.
        near, kept = self._candidates(priors, gts)
        # How well: by class and box.
        known = Pairs(near.prior, near.gt, costs.feasible(near))
        # Who is chosen: the cheapest, as many as its best boxes are worth.
        room = dynamic_k(priors, gts, predictions.boxes, kept, self.k)
        candidates, chosen = take_cheapest(known, room, _FEASIBLE, partial(self._others, priors, costs, kept))
        # Who wins: the ground truth of lowest cost.
        won = winners(known, chosen, gts, _FEASIBLE, costs.infeasible)
        overlap = overlaps(won, gts, predictions)
        return Steps(worth(candidates), worth(chosen), Pairs(won.prior, won.gt, overlap), score_target=overlap)

    def _candidates(self, priors: Priors, gts: GroundTruths) -> tuple[Pairs, Bool[Tensor, "slots"]]:
        radius = self.radius or _RADIUS[self.variant]
        if self.variant == "yolox":
            square = inside(priors, gts.boxes, math.inf, radius)  # no side is too short: of any box
            return square, gts.mark(square)
        pairs, near = inside_or_near(priors, gts.boxes, self.min_side, radius)
        return pairs[near & (pairs.value > 0)], gts.mark(pairs)

    def _others(self, priors: Priors, costs: _Costs, kept: Bool[Tensor, "slots"], short: Int[Tensor, "n"]) -> Pairs:
        """Pairs that aren't feasible, of ground truths that need some: the k cheapest of each are among them.

        Where boxes don't overlap the cost is that of the class: the k cheapest for a class will do, because an overlap
        only makes a pair cheaper. All pairs that overlap come beside them.
        """
        gts, found = costs.gts, []
        for image in gts.image[short].unique().tolist():
            own, among = short[gts.image[short] == image], kept.view(gts.images, gts.num_priors)[image]
            pairs = costs.cheapest_of_class(image, among, own, self.k)
            found.append(pairs[overlaps(pairs, gts, costs.predictions) == 0])
            for part in portions(own, gts.num_priors):
                pairs = decoded_overlaps(priors, costs.predictions.boxes[image], gts.boxes[part], among)
                pairs = Pairs(pairs.prior, part[pairs.gt], pairs.value)
                pairs = Pairs(pairs.prior, pairs.gt, costs.infeasible(pairs))
                found.append(pairs[first_k(pairs.gt, len(gts), self.k, pairs.value, pairs.prior)])
        return Pairs.join(found)


@dataclass(frozen=True, eq=False)
class _Costs:
    """Of pairs of one call, in float32."""

    gts: GroundTruths
    predictions: Predictions
    iou_weight: float
    eps: float

    def feasible(self, pairs: Pairs) -> Float[Tensor, "n"]:
        absent = sum_over_classes(self.predictions, self.gts.slot(pairs), _absent)
        score, overlap = class_scores(pairs, self.gts, self.predictions), overlaps(pairs, self.gts, self.predictions)
        return self._cost(absent, score, overlap)

    def infeasible(self, pairs: Pairs) -> Float[Tensor, "n"]:
        return (1 + self.feasible(pairs)) * _INFEASIBLE

    def cheapest_of_class(self, image: int, among: Bool[Tensor, "P"], own: Int[Tensor, "n"], k: int) -> Pairs:
        """Ground truths with the k priors that cost the least for their class where nothing overlaps."""
        prior, labels = among.nonzero().squeeze(1), cast(Tensor, self.gts.labels)[own]
        absent = sum_over_classes(self.predictions, prior + image * self.gts.num_priors, _absent)
        found = []
        for label in labels.unique().tolist():
            score = as_float(self.predictions.scores[image, prior, label])  # all of the row has been checked above
            cost = (1 + self._cost(absent, score, torch.zeros_like(score))) * _INFEASIBLE
            best = first_k(torch.zeros_like(prior), 1, k, cost, prior).nonzero().squeeze(1)
            of_class = own[labels == label]
            place = best.repeat(len(of_class))
            found.append(Pairs(prior[place], of_class.repeat_interleave(len(best)), cost[place]))
        return Pairs.join(found)

    def _cost(self, absent: Tensor, score: Tensor, overlap: Tensor) -> Tensor:
        score, overlap = as_double(score), as_double(overlap)
        classes = absent - _absent(score) + _held(-score.log())
        return (classes - self.iou_weight * (overlap + self.eps).log()).float().to(self.gts.boxes.device)


def _held(cost: Tensor) -> Tensor:
    return cost.clamp(max=100)


def _absent(score: Tensor) -> Tensor:
    """The cross-entropy of a class that isn't there."""
    return _held(-torch.log1p(-score))
