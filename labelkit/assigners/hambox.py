"""HAMBox: anchors that overlap badly but regress well make up for the ones a ground truth lacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assignment import Predictions
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, needs_size, overlapping, plausible
from labelkit.search.choosing import best_first, counts
from labelkit.similarity import iou


@dataclass(frozen=True)
class HAMBox(Assigner):
    """Online high-quality anchor mining (Liu 2020, arXiv 1912.09231, sections 3.2 and 3.3), in three steps.

    1. A prior with IoU >= `fg_thresh` is matched to its own best ground truth. No ground truth forces a match.
    2. A ground truth with fewer than `k` matches is compensated, up to k, by unmatched priors whose *decoded* box
       has IoU >= `decoded_thresh` with it; the best pair of the image goes first, then the lower ground truth, then
       the lower prior, and a prior compensates once.
    3. Other unmatched priors whose decoded box has IoU >= `ignore_thresh` with any ground truth are ignored.

    `similarity` is the anchor's IoU for matched priors and the decoded one for compensated priors, whose `weight` it
    is too: the regression-aware focal loss weighs them so (it divides matched and compensated priors by a count of
    their own). Neither `k` nor `decoded_thresh` is known from the paper's text: choose them. Before the regression
    has learned anything no decoded box is good enough and nothing is compensated.
    """

    k: int
    decoded_thresh: float
    fg_thresh: float = 0.35
    ignore_thresh: float = 0.5

    needs_predictions = True

    def __post_init__(self) -> None:
        check_count("k", self.k)
        for name in ("decoded_thresh", "fg_thresh", "ignore_thresh"):
            check_threshold(name, getattr(self, name))

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        needs_size(priors, iou)
        # Step one: who overlaps well enough; the best ground truth wins.
        pairs = plausible(priors, gts.boxes, iou, floor=self.fg_thresh)
        matched = pairs[gts.winners(pairs)]
        taken = gts.mark(matched)
        # Step two: who regresses well, the best pairs first, as many as a ground truth lacks.
        decoded = decoded_pairs(gts, predictions.boxes, floor=min(self.decoded_thresh, self.ignore_thresh))
        decoded = decoded[~taken[gts.slot(decoded)]]
        good = decoded[decoded.value >= self.decoded_thresh]
        room = self.k - counts(matched.gt, len(gts))
        extra = good[best_first(good, gts.slot(good), gts.slots, room)]
        # Step three: who regresses well and was not needed is ignored.
        ignored = gts.slot(decoded[decoded.value >= self.ignore_thresh])
        weight = torch.cat((torch.ones_like(matched.value), extra.value))
        winners = Pairs.cat([matched, extra], priors)
        return Steps((pairs, decoded), (pairs, extra), winners, ignored, self.fg_thresh, weight=weight)


def decoded_pairs(gts: GroundTruths, boxes: Tensor, floor: float) -> Pairs:
    """All pairs of a prior and a ground truth of its image whose decoded box ([B, P, 4]) has IoU >= floor.

    Image by image: predictions stand on no grid. Inverted boxes have IoU 0.
    """
    parts = []
    for decoded, own in zip(boxes, gts.spans, strict=True):
        found = overlapping(decoded, gts.boxes[own], floor)
        parts.append(Pairs(found.prior, found.gt + own.start, found.value))
    return Pairs.cat(parts, Priors(boxes.new_zeros(0, 4), (0,)))
