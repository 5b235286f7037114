"""TaskAligned: the priors that score and regress a ground truth best at once are its positives."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_exponent, check_min_side, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import class_scores, overlaps
from labelkit.assignment import Predictions
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, Similarity, inside
from labelkit.search.choosing import top_k
from labelkit.similarity import ciou, iou


@dataclass(frozen=True)
class TaskAligned(Assigner):
    """Task-aligned assignment (TOOD, Feng 2021, arXiv 2108.07755, section 3.2; YOLOv8 to YOLO26). A pair's metric is

        t = s^alpha * u^beta,  s the prior's score for the ground truth's class, u the overlap of its decoded box,

    and a negative overlap counts as 0.

    1. candidates: priors whose centre lies strictly inside the ground truth, its sides floored to `min_side` first;
    2. chosen: its k candidates of highest t, then the lower index; t > 0 is asked for, so fewer where fewer have it;
    3. a prior chosen by several goes to the ground truth of highest overlap among those, then to the lower index;
    4. with `k_final`, only the k_final best by t of those a ground truth has left stay positive (YOLO26: k=7,
       k_final=1). Conflicts come first, so that the loser of one keeps its next best.

    `similarity` of a positive is u, its `score_target` t / (largest t) * (largest u), both over what its ground truth
    kept: the loss weighs boxes by it too. `weight` is 1. Nothing is ignored.

    Two orders are in use. TOOD and mmdet 3.3 (alpha=1, beta=6, k=13, IoU) take the top k of the whole pyramid and drop
    those outside (here: l, t, r, b > 0.01 px) afterwards, without refill. PP-YOLOE, YOLOv6 and Ultralytics take the k
    best of those inside: ours. Ultralytics 8.4.190 (alpha=0.5, beta=6, k=10, overlap=ciou, min_side: the second
    stride, 16 px at strides 8, 16, 32; none before 8.4.0, another rule up to 8.4.126) also gives a contested prior to
    the highest overlap of all ground truths it lies in, chosen by them or not, fills the k with arbitrary priors where
    t is 0, at target 0, and adds 1e-9 to the largest t (mmdet 1e-7), which lowers the target of a very bad best pair.

    t is computed in float64 (in float16 an overlap of 0.05 to the sixth is 0) and compared in float32.
    """

    k: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    overlap: Similarity = iou
    min_side: float | None = None
    k_final: int | None = None

    needs_predictions = True

    def __post_init__(self) -> None:
        check_count("k", self.k)
        if self.k_final is not None:
            check_count("k_final", self.k_final)
        check_min_side(self.min_side)
        check_threshold("beta", self.beta)
        check_exponent("alpha", self.alpha)
        if self.overlap not in (iou, ciou):
            raise ValueError(f"overlap must be iou or ciou of labelkit.similarity, got {self.overlap!r}")

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        # Who may match: the priors inside.
        near = inside(priors, gts.boxes, self.min_side)
        near = Pairs(near.prior, near.gt, overlaps(near, gts, predictions, self.overlap))
        near = near[near.value > 0]
        # How well: by score and overlap together.
        t = self._metric(class_scores(near, gts, predictions), near.value)
        real = (t > 0).nonzero().squeeze(1)
        t, near = t[real], near[real.to(priors.device)]
        pairs = Pairs(near.prior, near.gt, t.float().to(priors.device))
        # Who is chosen: the k best.
        chosen = top_k(pairs, len(gts), self.k).nonzero().squeeze(1)
        # Who wins: the ground truth of highest overlap, and of what it won its k_final best.
        best = near[chosen]
        won = chosen[gts.winners(best)]
        if self.k_final is not None:
            won = won[top_k(pairs[won], len(gts), self.k_final)]
        target = _normalised(near[won], t[won.to(t.device)], len(gts))
        return Steps(pairs, pairs[chosen], near[won], score_target=target)

    def _metric(self, score: Float[Tensor, "n"], overlap: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """t in float64. By logarithms: torch.pow rounds differently by the position in memory."""
        log = self.beta * as_double(overlap).log()
        return (log + self.alpha * as_double(score).log() if self.alpha > 0 else log).exp()


def _normalised(pairs: Pairs, t: Float[Tensor, "n"], gts: int) -> Float[Tensor, "n"]:
    """t so scaled that the best of a ground truth's pairs has the highest overlap (the pairs' value) of them."""
    gt, overlap = pairs.gt.to(t.device), as_double(pairs.value)
    most, widest = (t.new_zeros(gts).scatter_reduce(0, gt, x, "amax").index_select(0, gt) for x in (t, overlap))
    return (t / most * widest).to(pairs.value.dtype).to(pairs.value.device)
