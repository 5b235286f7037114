"""Max-IoU assignment: one threshold for all (Faster R-CNN's proposal network, RetinaNet, SSD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool
from torch import Tensor

from labelkit.assigners.arguments import check_number
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.boxes import centers
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, Similarity, needs_size, owned, plausible
from labelkit.search.choosing import first_of
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
        for name in ("fg_thresh", "bg_thresh", "min_fg"):
            check_number(name, getattr(self, name))
        if not self.bg_thresh <= self.fg_thresh:
            raise ValueError(f"bg_thresh must not exceed fg_thresh, got {self.bg_thresh} and {self.fg_thresh}")
        if self.min_fg < 0:
            raise ValueError(f"min_fg must be a similarity of at least 0, got {self.min_fg!r}")
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
        own = gts.winners(pairs)
        # Who is chosen: what is good enough; what is not bad enough is ignored. Who wins: the best ground truth.
        good = own & (pairs.value >= self.fg_thresh)
        ignored = gts.places(pairs.some(own & (pairs.value >= self.bg_thresh)))
        if not self.allow_low_quality_matches:
            return Steps(pairs, lambda: self._chosen(pairs), pairs.some(good), ignored, self.fg_thresh)
        # The low-quality rule chooses more, and a prior that it claims goes to its owner.
        claim = self._claims(priors, gts, pairs)
        claimed, won = gts.mark(pairs.some(claim)).index_select(0, slot), pairs
        if self.low_quality_owner == "gt":
            owner = first_of(slot, gts.slots, -pairs.gt, among=claim)
        else:
            owner = own & claimed
            won = self._argmax_of_claimed(priors, gts, pairs, owner)
        positive = won.some(owner | (good & ~claimed))
        return Steps(pairs, lambda: self._chosen(pairs, claim), positive, ignored, self.fg_thresh)

    def _chosen(self, pairs: Pairs, claim: Bool[Tensor, "n"] | None = None) -> Pairs:
        """All pairs that pass the threshold, and the claims."""
        passed = pairs.value >= self.fg_thresh
        return pairs[passed if claim is None else passed | claim]

    def _claims(self, priors: Priors, gts: GroundTruths, pairs: Pairs) -> Bool[Tensor, "n"]:
        """The pairs whose similarity equals the best of their ground truth exactly, ties by `low_quality_ties`."""
        best = pairs.value.new_zeros(len(gts)).scatter_reduce_(0, pairs.gt, pairs.value, "amax")
        enough = pairs.value >= self.min_fg if self.min_fg > 0 else pairs.value > 0
        claim = (pairs.value == best.index_select(0, pairs.gt)) & enough
        if self.low_quality_ties == "all":
            return claim
        if self.low_quality_ties == "first":
            return first_of(pairs.gt, len(gts), pairs.prior, among=claim)
        offset = priors.centers.index_select(0, pairs.prior) - centers(gts.boxes).index_select(0, pairs.gt)
        return first_of(pairs.gt, len(gts), (offset * offset).sum(dim=1), pairs.prior, among=claim)

    def _argmax_of_claimed(self, priors: Priors, gts: GroundTruths, pairs: Pairs, own: Bool[Tensor, "n"]) -> Pairs:
        """The pairs, with its own best ground truth for every claimed prior, where `own` stands.

        A pair that reaches bg_thresh is exact: all such pairs are known. Below, a ground truth that was content with
        other priors may beat the claim, so those priors are held against all ground truths again.
        """
        if gts.alone:
            return pairs
        unsure = own & (pairs.value < self.bg_thresh)
        return owned(priors, gts.boxes, self.similarity, pairs, unsure, gts.slot_of, gts.slots)
