"""RFLA: receptive fields as Gaussians, assigned in two rounds (its hierarchical label assignment, HLA)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from labelkit.assigners.arguments import check_count, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, Similarity, needs_size, plausible
from labelkit.search.choosing import best_first, counts, top_k
from labelkit.similarity import OfScaledPriors, rfd


@dataclass(frozen=True)
class RFLA(Assigner):
    """k priors for every ground truth by rank, then one more on priors shrunk to `beta` of their size.

    The priors are receptive-field boxes (`labelkit.receptive_field.rf_priors`). Round one takes the k most similar
    of every ground truth, round two, independently, the most similar of the shrunk ones; a prior positive in round
    one stays what it is. A prior wanted by several ground truths in one round goes to the most similar one, then to
    the lower index. Priors positive in neither are negative where their highest similarity in round two is below
    `bg_thresh`, ignored elsewhere. `similarity` in the answer is that of the round that chose the prior.
    Source: Xu 2022, arXiv 2208.08738, section 3.3; [k, 1] = [3, 1] and beta = 0.9 for AI-TOD.

    With rfd's KL round two almost never adds anything: inside a level the best prior does not depend on beta, so it
    is positive already. `rescue=True` does what the paper hopes for: ground truths without a positive after both
    rounds take priors that are still free, one each, the most similar pair first. The authors' code shrinks the
    caller's priors in place at every call and lets the last ground truth win; this does neither.
    """

    k: int = 3
    beta: float = 0.9
    similarity: Similarity = rfd
    bg_thresh: float = 0.8
    rescue: bool = False

    def __post_init__(self) -> None:
        check_count("k", self.k)
        check_threshold("beta", self.beta)
        check_threshold("bg_thresh", self.bg_thresh)

    def assign(self, priors: Priors, gts: GroundTruths) -> Steps:
        needs_size(priors, self.similarity)
        # Round one. Who may match and how well, who is chosen, who wins.
        alike = plausible(priors, gts.boxes, self.similarity, floor=math.inf, k=self.k)
        chosen, first = _k_best(alike, gts, self.k)
        # Round two, the same on smaller priors; what is too similar for background is ignored.
        of_shrunk = OfScaledPriors(self.similarity, self.beta)
        pairs = plausible(priors, gts.boxes, of_shrunk, floor=self.bg_thresh, k=1)
        ignored = gts.places(pairs.some(pairs.value >= self.bg_thresh))
        chosen_again, second = _k_best(pairs, gts, 1)
        free = ~gts.mark(first).index_select(0, gts.slot(second.table))
        positive = Pairs.join((first, second.some(free)))
        if self.rescue:
            rescued = self._rescued(priors, gts, positive)
            positive = Pairs.cat([positive, rescued], priors)
            return Steps((alike, pairs, rescued), (chosen, chosen_again, rescued), positive, ignored)
        return Steps((alike, pairs), (chosen, chosen_again), positive, ignored)

    def _rescued(self, priors: Priors, gts: GroundTruths, positive: Pairs) -> Pairs:
        """A free prior for each ground truth without one, looked for among ever more of its most similar priors."""
        empty = (counts(positive.gt, len(gts)) == 0).nonzero().squeeze(1)
        taken, reach = gts.mark(positive), 4 * self.k
        while True:
            pairs = plausible(priors, gts.boxes[empty], self.similarity, floor=math.inf, k=reach)
            pairs = Pairs(pairs.prior, empty[pairs.gt], pairs.value)
            pairs = pairs[~taken[gts.slot(pairs)]]
            one_each = torch.ones_like(gts.image)
            rescued = pairs[best_first(pairs, gts.slot(pairs), gts.slots, one_each)]
            if len(rescued) == len(empty) or reach >= len(priors):
                return rescued
            reach *= 4


HLA = RFLA  # the name of the assignment alone, in the paper and in the first edition


def _k_best(pairs: Pairs, gts: GroundTruths, k: int) -> tuple[Pairs, Pairs]:
    """Who is chosen, and who of them wins."""
    chosen = pairs.some(top_k(pairs, len(gts), k))
    return chosen, chosen.table.some(gts.winners(chosen))
