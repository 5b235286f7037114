"""DCFL: from coarse to fine, by Gaussian similarity, then by the prediction, then by a Gaussian about the object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_share, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import class_scores, overlaps
from labelkit.assignment import Predictions
from labelkit.boxes import centers, sizes
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, Similarity, needs_size, plausible
from labelkit.search.choosing import counts, first_k, top_k
from labelkit.similarity import gjsd

_ROUNDING = 1e-12  # the order of a sum in float64 must not decide what "at least the threshold" means


@dataclass(frozen=True)
class DCFL(Assigner):
    """Dynamic coarse-to-fine learning (Xu 2023, arXiv 2304.08876, section 3), with priors that do not move.

    1. Coarse: the `k` priors most similar to a ground truth. One wanted by several goes to the most similar, then to
       the lower index.
    2. Medium: of these the `q` of best prediction: IoU of the decoded box + probability of the ground truth's class;
       then the lower prior.
    3. Fine: of these the ones near the middle of the object:

           mix * N(c; c_gt) + (1 - mix) * N(c; mean) >= exp(-gate)

       with c the prior's centre, mean the mean centre of the priors that step 2 left to the ground truth, and
       N(c; m) = exp(-2 (((c - m)_x / width)^2 + ((c - m)_y / height)^2)), the ground truth's own Gaussian of height 1.

    A prior that was in somebody's k and is not positive in the end is negative. Of the others those whose highest
    similarity is at least `bg_thresh` are ignored, the rest is negative. `similarity` is that of step 1.

    Few survive: three or four of twelve. The authors' code (Chasel-Tsui/mmrotate-dcfl d60ca27) computes something else:
    it takes all priors that *equal* one of the k best, lets the last ground truth win, uses the highest probability of
    *any* class, and fills a list shorter than q with priors of other ground truths, which thereby get theirs back: of
    two objects at one place the second has more than q. Its ignored priors turn negative outside of ground truth 0.
    There the priors' centres also follow the offsets of a deformable convolution.
    """

    k: int = 16
    q: int = 12
    gate: float = 0.6
    mix: float = 0.7
    similarity: Similarity = gjsd
    bg_thresh: float = 0.8

    needs_predictions = True

    def __post_init__(self) -> None:
        for name in ("k", "q"):
            check_count(name, getattr(self, name))
        for name in ("gate", "bg_thresh"):
            check_threshold(name, getattr(self, name))
        check_share("mix", self.mix)

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        needs_size(priors, self.similarity)
        # Who may match: the k most similar of every ground truth. How well, and who wins: by similarity.
        pairs = plausible(priors, gts.boxes, self.similarity, floor=self.bg_thresh, k=self.k)
        coarse = pairs[top_k(pairs, len(gts), self.k)]
        own = coarse[gts.winners(coarse)]
        # Who is chosen: the q best predicted, and of these who stands in the middle.
        quality = overlaps(own, gts, predictions) + class_scores(own, gts, predictions)
        medium = own[first_k(own.gt, len(gts), self.q, -quality, own.prior)]
        gate = self._gate(priors.centers.index_select(0, medium.prior), medium, gts)
        fine = medium[(gate >= math.exp(-self.gate) - _ROUNDING).to(priors.device)]
        # Too similar for background, and nobody's candidate: ignored.
        close = gts.slot(pairs[pairs.value >= self.bg_thresh])
        ignored = close[~gts.mark(coarse).index_select(0, close)]
        # Who wanted a prior that is positive in the end: its owner, and the ones that lost it in step 1.
        wanted = coarse[gts.mark(fine).index_select(0, gts.slot(coarse))]
        return Steps(coarse, wanted, fine, ignored)

    def _gate(self, center: Float[Tensor, "n 2"], pairs: Pairs, gts: GroundTruths) -> Float[Tensor, "n"]:
        """How near each prior is to the middle of its ground truth and to the mean of that ground truth's priors."""
        point = as_double(center)
        gt = pairs.gt.to(point.device)
        boxes = as_double(gts.boxes)
        count = counts(gt, len(gts)).clamp(min=1)
        mean = point.new_zeros(len(gts), 2).index_add(0, gt, point) / count[:, None]
        half = torch.stack(sizes(boxes), dim=1)[gt] / 2
        of_box, of_mean = (
            torch.exp(-((point - middle[gt]) / half).square().sum(dim=1) / 2) for middle in (centers(boxes), mean)
        )
        return self.mix * of_box + (1 - self.mix) * of_mean
