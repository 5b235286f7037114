"""Similarities: how well a prior fits a ground truth, one number a pair. One formula, one place.

Every function is elementwise: it takes `(..., 4)` and `(..., 4)` boxes in `xyxy` pixels, broadcasts them, and
returns `(...)`. The prior stands first, the ground truth second. Dense tables (`boxes[:, None]` against
`boxes[None]`), sparse pairs, suppression and losses all call the same function, so a value computed in one
place equals the same value in another bit for bit. Identical boxes of positive size score exactly 1.

Scale constants (`constant`, `m`, `n`) are in pixels of the network's input and have no default: they belong to
a data set. `nwd_constant`, `dotd_constant` and `simd_constants` estimate them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Num
from torch import Tensor

from labelkit.boxes import TOO_LONG, as_float, centers, check_boxes, sizes

_TINY = 1e-12  # keeps a division by a zero size finite; far below any square pixel


def _corners(a: Tensor, b: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return as_float(a).unbind(-1), as_float(b).unbind(-1)


def _intersection_and_areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _corners(a, b)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    area_a = (ax2 - ax1).clamp(min=0) * (ay2 - ay1).clamp(min=0)
    area_b = (bx2 - bx1).clamp(min=0) * (by2 - by1).clamp(min=0)
    return width * height, area_a, area_b


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 for 0 / 0, which boxes without area give; there the gradient is 0 too, not infinite."""
    if part.requires_grad or whole.requires_grad:
        part = torch.where(whole != 0, part, 0)
    return part / whole.clamp(min=torch.finfo(whole.dtype).tiny)


def _iou_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    intersection, area_a, area_b = _intersection_and_areas(a, b)
    union = area_a + area_b - intersection
    return _share(intersection, union), union


def iou(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Intersection over union, in [0, 1]; 0 for degenerate boxes, never NaN."""
    return _iou_and_union(a, b)[0]


def iof(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Intersection over the area of the first box ("foreground"), in [0, 1]; 0 where that area is 0."""
    intersection, area_a, _ = _intersection_and_areas(a, b)
    return _share(intersection, area_a)


def _held(boxes: Tensor) -> Tensor:
    """What lies beyond 1e18 px counts as there: networks decode such boxes, and infinity minus infinity is NaN."""
    return as_float(boxes).clamp(-TOO_LONG, TOO_LONG)


def _enclosing_sides(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _corners(a, b)
    return torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1), torch.maximum(ay2, by2) - torch.minimum(ay1, by1)


def giou(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Generalised IoU, in (-1, 1]: IoU minus the empty share of the enclosing box (Rezatofighi 2019, algorithm 1)."""
    a, b = _held(a), _held(b)
    overlap, union = _iou_and_union(a, b)
    width, height = _enclosing_sides(a, b)
    hull = width * height
    return overlap - _share(hull - union, hull)


def _center_and_size_differences(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _corners(a, b)
    dx = (ax1 + ax2) / 2 - (bx1 + bx2) / 2
    dy = (ay1 + ay2) / 2 - (by1 + by2) / 2
    return dx, dy, (ax2 - ax1) - (bx2 - bx1), (ay2 - ay1) - (by2 - by1)


def diou(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Distance IoU, in (-1, 1]: IoU minus squared centre distance over squared hull diagonal (Zheng 2020, eq. 7)."""
    a, b = _held(a), _held(b)
    return iou(a, b) - _apart(a, b)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    dx, dy, _, _ = _center_and_size_differences(a, b)
    width, height = _enclosing_sides(a, b)
    return _share(dx * dx + dy * dy, width * width + height * height)


def ciou(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Complete IoU: DIoU minus alpha * v, v the difference in aspect ratio (Zheng 2020, eqs. 8 to 11).

    alpha = v / (1 - IoU + v) counts as a constant in the gradient, as in the paper.
    """
    a, b = _held(a), _held(b)
    # torch.atan2 rounds differently by the position in memory; torch.atan does not.
    angle_a, angle_b = (torch.atan(width / height.clamp(min=_TINY)) for width, height in (sizes(a), sizes(b)))
    angle = angle_b - angle_a
    v = (4 / math.pi**2) * angle * angle
    overlap = iou(a, b)
    with torch.no_grad():
        alpha = v / (1 - overlap + v).clamp(min=_TINY)
    return overlap - _apart(a, b) - alpha * v


def _safe_sqrt(x: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite (the value is untouched)."""
    positive = x > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, x, 1)), 0)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return value


def _in_units(distance: Tensor, constant: float) -> Tensor:
    """distance / constant. By a tensor: CUDA divides by a Python number with its reciprocal, which rounds otherwise."""
    return distance / distance.new_full((), _positive("constant", constant))


