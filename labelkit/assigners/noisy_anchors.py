"""NoisyAnchors: the best anchors of a ground truth are positives, and each as much as it is clean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_exponent, check_share
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
        check_share("alpha", self.alpha)
        if self.variant not in ("official", "paper"):
            raise ValueError(f"variant must be 'official' or 'paper', got {self.variant!r}")
        if self.variant == "official" and self.gamma != 1:
            raise ValueError(f"gamma must be 1 in the official variant, which knows none, got {self.gamma!r}")
        check_exponent("gamma", self.gamma)

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        needs_size(priors, iou)
        # Who may match, how well, who is chosen: the n best of every ground truth.
        pairs = plausible(priors, gts.boxes, iou, floor=math.inf, k=self.n)
        listed = pairs[top_k(pairs, len(gts), self.n)]
        # Who wins: the prior's own best ground truth, which need not have listed it.
        positive = self._owned(priors, gts, listed)
        # How clean each of them is: loc and cls.
        clean = as_double(torch.stack((overlaps(positive, gts, predictions), class_scores(positive, gts, predictions))))
        soft = self._paper(clean) if self.variant == "paper" else self._official(clean, positive, listed, gts)
        label, weight = soft.to(positive.value.dtype).to(priors.device)
        return Steps(pairs, listed, positive, score_target=label, weight=weight)

    def _owned(self, priors: Priors, gts: GroundTruths, listed: Pairs) -> Pairs:
        """Every prior that is listed, with the ground truth that is most similar to it."""
        if gts.alone:
            return listed
        holders = listed[gts.winners(listed)]
        rivals = challengers(priors, gts.boxes, iou, holders, gts.slot_of, gts.slots)
        return rivals[gts.winners(rivals)]

    def _paper(self, clean: Float[Tensor, "2 n"]) -> Float[Tensor, "2 n"]:
        """Label and weight of each positive."""
        return torch.stack((self._blend(clean), self._blend(_steep(clean)) ** self.gamma))

    def _official(
        self, clean: Float[Tensor, "2 n"], positive: Pairs, listed: Pairs, gts: GroundTruths
    ) -> Float[Tensor, "2 n"]:
        """The same, with means over the lists."""
        if len(positive) == 0:
            return clean
        image = None if gts.images == 1 else gts.image.index_select(0, positive.gt).to(clean.device)
        values = torch.cat((clean, _steep(clean)))
        means = _means(values, self._places(positive, listed, gts, clean.device), image, gts.images)
        weight = self._blend(values[2:] / means[2:])
        score, floor = self._blend(values[:2] / means[:2].clamp(min=_SMALLEST_MEAN)), means[0]
        low, high = _ends(score, image, gts.images)
        wide = high > low
        stretched = floor + (score - low) * (1 - floor) / torch.where(wide, high - low, 1)
        return torch.stack((stretched.masked_fill(~wide, 1), weight))

    def _places(self, positive: Pairs, listed: Pairs, gts: GroundTruths, device: torch.device) -> Tensor | None:
        """Which of the positives each entry of the lists is; None: the one in its place."""
        if positive is listed:
            return None
        place = torch.empty(gts.slots, dtype=torch.int64, device=gts.boxes.device)
        place.index_copy_(0, gts.slot(positive), torch.arange(len(positive), device=place.device))
        return place.index_select(0, gts.slot(listed)).to(device)

    def _blend(self, both: Float[Tensor, "2 n"]) -> Float[Tensor, "n"]:
        return self.alpha * both[0] + (1 - self.alpha) * both[1]


def _steep(x: Tensor) -> Tensor:
    return (1 - x.clamp(max=_LARGEST)).reciprocal()


# Of each image's values, spread over its positives; `image` None where there is one image, whose own is everybody's.


def _means(
    values: Float[Tensor, "k n"], listed: Int[Tensor, "m"] | None, image: Int[Tensor, "n"] | None, images: int
) -> Float[Tensor, "k #n"]:
    """Over the entries of the lists."""
    entries = values if listed is None else values.index_select(1, listed)
    if image is None:
        return entries.mean(dim=1, keepdim=True)
    of_entry = image if listed is None else image.index_select(0, listed)
    total = values.new_zeros(len(values), images).index_add_(1, of_entry, entries)
    return (total / counts(of_entry, images).clamp(min=1)).index_select(1, image)


def _ends(
    value: Float[Tensor, "n"], image: Int[Tensor, "n"] | None, images: int
) -> tuple[Float[Tensor, "#n"], Float[Tensor, "#n"]]:
    """The least and the largest."""
    if image is None:
        low, high = torch.aminmax(value, dim=0, keepdim=True)
        return low, high
    low = value.new_full((images,), math.inf).scatter_reduce_(0, image, value, "amin")
    high = value.new_full((images,), -math.inf).scatter_reduce_(0, image, value, "amax")
    return low.index_select(0, image), high.index_select(0, image)
