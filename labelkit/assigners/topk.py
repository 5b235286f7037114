"""TopK: every ground truth has a threshold of its own, the similarity of its k-th best prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labelkit.assigners.arguments import check_count
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.boxes import centers
from labelkit.priors import Priors
from labelkit.search.candidates import Similarity, needs_size, plausible
from labelkit.search.choosing import first_k
from labelkit.similarity import iou


@dataclass(frozen=True)
class TopK(Assigner):
    """The k priors of the whole pyramid that are most similar to a ground truth are its positives.

    Among equal similarities the nearest centre goes first, then the lower index; a prior with similarity 0 or less
    is never taken, so a ground truth may get fewer than k. A prior wanted by several ground truths goes to the most
    similar one, the loser gets no replacement. All others are negative, none is ignored.

    The cleanest published form is POSITIVE_TYPE 'TOPK' of the ATSS code (Zhang 2020, arXiv 1912.02424, section 4):
    IoU with the centre distance as tie-break, k = 9 over all levels; it also asks for the centre inside the box.
    """

    k: int = 9
    similarity: Similarity = iou

    def __post_init__(self) -> None:
        check_count("k", self.k)

    def assign(self, priors: Priors, gts: GroundTruths) -> Steps:
        needs_size(priors, self.similarity)
        # Who may match, and how well: all priors as similar as a ground truth's k-th best.
        pairs = plausible(priors, gts.boxes, self.similarity, floor=math.inf, k=self.k)
        # Who is chosen: the k best.
        offset = priors.centers.index_select(0, pairs.prior) - centers(gts.boxes).index_select(0, pairs.gt)
        dx, dy = offset.unbind(1)
        order = (-pairs.value, dx * dx + dy * dy, pairs.prior)
        chosen = pairs.some(first_k(pairs.gt, len(gts), self.k, *order))
        # Who wins: the most similar ground truth.
        won = gts.winners(chosen)
        return Steps(pairs, chosen, chosen.table.some(won))