def wasserstein_squared(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Squared 2-Wasserstein distance of the boxes' Gaussians N(centre, diag(w^2/4, h^2/4)), in square pixels."""
    dx, dy, dw, dh = _center_and_size_differences(a, b)
    return dx * dx + dy * dy + (dw * dw + dh * dh) / 4


def nwd(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"], constant: float) -> Float[Tensor, "*n"]:
    """Normalised Wasserstein distance exp(-W2 / constant), in (0, 1] (Wang 2021, arXiv 2110.13389, eq. 8).

    Symmetric; in pixels, so not scale invariant. The authors' code adds 1e-6 inside and gives 0.99992 for
    identical boxes; here it is 1. `constant`: the mean of sqrt(w * h) over the data set, see `nwd_constant`.
    """
    return torch.exp(-_in_units(_safe_sqrt(wasserstein_squared(a, b)), constant))


def dotd(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"], constant: float) -> Float[Tensor, "*n"]:
    """Dot distance exp(-D / constant), D the distance of the centres in pixels (Xu 2021, CVPRW).

    Sizes play no part: all shapes at one place tie. `constant`: see `dotd_constant`.
    """
    dx, dy, _, _ = _center_and_size_differences(a, b)
    return torch.exp(-_in_units(_safe_sqrt(dx * dx + dy * dy), constant))


def rfd(prior: Num[Tensor, "*#n 4"], gt: Num[Tensor, "*#n 4"], kind: str = "kl") -> Float[Tensor, "*n"]:
    """Receptive field distance of RFLA (Xu 2022, arXiv 2208.08738, section 3.2), in (0, 1]. Not symmetric.

    `kind="kl"`: 1 / (1 + KL(N_prior || N_gt)), the ground truth's sizes in the denominators, scale invariant.
    `kind="wasserstein"`: 1 / (1 + W2^2), in square pixels. A ground truth needs a positive size.
    """
    if kind == "wasserstein":
        return 1 / (1 + wasserstein_squared(prior, gt))
    if kind != "kl":
        raise ValueError(f"kind must be 'kl' or 'wasserstein', got {kind!r}")
    dx, dy, _, _ = _center_and_size_differences(prior, gt)
    (px1, py1, px2, py2), (gx1, gy1, gx2, gy2) = _corners(prior, gt)
    gt_width, gt_height = (gx2 - gx1).clamp(min=_TINY), (gy2 - gy1).clamp(min=_TINY)
    width_ratio = ((px2 - px1) / gt_width) ** 2
    height_ratio = ((py2 - py1) / gt_height) ** 2
    shift = 4 * (dx / gt_width) ** 2 + 4 * (dy / gt_height) ** 2
    shape = width_ratio - _log(width_ratio) + height_ratio - _log(height_ratio) - 2
    return 1 / (1 + (shift + shape.clamp(min=0)) / 2)


def _log(x: Tensor) -> Tensor:
    """Logarithm whose gradient at 0 is 0 instead of infinite (the value is untouched: -infinity)."""
    return torch.where(x > 0, torch.log(torch.where(x > 0, x, 1)), -math.inf) if x.requires_grad else torch.log(x)


def simd(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"], m: float, n: float) -> Float[Tensor, "*n"]:
    """Similarity distance exp(-(location + shape)), in (0, 1] (Shi 2024, arXiv 2407.02394, eqs. 1 to 3).

    location = sqrt((m dx / (w + w'))^2 + (n dy / (h + h'))^2), shape the same with the size differences.
    `m` and `n` multiply, as in the paper and its code (6.13 and 4.59 there); see `simd_constants`.
    """
    dx, dy, dw, dh = _center_and_size_differences(a, b)
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _corners(a, b)
    across = _positive("m", m) / ((ax2 - ax1) + (bx2 - bx1)).clamp(min=_TINY)
    down = _positive("n", n) / ((ay2 - ay1) + (by2 - by1)).clamp(min=_TINY)
    location = _safe_sqrt((dx * across) ** 2 + (dy * down) ** 2)
    shape = _safe_sqrt((dw * across) ** 2 + (dh * down) ** 2)
    return torch.exp(-(location + shape))


def gcd(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Gaussian combined distance exp(-sqrt(D)), in [0, 1], symmetric and scale invariant (GRSL 2025).

    D is the mean over both orders of the boxes of (dx/w)^2 + (dy/h)^2 + (dw/w')^2 / 4 + (dh/h')^2 / 4, with
    w, h the one box's own size and w', h' the other's.
    """
    dx, dy, dw, dh = _center_and_size_differences(a, b)
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _corners(a, b)
    wa, wb = (ax2 - ax1).clamp(min=_TINY), (bx2 - bx1).clamp(min=_TINY)
    ha, hb = (ay2 - ay1).clamp(min=_TINY), (by2 - by1).clamp(min=_TINY)
    across = (dx / wa) ** 2 + (dx / wb) ** 2 + ((dw / wa) ** 2 + (dw / wb) ** 2) / 4
    down = (dy / ha) ** 2 + (dy / hb) ** 2 + ((dh / ha) ** 2 + (dh / hb) ** 2) / 4
    return torch.exp(-_safe_sqrt((across + down) / 2))


def gjsd(a: Num[Tensor, "*#n 4"], b: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Generalised Jensen-Shannon similarity 1 / (1 + J), in [0, 1], symmetric and scale invariant (Xu 2023, DCFL).

    J is the mean KL divergence of the boxes' two Gaussians from their geometric mean, which is a Gaussian again: the
    sum over x and y of d^2 / (s^2 + s'^2) + ln((s^2 + s'^2) / (2 s s')) / 2, d the centres' distance, s, s' the sides.
    """
    dx, dy, _, _ = _center_and_size_differences(a, b)
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _corners(a, b)
    divergence = _jensen_shannon(dx, ax2 - ax1, bx2 - bx1) + _jensen_shannon(dy, ay2 - ay1, by2 - by1)
    return 1 / (1 + divergence)


def _jensen_shannon(offset: Tensor, side: Tensor, other: Tensor) -> Tensor:
    side, other = side.clamp(min=_TINY), other.clamp(min=_TINY)
    squares = side * side + other * other
    # A rounding below 1 must not make the similarity exceed 1.
    return offset * offset / squares + torch.log((squares / (2 * side * other)).clamp(min=1)) / 2


@dataclass(frozen=True)
class OfScaledPriors:
    """A similarity of priors whose width and height are multiplied by `factor` about their centres.

    The priors change pair by pair, so that no scaled copy of them all is made and nothing of the caller's changes.
    """

    similarity: Callable[[Tensor, Tensor], Tensor]
    factor: float

    def __call__(self, prior: Num[Tensor, "*#n 4"], gt: Num[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
        center, half = centers(prior), (prior[..., 2:] - prior[..., :2]) * (self.factor / 2)
        return self.similarity(torch.cat((center - half, center + half), dim=-1), gt)


_ASKS_FOR_SIZE = (iou, iof, giou, diou, ciou, rfd, gcd, gjsd)


def formula_of(similarity: Callable) -> Callable:
    """The function behind `functools.partial` and `OfScaledPriors`."""
    while isinstance(similarity, (partial, OfScaledPriors)):
        similarity = similarity.func if isinstance(similarity, partial) else similarity.similarity
    return similarity


def is_ours(similarity: Callable) -> bool:
    """Whether it is one of this library: elementwise and finite by its tests."""
    return str(getattr(formula_of(similarity), "__module__", "")).startswith("labelkit.")


def asks_for_size(similarity: Callable) -> bool:
    """Whether it says nothing about a prior of size zero: no overlap, or infinitely different in shape."""
    if isinstance(similarity, OfScaledPriors):
        return asks_for_size(similarity.similarity)
    if isinstance(similarity, partial) and similarity.keywords.get("kind") == "wasserstein":
        return False
    return formula_of(similarity) in _ASKS_FOR_SIZE


def nwd_constant(boxes: Float[Tensor, "N 4"]) -> float:
    """NWD's constant: the mean of sqrt(w * h) over all ground truths, in pixels of the network's input."""
    size = _known_sizes(boxes)
    return float(torch.sqrt(size[:, 0] * size[:, 1]).mean())


def dotd_constant(boxes: Float[Tensor, "N 4"]) -> float:
    """DotD's constant: the root of the mean of w * h over all ground truths. Never below `nwd_constant`."""
    size = _known_sizes(boxes)
    return float(torch.sqrt((size[:, 0] * size[:, 1]).mean()))


def _known_sizes(boxes: Tensor) -> Tensor:
    boxes = check_boxes(boxes, "boxes").cpu().double()
    if boxes.shape[0] == 0:
        raise ValueError("boxes must hold at least one box to estimate a constant from, got 0")
    return boxes[:, 2:] - boxes[:, :2]


def simd_constants(priors: Float[Tensor, "P 4"], gts: Iterable[Float[Tensor, "_ 4"]]) -> tuple[float, float]:
    """SimD's (m, n): the means of |dx| / (w + w') and |dy| / (h + h') over all prior x ground-truth pairs.

    `gts`: the ground truths of one training image after another; all images share `priors` (Shi 2024, eqs. 4, 5).
    Memory is one row of priors a ground truth.
    """
    priors = check_boxes(priors, "priors").cpu().double()
    size, center = priors[:, 2:] - priors[:, :2], (priors[:, :2] + priors[:, 2:]) / 2
    total, count = priors.new_zeros(2), 0
    for image, boxes in enumerate(gts):
        for box in check_boxes(boxes, f"gts[{image}]").cpu().double():
            distance = (center - (box[:2] + box[2:]) / 2).abs()
            total += (distance / (size + (box[2:] - box[:2]))).sum(dim=0)
            count += len(priors)
    if count == 0:
        raise ValueError("priors and gts must hold at least one pair to estimate m and n from, got none")
    m, n = (total / count).tolist()
    return m, n
