"""Non-maximum suppression, greedy and soft, under any similarity and per class: one object, one detection.

Both go block by block in the order of the scores, and in a block look at the pairs that can meet (`neighbours`): those
of a class, and for a similarity that is never above 0 for boxes apart only those in reach. Memory follows N and the
block, never N x N. Time follows the boxes that lie near each other, for other similarities the square of a class.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import SupportsFloat

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, Num
from torch import Tensor

from labelkit.boxes import as_float, check_boxes
from labelkit.neighbours import Neighbours, standing
from labelkit.similarity import ciou, diou, formula_of, iof, iou, is_ours

Similarity = Callable[[Tensor, Tensor], Tensor]

BLOCK = 2048  # boxes that are decided together
EDGES = 1 << 22  # soft: pairs at most of the boxes that are decided together
# Never above 0 for boxes apart, not even by a rounding as giou.
ASK_FOR_OVERLAP = (iou, iof, diou, ciou)


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
    With `iou`, `iof`, `diou` and `ciou` only boxes that touch are compared, with another similarity every pair.
    Raises `ValueError` for a box or score that is not finite, for an inverted box, for a threshold that is no number,
    and for a similarity that is not elementwise.
    """
    _check_numbers(threshold=threshold)
    boxes, scores, labels = _checked(boxes, scores, labels)
    _check_elementwise(similarity, boxes)
    order = scores.argsort(descending=True, stable=True)
    boxes, labels = boxes[order], None if labels is None else labels[order]
    near = Neighbours(boxes, labels, touching=similarity in ASK_FOR_OVERLAP and threshold >= 0)
    rest = torch.arange(len(boxes), device=boxes.device)
    arranged, gone, kept = near.arranged(rest), torch.zeros_like(rest, dtype=torch.bool), [rest[:0]]

    def struck(chosen: Tensor, others: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for better, worse in near.pairs(chosen, others):
            # "above": a similarity that is undefined for a pair suppresses nothing.
            above = similarity(boxes[better], boxes[worse]) > threshold
            yield better.expand_as(above)[above], worse.expand_as(above)[above]

    while len(rest):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        gone[block] = True
        arranged = arranged[~gone[arranged]]
        better, worse = map(torch.cat, zip(*struck(block, near.arranged(block)), strict=True))
        later = better < worse
        better, worse = (torch.searchsorted(block, side[later]) for side in (better, worse))
        block = block[standing(better, worse, len(block))]
        kept.append(block)
        for _, worse in struck(block, arranged):
            gone[worse] = True
        rest = rest[~gone[rest]]
    return order[torch.cat(kept)]


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
    ("linear") or by exp(-s^2 / `sigma`) everywhere ("gaussian"), s the similarity with the kept box, a negative or an
    undefined one counting as 0 (Bodla 2017, arXiv 1704.04503, section 3). A box is dropped when its score is below
    `score_threshold`, at the start too: mmcv, whose defaults these are, never tests the very best box.
    `labels` as in `nms`. Scores are probabilities: a negative one is refused, since decay would raise it.
    Similarities are computed where the boxes are, who is next on the CPU.
    """
    if method not in ("linear", "gaussian"):
        raise ValueError(f"method must be 'linear' or 'gaussian', got {method!r}")
    _check_numbers(sigma=sigma, threshold=threshold, score_threshold=score_threshold)
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    boxes, scores, labels = _checked(boxes, scores, labels)
    _check_elementwise(similarity, boxes)
    _refuse_first(scores < 0, scores, "scores", "must not be negative")
    near = Neighbours(boxes, labels, touching=similarity in ASK_FOR_OVERLAP)

    def decays(chosen: Tensor, others: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for best, other in near.pairs(chosen, others):
            s = similarity(boxes[best], boxes[other])
            s = torch.where(s > 0, s, 0)
            decay = torch.exp(-s * s / sigma) if method == "gaussian" else torch.where(s >= threshold, 1 - s, 1)
            falls = decay != 1
            yield best.expand_as(falls)[falls], other.expand_as(falls)[falls], decay[falls]

    new = scores.cpu().numpy().copy()
    alive, kept = new >= score_threshold, []
    while alive.any():
        rest = np.flatnonzero(alive)
        order = rest[np.argsort(-new[rest], kind="stable")]
        block, others = (torch.from_numpy(part).to(boxes.device) for part in (order[:BLOCK], rest))
        others = near.arranged(others)
        block = block[: max(1, int((near.counts(block, others).cumsum(0) <= EDGES).sum()))]
        falls = _by_box(block.cpu().numpy(), decays(block, others))
        kept += _best_first(new, alive, falls, np.sort(order[len(block) :]), score_threshold)
    found = torch.tensor(sorted(kept), dtype=torch.int64, device=boxes.device)
    result = torch.from_numpy(new).to(boxes.device)[found]
    falling = result.argsort(descending=True, stable=True)
    return found[falling], result[falling]


Falls = dict[int, tuple[np.ndarray, np.ndarray]]  # by box: whose scores it lowers when it is kept, by which factors


def _by_box(block: np.ndarray, decays: Iterator[tuple[Tensor, Tensor, Tensor]]) -> Falls:
    box, other, decay = (torch.cat(column).cpu().numpy() for column in zip(*decays, strict=True))
    ascending = np.argsort(block)
    place = ascending[np.searchsorted(block, box, sorter=ascending)].astype(np.uint16)
    order = np.argsort(place, kind="stable")
    ends = np.bincount(place, minlength=len(block)).cumsum()[:-1]
    columns = zip(np.split(other[order], ends), np.split(decay[order], ends), strict=True)
    return dict(zip(block.tolist(), columns, strict=True))


def _best_first(new: np.ndarray, alive: np.ndarray, falls: Falls, outside: np.ndarray, least: float) -> list[int]:
    """Keep boxes whose falls are known, the best first and each lowering the others, while none outside is better.

    Changes the scores `new`, and `alive`: who is neither kept nor below `least`. A queue says what scores once were;
    since they only fall, the first of it that is right is the best.
    """
    kept: list[int] = []
    queue = [(-float(new[box]), box) for box in falls]
    rival = (-np.inf, -1)
    while queue:
        said, box = queue[0]
        if not alive[box]:
            heapq.heappop(queue)
        elif new[box] != -said:
            heapq.heapreplace(queue, (-float(new[box]), box))
        elif queue[0] < rival:
            heapq.heappop(queue)
            kept.append(box)
            alive[box] = False
            others, decay = falls[box]
            left = alive[others]
            others = others[left]
            new[others] *= decay[left]
            alive[others] = new[others] >= least
        elif rival == (actual := _best(new, outside[alive[outside]])):
            break
        else:
            rival = actual
    return kept


def _best(new: np.ndarray, boxes: np.ndarray) -> tuple[float, int]:
    """As in the queue: (-score, box) of the best, of the lower index among equals; boxes ascending."""
    if len(boxes) == 0:
        return np.inf, -1
    best = int(boxes[new[boxes].argmax()])
    return -float(new[best]), best


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


def _check_numbers(**values: float) -> None:
    """A comparison with NaN is false: every box would be kept, or none."""
    for name, value in values.items():
        if not isinstance(value, SupportsFloat) or math.isnan(float(value)):
            raise ValueError(f"{name} must be a number, got {value!r}")


def _check_elementwise(similarity: Similarity, boxes: Tensor) -> None:
    """Tried on three pairs, unless it is of this library: a table in place of values would strike the wrong boxes."""
    if len(boxes) == 0 or is_ours(similarity):
        return
    name = getattr(formula_of(similarity), "__name__", repr(similarity))
    rule = f"similarity must be elementwise, ([..., 4], [..., 4]) -> [...], which {name} is not"
    some = boxes[[0, 0, -1]]
    try:
        values = similarity(boxes[:1, None], some)
    except Exception as error:
        raise ValueError(f"{rule}: it raised {type(error).__name__}: {error}") from error
    if not isinstance(values, Tensor) or values.shape != (1, 3):
        found = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{rule}: it gave {found} for [1, 1, 4] and [3, 4]")


def _refuse_first(bad: Tensor, values: Tensor, name: str, rule: str) -> None:
    if bad.any():
        index = int(bad.nonzero()[0, 0])
        raise ValueError(f"{name}[{index}] {rule}, got {values[index].item()}")
