"""What every assigner promises, written as slow, obvious loops: the tests hold the library against these.

Nothing here is clever. The similarity of every prior with every ground truth is computed once, by the
library's own elementwise functions (so that equal values are equal to the last bit), turned into Python numbers,
and looped over. A float32 number is exact as a Python float, so comparisons mean the same here and there;
thresholds are rounded to the boxes' dtype first, as torch does when it compares a tensor with a number.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

NEGATIVE = -1
IGNORED = -2


class Expected(NamedTuple):
    """The four fields of an assignment, one entry a prior."""

    gt: Tensor
    similarity: Tensor
    score_target: Tensor
    weight: Tensor


def expected(gt: list[int], similarity: list[float], score_target=None, weight=None) -> Expected:
    score_target = [1.0 if g >= 0 else 0.0 for g in gt] if score_target is None else score_target
    weight = [1.0] * len(gt) if weight is None else weight
    floats = [torch.tensor(values, dtype=torch.float64) for values in (similarity, score_target, weight)]
    return Expected(torch.tensor(gt, dtype=torch.int64), *floats)


def assert_same(assignment, wanted: Expected, *, tolerance: float = 0.0) -> None:
    """Labels to the bit; the floats too, unless a tolerance says that their formula is not shared.

    The classification target means something for positives only.
    """
    gt = assignment.gt.cpu()
    assert gt.dtype == torch.int64 and gt.shape == wanted.gt.shape
    wrong = (gt != wanted.gt).nonzero().flatten().tolist()
    assert not wrong, f"(prior, got, expected): {[(p, gt[p].item(), wanted.gt[p].item()) for p in wrong[:10]]}"
    for name in ("similarity", "score_target", "weight"):
        got, want = getattr(assignment, name).cpu().double(), getattr(wanted, name)
        if name == "score_target":
            got, want = got[gt >= 0], want[gt >= 0]
        assert torch.allclose(got, want, rtol=tolerance, atol=tolerance), f"{name}: {got} {want}"


def table(similarity, priors: Tensor, gts: Tensor) -> list[list[float]]:
    """table[p][g]: the similarity of prior p with ground truth g."""
    return similarity(priors[:, None, :], gts[None, :, :]).tolist()


def squared_distances(centers: Tensor, gts: Tensor) -> list[list[float]]:
    """distances[p][g] between a prior's centre and a ground truth's, squared."""
    dx = centers[:, None, 0] - (gts[None, :, 0] + gts[None, :, 2]) / 2
    dy = centers[:, None, 1] - (gts[None, :, 1] + gts[None, :, 3]) / 2
    return (dx * dx + dy * dy).tolist()


def rounded(number: float, like: Tensor) -> float:
    """The number as the dtype of the boxes sees it."""
    return torch.tensor(number, dtype=like.dtype).item()


def argmax(values: list[float]) -> int:
    """Index of the largest value, the first one if several are equal."""
    best = 0
    for index, value in enumerate(values):
        if value > values[best]:
            best = index
    return best


def best_of(claims: dict[int, float]) -> int:
    """Which ground truth keeps a prior: the highest value; among equals the lower index."""
    return min(claims, key=lambda g: (-claims[g], g))


# --------------------------------------------------------------------------------------------- by prior


def max_iou(
    priors: Tensor,
    centers: Tensor,
    gts: Tensor,
    similarity,
    fg_thresh=0.5,
    bg_thresh=0.4,
    allow_low_quality_matches=True,
    low_quality_owner="argmax",
    low_quality_ties="all",
    min_fg=0.0,
) -> Expected:
    """Threshold on the best similarity of a prior, then the best priors of each ground truth."""
    P, G = len(priors), len(gts)
    if G == 0:
        return expected([NEGATIVE] * P, [0.0] * P)
    values = table(similarity, priors, gts)
    distances = squared_distances(centers, gts)
    fg, bg, floor = (rounded(number, gts) for number in (fg_thresh, bg_thresh, min_fg))
    gt = []
    for p in range(P):
        best = argmax(values[p])
        if values[p][best] >= fg:
            gt.append(best)
        elif values[p][best] < bg:
            gt.append(NEGATIVE)
        else:
            gt.append(IGNORED)
    if allow_low_quality_matches and P > 0:
        for g in range(G):
            highest = max(values[p][g] for p in range(P))
            if highest <= 0 or highest < floor:
                continue
            claimed = [p for p in range(P) if values[p][g] == highest]
            if low_quality_ties == "first":
                claimed = claimed[:1]
            elif low_quality_ties == "nearest":
                claimed = [min(claimed, key=lambda p, g=g: (distances[p][g], p))]
            for p in claimed:
                gt[p] = g if low_quality_owner == "gt" else argmax(values[p])
    return expected(gt, [values[p][g] if g >= 0 else 0.0 for p, g in enumerate(gt)])


def fcos(
    points: Tensor,
    levels: Tensor,
    strides: list[float],
    gts: Tensor,
    regress_ranges=None,
    center_radius=None,
    closed_ranges=True,
) -> Expected:
    """A point in a box (or in its centre square), on the level of its largest distance; the smallest wins.

    `strides` has one entry a level. The similarity is the centre-ness, whose formula is not shared with the
    library: compare it within rounding.
    """
    if regress_ranges is None:
        lower = [-1.0] + [8 * stride for stride in strides[:-1]]
        upper = [8 * stride for stride in strides[:-1]] + [math.inf]
        regress_ranges = list(zip(lower, upper, strict=True))
    areas = ((gts[:, 2] - gts[:, 0]) * (gts[:, 3] - gts[:, 1])).tolist()
    gt_centers = ((gts[:, :2] + gts[:, 2:]) / 2)[None] - points[:, None]
    offsets = gt_centers.abs().amax(2).tolist()
    ltrb = torch.cat([points[:, None] - gts[None, :, :2], gts[None, :, 2:] - points[:, None]], 2).tolist()
    gt, similarity = [], []
    for p, level in enumerate(levels.tolist()):
        low, high = (rounded(end, gts) for end in regress_ranges[level])
        claims = {}
        for g in range(len(gts)):
            inside = min(ltrb[p][g]) > 0
            if center_radius is not None:
                inside = inside and offsets[p][g] < center_radius * strides[level]
            reach = max(ltrb[p][g])
            in_range = low <= reach <= high if closed_ranges else low < reach < high
            if inside and in_range:
                claims[g] = -areas[g]
        owner = best_of(claims) if claims else NEGATIVE
        gt.append(owner)
        similarity.append(centerness(*ltrb[p][owner]) if claims else 0.0)
    return expected(gt, similarity)


def centerness(left: float, top: float, right: float, bottom: float) -> float:
    across = min(left, right) / max(left, right)
    down = min(top, bottom) / max(top, bottom)
    return math.sqrt(across * down)
