"""oLRP: one error that holds missed objects, false detections and loose boxes together (Oksuz et al., ECCV 2018).

For the detections above a score, with every IoU threshold tau a true positive needs,

    LRP = (sum over true positives of (1 - IoU) / (1 - tau) + false positives + misses) / (their three counts together)

oLRP is the least LRP over all cuts of the detections in the order of their scores, as the authors' code has it: of
equal scores some may count and some not. 0 is perfect, 1 means nothing was found. At the best cut, Loc is the mean of
1 - IoU over the true positives, FP is 1 - precision and FN is 1 - recall.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from labelkit.evaluation.matching import least_iou, match_all


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
    """COCO's matching of one image and class at one threshold, see `matching`; rows are detections, best score first.

    Returns the IoU of each detection's match, 0 without one, and whether that match is an ignored ground truth.
    """
    row, column = np.nonzero(ious >= least_iou(tau))
    one_cell = np.zeros(len(ious), dtype=np.int64)
    matched, on_ignored = match_all(row, column, ious[row, column], one_cell, ignored_gts[None], crowd)
    return matched[0], on_ignored[0]


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
