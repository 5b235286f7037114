"""RKA, the ranking-based assigner of NWD-RKA: no threshold for positives, only ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from labelkit.assigners.arguments import check_count, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.priors import Priors
from labelkit.search.candidates import Similarity, needs_size, plausible
from labelkit.search.choosing import top_k


@dataclass(frozen=True)
class RKA(Assigner):
    """The k priors most similar to a ground truth are its positives, however small the similarity (but above 0).

    Among equal similarities the lower prior goes first. A prior wanted by several ground truths goes to the most
    similar one, then to the lower index. Of the other priors those whose highest similarity is below `bg_thresh`
    are negative, the rest is ignored: 1.0 is the paper's reading (all others negative), 0.3 what the code does.
    Source: Xu 2022, arXiv 2206.13996, section 3.3; k = 2 there for Faster R-CNN, 3 for the others.

    The authors' code differs: it takes every prior whose similarity *equals* one of the k best (more than k on a
    symmetric grid) and lets the last ground truth win, so that an earlier one can lose all of its priors.
    """

    k: int = 3
    similarity: Similarity | None = None
    bg_thresh: float = 1.0

    def __post_init__(self) -> None:
        check_count("k", self.k)
        check_threshold("bg_thresh", self.bg_thresh)
        if not callable(self.similarity):
            raise ValueError(
                f"similarity must be given, for example functools.partial(nwd, constant=...), got {self.similarity!r}"
            )

    def assign(self, priors: Priors, gts: GroundTruths) -> Steps:
        similarity = cast(Similarity, self.similarity)
        needs_size(priors, similarity)
        # Who may match, and how well: the k best of every ground truth, and all that is too similar for background.
        pairs = plausible(priors, gts.boxes, similarity, floor=self.bg_thresh, k=self.k)
        ignored = gts.places(pairs.some(pairs.value >= self.bg_thresh))
        # Who is chosen: the k best.
        chosen = pairs.some(top_k(pairs, len(gts), self.k))
        # Who wins: the most similar ground truth.
        won = gts.winners(chosen)
        return Steps(pairs, chosen, chosen.table.some(won), ignored)
