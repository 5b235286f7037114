"""oLRP: one error that holds missed objects, false detections and loose boxes together (Oksuz et al., ECCV 2018).

For the detections above a score, with every IoU threshold tau a true positive needs,

    LRP = (sum over true positives of (1 - IoU) / (1 - tau) + false positives + misses) / (their three counts together)

oLRP is the least LRP over all scores: 0 is perfect, 1 means nothing was found. At that score, Loc is the mean of
1 - IoU over the true positives, FP is 1 - precision and FN is 1 - recall.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class OLRP(NamedTuple):
    """`value` is oLRP; `score` the detection score at which it is reached. NaN where a part is not defined."""

    value: float
    loc: float
    fp: float
    fn: float
    score: float


UNDEFINED = OLRP(*[float("nan")] * 5)  # no ground truth: nothing to find
NOTHING_FOUND = OLRP(1.0, float("nan"), float("nan"), 1.0, float("nan"))


def match(
    ious: Float[np.ndarray, "D G"],
    ignored_gts: Bool[np.ndarray, "G"],
    crowd: Bool[np.ndarray, "G"],
    tau: float,
) -> tuple[Float[np.ndarray, "D"], Bool[np.ndarray, "D"]]:
    """COCO's greedy matching of one image and class at one threshold; rows are detections, best score first.

    Each detection takes the free ground truth of highest IoU, at least `tau`; one that counts goes before an ignored
    one, a crowd is never used up, and among equals the later index wins, as in COCO's evaluator. Returns the IoU of
    each detection's match (0 without one) and whether that match is an ignored ground truth.
    """
    matched, on_ignored = np.zeros(len(ious)), np.zeros(len(ious), dtype=bool)
    taken: set[int] = set()
    rows, columns = np.nonzero(ious >= min(tau, 1 - 1e-10))
    pairs = zip(rows.tolist(), columns.tolist(), ious[rows, columns].tolist(), strict=True)
    for row, candidates in groupby(pairs, key=lambda pair: pair[0]):
        free = [(not ignored_gts[gt], iou, gt) for _, gt, iou in candidates if gt not in taken]
        if free:
            counts, matched[row], gt = max(free)
            on_ignored[row] = not counts
            if not crowd[gt]:
                taken.add(gt)
    return matched, on_ignored


def olrp(scores: Float[np.ndarray, "D"], ious: Float[np.ndarray, "D"], num_gts: int, tau: float = 0.5) -> OLRP:
    """oLRP of one class. `ious` holds the IoU of each counted detection with its match, 0 for a false positive."""
    if num_gts == 0:
        return UNDEFINED
    order = np.argsort(-scores, kind="stable")
    scores, ious = scores[order], ious[order]
    true = ious > 0
    hits, false, loose = np.cumsum(true), np.cumsum(~true), np.cumsum(np.where(true, 1 - ious, 0))
    error = (loose / (1 - tau) + false + num_gts - hits) / (false + num_gts)
    best = int(error.argmin()) if len(error) else 0
    if not len(error) or hits[best] == 0:
        return NOTHING_FOUND
    return OLRP(
        value=float(error[best]),
        loc=float(loose[best] / hits[best]),
        fp=float(false[best] / (best + 1)),
        fn=float(1 - hits[best] / num_gts),
        score=float(scores[best]),
    )
