"""Max-IoU assignment: one threshold for all (Faster R-CNN's proposal network, RetinaNet, SSD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Int
from torch import Tensor

from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.boxes import centers
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, Similarity, challengers, needs_size, plausible
from labelkit.search.choosing import best_per_prior, first_of
from labelkit.similarity import iou


@dataclass(frozen=True)
class MaxIoU(Assigner):
    """Let m be a prior's highest similarity with any ground truth. The prior is

    - negative if m < bg_thresh,
    - positive for that ground truth (the lower index on ties) if m >= fg_thresh,
    - ignored in between: bg_thresh <= m < fg_thresh.

    The low-quality rule (`allow_low_quality_matches`) then gives something to every ground truth that is left with
    too little: its best prior becomes positive whatever the thresholds say, provided that the best similarity q is
    above 0 and at least `min_fg`. Sources differ in two ways, and the choice moves AP by 3 to 4 points, so name it:

    - `low_quality_ties`, where several priors have exactly q: "all" of them (torchvision, detectron2, mmdet),
      only the "first" (SSD; mmdet's gt_max_assign_all=False), or only the one whose centre is "nearest".
    - `low_quality_owner`: the prior becomes positive for its own best ground truth ("argmax": torchvision,
      detectron2) or for the ground truth that claims it ("gt": mmdet; the last one in order where several do).

    Faster R-CNN's proposal network: fg_thresh=0.7, bg_thresh=0.3 (Ren 2015, section 3.1.2). RetinaNet: 0.5 and 0.4
    (Lin 2017, section 4). A ground truth that overlaps nothing claims nothing; peers give it every prior.
    """

    fg_thresh: float = 0.5
    bg_thresh: float = 0.4
    allow_low_quality_matches: bool = True
    low_quality_owner: Literal["argmax", "gt"] = "argmax"
    low_quality_ties: Literal["all", "first", "nearest"] = "all"
    min_fg: float = 0.0
    similarity: Similarity = iou

    def __post_init__(self) -> None:
        if not self.bg_thresh <= self.fg_thresh:
            raise ValueError(f"bg_thresh must not exceed fg_thresh, got {self.bg_thresh} and {self.fg_thresh}")
        if self.low_quality_owner not in ("argmax", "gt"):
            raise ValueError(f"low_quality_owner must be 'argmax' or 'gt', got {self.low_quality_owner!r}")
        if self.low_quality_ties not in ("all", "first", "nearest"):
            raise ValueError(f"low_quality_ties must be 'all', 'first' or 'nearest', got {self.low_quality_ties!r}")

    def assign(self, priors: Priors, gts: GroundTruths) -> Steps:
        needs_size(priors, self.similarity)
        # Who may match, and how well: all pairs from bg_thresh up, and each ground truth's best ones.
        k = 1 if self.allow_low_quality_matches else 0
        pairs = plausible(priors, gts.boxes, self.similarity, floor=self.bg_thresh, k=k)
        slot = gts.slot(pairs)
        own = pairs[best_per_prior(pairs, slot, gts.slots)]
        # Who is chosen: what is good enough; what is not bad enough is ignored. Who wins: the best ground truth.
        good, ignored = own[own.value >= self.fg_thresh], gts.slot(own)[own.value >= self.bg_thresh]
        if not self.allow_low_quality_matches:
            return Steps(pairs, lambda: pairs[pairs.value >= self.fg_thresh], good, ignored, self.fg_thresh)
        # The low-quality rule chooses more, and a prior that it claims goes to its owner.
        claim = pairs[self._claims(priors, gts, pairs)]
        if self.low_quality_owner == "gt":
            owned = claim[first_of(gts.slot(claim), gts.slots, -claim.gt)]
        else:
            owned = self._argmax_of_claimed(priors, gts, own, claim)
        free = ~gts.mark(owned).index_select(0, gts.slot(good))
        positive = Pairs.cat([good[free], owned], priors)
        return Steps(pairs, lambda: self._chosen(pairs, claim), positive, ignored, self.fg_thresh)

    def _chosen(self, pairs: Pairs, claim: Pairs) -> Pairs:
        """All pairs that pass the threshold, and the claims below it."""
        passed, below = pairs[pairs.value >= self.fg_thresh], claim[claim.value < self.fg_thresh]
        return Pairs.join((passed, below))

    def _claims(self, priors: Priors, gts: GroundTruths, pairs: Pairs) -> Bool[Tensor, "n"] | Int[Tensor, "m"]:
        """The pairs whose similarity equals the best of their ground truth exactly, ties by `low_quality_ties`."""
        best = pairs.value.new_zeros(len(gts)).scatter_reduce_(0, pairs.gt, pairs.value, "amax")
        claim = (pairs.value == best.index_select(0, pairs.gt)) & (pairs.value > 0) & (pairs.value >= self.min_fg)
        if self.low_quality_ties == "all":
            return claim
        claim = claim.nonzero().squeeze(1)
        tied = pairs[claim]
        if self.low_quality_ties == "first":
            return claim[first_of(tied.gt, len(gts), tied.prior)]
        offset = priors.centers[tied.prior] - centers(gts.boxes)[tied.gt]
        return claim[first_of(tied.gt, len(gts), (offset * offset).sum(dim=1), tied.prior)]

    def _argmax_of_claimed(self, priors: Priors, gts: GroundTruths, own: Pairs, claim: Pairs) -> Pairs:
        """For every claimed prior the pair with its own best ground truth.

        `own` is exact where it reaches bg_thresh: all such pairs are known. Below, a ground truth that was content
        with other priors may beat the claim, so those priors are held against all ground truths again.
        """
        own = own[gts.mark(claim).index_select(0, gts.slot(own))]
        known = own.value >= self.bg_thresh
        if max(gts.counts, default=0) <= 1 or bool(known.all()):
            return own
        rivals = challengers(priors, gts.boxes, self.similarity, own[~known], gts.slot_of, gts.slots)
        best = rivals[best_per_prior(rivals, gts.slot(rivals), gts.slots)]
        return Pairs.cat([own[known], best], priors)
