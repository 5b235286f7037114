"""NoisyAnchors: the best anchors of a ground truth are positives, and each as much as it is clean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.assigners.arguments import check_count
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import class_scores, overlaps
from labelkit.assignment import Predictions
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, challengers, needs_size, plausible
from labelkit.search.choosing import counts, top_k
from labelkit.similarity import iou

_LARGEST = 1 - 1e-6  # 1 / (1 - x) stays finite
_SMALLEST_MEAN = 1e-6


@dataclass(frozen=True)
class NoisyAnchors(Assigner):
    """Learning from noisy anchors (Li 2020, arXiv 1912.05086, sections 3.1 to 3.3).

    The `n` priors of highest IoU (above 0) of every ground truth are positive; a prior belongs to its own best ground
    truth. With loc, the IoU of its decoded box with that ground truth, cls, the predicted probability of its class,
    and f(x) = 1 / (1 - x), a positive gets a soft label and a weight; all others are negative with weight 1.

    variant="paper":     label  = alpha loc + (1 - alpha) cls
                         weight = (alpha f(loc) + (1 - alpha) f(cls)) ** gamma
    variant="official", what the authors' code computes and their numbers come from, divides each term by its mean
    over the positives of the image and stretches the label to [mean loc, 1]:
                         s      = alpha loc / mean(loc) + (1 - alpha) cls / mean(cls)
                         label  = m + (s - min s) (1 - m) / (max s - min s), m = mean(loc); 1 if all s are equal
                         weight = alpha f(loc) / mean f(loc) + (1 - alpha) f(cls) / mean f(cls), of mean 1
    Their means run over the ground truths' lists one after another, a prior in two lists counting twice; gamma does
    not occur there. That code also scales the weighted loss back to the sum of the unweighted one: a matter of the
    loss. loc and cls are held below 1 - 1e-6 inside f, so that nothing is infinite or NaN.
    """

    n: int = 30
    alpha: float = 0.75
    gamma: float = 1.0
    variant: Literal["official", "paper"] = "official"

    needs_predictions = True

    def __post_init__(self) -> None:
        check_count("n", self.n)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}")
        if self.variant not in ("official", "paper"):
            raise ValueError(f"variant must be 'official' or 'paper', got {self.variant!r}")
        if self.variant == "official" and self.gamma != 1:
            raise ValueError(f"gamma must be 1 in the official variant, which knows none, got {self.gamma}")

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        needs_size(priors, iou)
        # Who may match, how well, who is chosen: the n best of every ground truth.
        pairs = plausible(priors, gts.boxes, iou, floor=math.inf, k=self.n)
        listed = pairs[top_k(pairs, len(gts), self.n)]
        # Who wins: the prior's own best ground truth, which need not have listed it.
        slot, positive = gts.slot(listed), self._owned(priors, gts, listed)
        # How clean each of them is.
        place = torch.empty(gts.slots, dtype=torch.int64, device=slot.device)
        place[gts.slot(positive)] = torch.arange(len(positive), device=slot.device)
        image = gts.image[positive.gt]
        loc = as_double(overlaps(positive, gts, predictions))
        cls = as_double(class_scores(positive, gts, predictions))
        if self.variant == "paper":
            label = self._blend(loc, cls)
            weight = self._blend(_steep(loc), _steep(cls)) ** self.gamma
        else:
            label, weight = self._official(loc, cls, image.to(loc.device), place[slot].to(loc.device), gts.images)
        label, weight = (x.to(positive.value.dtype).to(priors.device) for x in (label, weight))
        return Steps(pairs, listed, positive, score_target=label, weight=weight)

    def _owned(self, priors: Priors, gts: GroundTruths, listed: Pairs) -> Pairs:
        """Every prior that is listed, with the ground truth that is most similar to it."""
        if gts.alone:
            return listed
        holders = listed[gts.winners(listed)]
        rivals = challengers(priors, gts.boxes, iou, holders, gts.slot_of, gts.slots)
        return rivals[gts.winners(rivals)]

    def _blend(self, loc: Tensor, cls: Tensor) -> Tensor:
        return self.alpha * loc + (1 - self.alpha) * cls

    def _official(
        self,
        loc: Float[Tensor, "n"],
        cls: Float[Tensor, "n"],
        image: Int[Tensor, "n"],
        listed: Int[Tensor, "m"],
        images: int,
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """Label and weight of n positives; `listed` says which of them each entry of the lists is."""
        count = counts(image[listed], images).clamp(min=1)
        values = torch.stack((loc, cls, _steep(loc), _steep(cls)))
        total = values.new_zeros(4, images).index_add(1, image[listed], values[:, listed])
        means = (total / count)[:, image]
        weight = self._blend(*(values[2:] / means[2:]))
        score, floor = self._blend(*(values[:2] / means[:2].clamp(min=_SMALLEST_MEAN))), means[0]
        low = score.new_full((images,), math.inf).scatter_reduce(0, image, score, "amin")[image]
        high = score.new_full((images,), -math.inf).scatter_reduce(0, image, score, "amax")[image]
        stretched = floor + (score - low) * (1 - floor) / torch.where(high > low, high - low, 1)
        return torch.where(high > low, stretched, 1), weight


def _steep(x: Tensor) -> Tensor:
    return 1 / (1 - x.clamp(max=_LARGEST))
