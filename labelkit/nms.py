"""Non-maximum suppression, greedy and soft, under any similarity and per class: one object, one detection.

Both work row by row: a kept box is compared with the boxes still in play, so memory follows N, never N x N.
For plain IoU on tens of thousands of boxes torchvision's compiled `nms` does the same faster; it knows no other
similarity and no soft rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int64, Integer, Num
from torch import Tensor

from labelkit.boxes import as_float, check_boxes
from labelkit.similarity import iou

Similarity = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def nms(
    boxes: Num[Tensor, "N 4"],
    scores: Num[Tensor, " N"],
    threshold: float,
    similarity: Similarity = iou,
    labels: Integer[Tensor, " N"] | None = None,
) -> Int64[Tensor, " K"]:
    """Greedy suppression: indices of the kept boxes by falling score, among equal scores the lower index first.

    A kept box removes every later box of its class with `similarity(kept, other) > threshold`, strictly, compared
    in the dtype of the boxes. `labels` are classes: no box suppresses one of another class; without them all are
    one class. Equal to `torchvision.ops.nms` and `batched_nms` where no two scores and no value and threshold tie.
    Raises `ValueError` for a box or score that is not finite, and for an inverted box.
    """
    boxes, scores, labels = _checked(boxes, scores, labels)
    order = scores.argsort(descending=True, stable=True)
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for rest in _by_class(order, labels):
        while len(rest):
            best, rest = rest[0], rest[1:]
            kept[best] = True
            # "not above" instead of "at most": a similarity that is undefined for a pair suppresses nothing.
            rest = rest[~(similarity(boxes[best], boxes[rest]) > threshold)]
    return order[kept[order]]


@torch.no_grad()
def soft_nms(
    boxes: Num[Tensor, "N 4"],
    scores: Num[Tensor, " N"],
    *,
    method: str = "linear",
    sigma: float = 0.5,
    threshold: float = 0.3,
    score_threshold: float = 1e-3,
    similarity: Similarity = iou,
    labels: Integer[Tensor, " N"] | None = None,
) -> tuple[Int64[Tensor, " K"], Float[Tensor, " K"]]:
    """Suppression that lowers scores instead of deleting boxes: (kept indices, their new scores), falling.

    The best remaining box is kept; every other of its class is multiplied by 1 - s where s >= `threshold`
    ("linear") or by exp(-s^2 / `sigma`) everywhere ("gaussian"), s the similarity with the kept box, a negative one
    counting as 0 (Bodla 2017, arXiv 1704.04503, section 3). A box is dropped when its score is below
    `score_threshold`, at the start too: mmcv, whose defaults these are, never tests the very best box.
    `labels` as in `nms`. Scores are probabilities: a negative one is refused, since decay would raise it.
    """
    if method not in ("linear", "gaussian"):
        raise ValueError(f"method must be 'linear' or 'gaussian', got {method!r}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    boxes, scores, labels = _checked(boxes, scores, labels)
    _refuse_first(scores < 0, scores, "scores", "must not be negative")
    scores = scores.clone()
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for rest in _by_class(torch.arange(len(scores), device=scores.device), labels):
        rest = rest[scores[rest] >= score_threshold]
        while len(rest):
            # argmax does not promise the first of several maxima; the first True of a mask is exactly that.
            place = (scores[rest] == scores[rest].max()).nonzero()[0, 0]
            best = rest[place]
            kept[best] = True
            rest = torch.cat((rest[:place], rest[place + 1 :]))
            s = similarity(boxes[best], boxes[rest]).clamp(min=0)
            decay = torch.exp(-s * s / sigma) if method == "gaussian" else torch.where(s >= threshold, 1 - s, 1)
            scores[rest] *= decay.to(scores.dtype)
            rest = rest[scores[rest] >= score_threshold]
    order = scores.argsort(descending=True, stable=True)
    order = order[kept[order]]
    return order, scores[order]


def _by_class(order: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    """The indices in `order`, class by class, their order kept."""
    if labels is None:
        yield order
        return
    for label in labels.unique():
        yield order[labels[order] == label]


def _checked(boxes: Tensor, scores: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    boxes = check_boxes(boxes, "boxes", zero_size=True)
    for name, values in (("scores", scores), ("labels", labels)):
        if name == "labels" and labels is None:
            continue
        if not isinstance(values, Tensor) or values.shape != boxes.shape[:1]:
            found = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"{name} must be a tensor of shape [{len(boxes)}], one value a box, got {found}")
        if values.device != boxes.device:
            raise ValueError(f"{name} must be on the device of boxes, {boxes.device}, got {values.device}")
    if labels is not None and (labels.is_floating_point() or labels.dtype == torch.bool):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    scores = as_float(scores.detach())
    _refuse_first(~scores.isfinite(), scores, "scores", "must be finite")
    return boxes, scores, labels


def _refuse_first(bad: Tensor, values: Tensor, name: str, rule: str) -> None:
    if bad.any():
        index = int(bad.nonzero()[0, 0])
        raise ValueError(f"{name}[{index}] {rule}, got {values[index].item()}")
