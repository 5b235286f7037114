"""S3FD: a lower threshold, and compensation for the ground truths that still have too few anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_number
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.priors import Priors
from labelkit.search.candidates import needs_size, plausible
from labelkit.search.choosing import counts, first_in_order, first_of
from labelkit.similarity import iou

_ABOVE_ZERO = torch.finfo(torch.float32).tiny  # an IoU that says "some overlap"


@dataclass(frozen=True)
class S3FD(Assigner):
    """Scale compensation anchor matching (Zhang 2017, arXiv 1708.05237, section 3.2).

    Stage one, as in SSD but with a lower threshold: a prior with IoU >= `fg_thresh` belongs to its own best ground
    truth; then the best prior of every ground truth (the first of equals, IoU above 0) is forced to it, a later
    ground truth overwriting an earlier one. Stage two: a ground truth with fewer than `n` priors takes more, the
    highest IoU first, from the unmatched priors whose own best ground truth it is and whose IoU is > `min_iou`.
    All others are negative; none is ignored.

    n = 6 is the author's practice (issues 12, 32 and 46 of his repository), "mean" the paper's text: the mean number
    of priors matched in stage one over the ground truths of the image, rounded down. The training code was never
    published; two ports count over the image instead of over each face.
    """

    fg_thresh: float = 0.35
    min_iou: float = 0.1
    n: int | Literal["mean"] = 6

    def __post_init__(self) -> None:
        for name in ("fg_thresh", "min_iou"):
            check_number(name, getattr(self, name))
        if not 0 <= self.min_iou <= self.fg_thresh:
            raise ValueError(f"min_iou must lie in [0, fg_thresh], got {self.min_iou} and {self.fg_thresh}")
        if self.n != "mean":
            check_count("n", self.n)

    def assign(self, priors: Priors, gts: GroundTruths) -> Steps:
        needs_size(priors, iou)
        # Who may match, and how well: every overlap that stage two would accept, and the best of each ground truth.
        pairs = plausible(priors, gts.boxes, iou, floor=max(self.min_iou, _ABOVE_ZERO), k=1)
        slot = gts.slot(pairs)
        own = gts.winners(pairs)
        # Stage one. Who is chosen: the threshold, and the forced ones; who wins: the forced, the last of them.
        forced = first_of(pairs.gt, len(gts), -pairs.value, pairs.prior)
        forced = first_of(slot, gts.slots, -pairs.gt, among=forced)
        taken = gts.mark(pairs.some(forced)).index_select(0, slot)
        matched = forced | (own & (pairs.value >= self.fg_thresh) & ~taken)
        # Stage two: who is chosen among the priors that stage one left alone, each of which is one's own.
        taken = gts.mark(pairs.some(matched)).index_select(0, slot)
        room = self._missing(gts, counts(pairs.gt, len(gts), among=matched))
        free = own & (pairs.value > self.min_iou) & ~taken
        extra = first_in_order(pairs.gt, room, -pairs.value, pairs.prior, among=free)
        positive = pairs.some(matched | extra)
        return Steps(pairs, positive, positive, bar=self.fg_thresh)

    def _missing(self, gts: GroundTruths, matched: Int[Tensor, "G"]) -> Int[Tensor, "G"]:
        """How many priors each ground truth lacks; 0 or less: none."""
        if self.n != "mean":
            return self.n - matched
        count = counts(gts.image, gts.images)
        total = torch.zeros_like(count).index_add_(0, gts.image, matched)
        return (total // count.clamp(min=1))[gts.image] - matched
