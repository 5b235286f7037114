"""POTO: one prior a ground truth, so that nothing is found twice; the network's own output says which."""

from __future__ import annotations

from dataclasses import dataclass

from labelkit.assigners.arguments import check_min_side, check_share
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import class_scores, overlaps
from labelkit.assignment import Predictions
from labelkit.checks import is_finite
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, inside
from labelkit.search.choosing import minimum_sum


@dataclass(frozen=True)
class POTO(Assigner):
    """Prediction-aware one-to-one label assignment (Wang 2021, End-to-end object detection with fully convolutional
    network, arXiv 2012.03544, section 3.2; Megvii's DeFCN, bd7e24d).

    A point may match a ground truth in which it strictly lies, if it also lies strictly within `radius` strides of the
    centre, max(|dx|, |dy|). With s the predicted probability of the ground truth's class and I the IoU of the decoded
    box, the quality of a pair is s^(1 - alpha) * I^alpha, and 0^0 is 1. The positives are the one-to-one matching of
    the greatest sum of qualities among those that serve as many ground truths as candidates allow; of equal ones
    scipy's solver says which (`minimum_sum`). All others are negative, none is ignored. `similarity` is I.

    A ground truth without a candidate gets nothing, and takes nothing from anybody. DeFCN gives all pairs that may not
    match the quality -1 and matches them too: a tiny object between the points is then learned at an arbitrary point of
    the image. And where rivals have too few candidates between them it may leave one of them without whom this serves,
    because a better sum pays for the -1. min_side (pixels) floors a side for the inside test alone and finds tiny
    objects a candidate; DeFCN has no such thing.
    """

    alpha: float = 0.8
    radius: float = 1.5
    min_side: float | None = None

    needs_predictions = True

    def __post_init__(self) -> None:
        check_min_side(self.min_side)
        check_share("alpha", self.alpha)
        if not (is_finite(self.radius) and self.radius > 0):
            raise ValueError(f"radius must be a positive number of strides, got {self.radius!r}")

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        # Who may match: the central points inside.
        near = inside(priors, gts.boxes, self.min_side, self.radius)
        # How well: what the network makes of the class and of the box.
        overlap = overlaps(near, gts, predictions)
        # In float64, rounded at the end: the last bit of a power in float32 depends on its place in the vector.
        score, fit = as_double(class_scores(near, gts, predictions)), as_double(overlap)
        quality = (score ** (1 - self.alpha) * fit**self.alpha).to(overlap.dtype).to(priors.device)
        pairs = Pairs(near.prior, near.gt, quality)
        # Who is chosen, and wins: one prior each, of the greatest sum.
        chosen = minimum_sum(pairs, gts.slot(pairs), len(gts), -quality)
        return Steps(pairs, pairs[chosen], Pairs(near.prior, near.gt, overlap)[chosen])
