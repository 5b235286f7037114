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
    min_side=None,
) -> Expected:
    """A point in a box (or in its centre square), on the level of its largest distance; the smallest wins.

    min_side: sides floored to it for "in a box".

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
    least = least_distances(points, gts, min_side)
    gt, similarity = [], []
    for p, level in enumerate(levels.tolist()):
        low, high = (rounded(end, gts) for end in regress_ranges[level])
        claims = {}
        for g in range(len(gts)):
            inside = least[p][g] > 0
            if center_radius is not None:
                inside = inside and offsets[p][g] < center_radius * strides[level]
            reach = max(ltrb[p][g])
            in_range = low <= reach <= high if closed_ranges else low < reach < high
            if inside and in_range:
                claims[g] = -areas[g]
        owner = best_of(claims) if claims else NEGATIVE
        gt.append(owner)
        similarity.append(centerness(*ltrb[p][owner]) if claims and min(ltrb[p][owner]) > 0 else 0.0)
    return expected(gt, similarity)


def least_distances(points: Tensor, gts: Tensor, min_side: float | None = None) -> list[list[float]]:
    """[P, G]: from a point to the nearest side of a box, negative outside; short sides first floored to `min_side`."""
    boxes = gts.clone()
    for box in boxes:
        for low, high in ((0, 2), (1, 3)):
            if min_side is not None and box[high] - box[low] < min_side:
                middle = (box[low] + box[high]) / 2
                box[low], box[high] = middle - min_side / 2, middle + min_side / 2
    return torch.cat([points[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - points[:, None]], 2).amin(2).tolist()


def centerness(left: float, top: float, right: float, bottom: float) -> float:
    across = min(left, right) / max(left, right)
    down = min(top, bottom) / max(top, bottom)
    return math.sqrt(across * down)


# -------------------------------------------------------------------------------------- by ground truth


def k_best(values: list[list[float]], g: int, k: int, candidates) -> list[int]:
    """The k priors most similar to g: higher value, then lower index; nothing at or below 0."""
    worthy = [p for p in candidates if values[p][g] > 0]
    return sorted(worthy, key=lambda p: (-values[p][g], p))[:k]


def settle(chosen: dict[int, list[int]], values: list[list[float]], P: int) -> list[int]:
    """A prior that several ground truths chose goes to the most similar one, then to the lower index."""
    claims: list[dict[int, float]] = [{} for _ in range(P)]
    for g, priors in chosen.items():
        for p in priors:
            claims[p][g] = values[p][g]
    return [best_of(claims[p]) if claims[p] else NEGATIVE for p in range(P)]


def similarity_with(gt: list[int], values: list[list[float]]) -> list[float]:
    return [values[p][g] if g >= 0 else 0.0 for p, g in enumerate(gt)]


def topk(priors: Tensor, centers: Tensor, gts: Tensor, similarity, k=9) -> Expected:
    """The k most similar priors of each ground truth; among equals the nearest centre, then the lower index."""
    P = len(priors)
    values, distances = table(similarity, priors, gts), squared_distances(centers, gts)
    chosen = {}
    for g in range(len(gts)):
        worthy = [p for p in range(P) if values[p][g] > 0]
        chosen[g] = sorted(worthy, key=lambda p, g=g: (-values[p][g], distances[p][g], p))[:k]
    gt = settle(chosen, values, P)
    return expected(gt, similarity_with(gt, values))


def atss(priors: Tensor, centers: Tensor, levels: Tensor, gts: Tensor, similarity, k=9, ddof=1) -> Expected:
    """k nearest priors a level, mean + std of their IoUs as the threshold, centre inside by 0.01 px.

    The statistics are sums of float64; 1e-12 of slack keeps "inclusive" from depending on the order of a sum.
    """
    P = len(priors)
    values, distances = table(similarity, priors, gts), squared_distances(centers, gts)
    on_level: dict[int, list[int]] = {}
    for p, level in enumerate(levels.tolist()):
        on_level.setdefault(level, []).append(p)
    left_top = (centers[:, None, :] - gts[None, :, :2]).tolist()
    right_bottom = (gts[None, :, 2:] - centers[:, None, :]).tolist()
    margin = rounded(0.01, gts)
    chosen = {}
    for g in range(len(gts)):
        candidates = []
        for members in on_level.values():
            candidates += sorted(members, key=lambda p, g=g: (distances[p][g], p))[:k]
        threshold = mean_plus_std([values[p][g] for p in candidates], ddof)
        chosen[g] = [
            p
            for p in candidates
            if values[p][g] >= threshold - 1e-12 and min(left_top[p][g] + right_bottom[p][g]) > margin
        ]
    gt = settle(chosen, values, P)
    return expected(gt, similarity_with(gt, values))


def mean_plus_std(values: list[float], ddof: int) -> float:
    """The standard deviation of too few values for `ddof` is 0."""
    n = len(values)
    if n == 0:
        return math.inf
    mean = math.fsum(values) / n
    if n <= ddof:
        return mean
    return mean + math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - ddof))


def s3fd(priors: Tensor, gts: Tensor, similarity, fg_thresh=0.35, min_iou=0.1, n=6) -> Expected:
    """Threshold and forced best anchor, then up to n anchors for every ground truth that has fewer.

    Forcing: the first of the best anchors of each ground truth; a later ground truth overwrites an earlier one.
    "mean" is the mean number of stage one, rounded down.
    """
    P, G = len(priors), len(gts)
    values = table(similarity, priors, gts)
    if P == 0 or G == 0:
        return expected([NEGATIVE] * P, [0.0] * P)
    fg, floor = rounded(fg_thresh, gts), rounded(min_iou, gts)
    own = [argmax(values[p]) for p in range(P)]
    gt = [own[p] if values[p][own[p]] >= fg else NEGATIVE for p in range(P)]
    for g in range(G):
        best = argmax([values[p][g] for p in range(P)])
        if values[best][g] > 0:
            gt[best] = g
    matched = [gt.count(g) for g in range(G)]
    enough = sum(matched) // G if n == "mean" else n
    stage_one = list(gt)
    for g in range(G):
        free = [p for p in range(P) if stage_one[p] == NEGATIVE and own[p] == g and values[p][g] > floor]
        for p in k_best(values, g, max(enough - matched[g], 0), free):
            gt[p] = g
    return expected(gt, similarity_with(gt, values))


def rka(priors: Tensor, gts: Tensor, similarity, k=3, bg_thresh=1.0) -> Expected:
    """The k most similar priors of each ground truth; the rest is background below `bg_thresh`, else ignored."""
    P, G = len(priors), len(gts)
    values = table(similarity, priors, gts)
    chosen = {g: k_best(values, g, k, range(P)) for g in range(G)}
    gt = background(settle(chosen, values, P), values, rounded(bg_thresh, gts))
    return expected(gt, similarity_with(gt, values))


def background(gt: list[int], values: list[list[float]], bg_thresh: float) -> list[int]:
    """Priors that nobody took are ignored if they are too similar to some ground truth to be background."""
    return [IGNORED if g == NEGATIVE and values[p] and max(values[p]) >= bg_thresh else g for p, g in enumerate(gt)]


def hla(priors: Tensor, gts: Tensor, similarity, k=3, beta=0.9, bg_thresh=0.8, rescue=False) -> Expected:
    """k best on the priors, then the best on priors shrunk by beta; a first-stage positive stays what it is.

    Rescue: the ground truths still without a positive take free priors, the most similar pair first (then the
    lower ground truth, then the lower prior), one each.
    """
    P, G = len(priors), len(gts)
    center, half = (priors[:, :2] + priors[:, 2:]) / 2, (priors[:, 2:] - priors[:, :2]) * (beta / 2)
    first = table(similarity, priors, gts)
    second = table(similarity, torch.cat([center - half, center + half], 1), gts)
    stage_one = settle({g: k_best(first, g, k, range(P)) for g in range(G)}, first, P)
    stage_two = settle({g: k_best(second, g, 1, range(P)) for g in range(G)}, second, P)
    stage_two = background(stage_two, second, rounded(bg_thresh, gts))
    gt = [a if a >= 0 else b for a, b in zip(stage_one, stage_two, strict=True)]
    similarities = [first[p][g] if stage_one[p] >= 0 else second[p][g] if g >= 0 else 0.0 for p, g in enumerate(gt)]
    if rescue:
        empty = [g for g in range(G) if g not in gt]
        pairs = [(first[p][g], g, p) for g in empty for p in range(P) if gt[p] < 0 and first[p][g] > 0]
        for value, g, p in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if gt[p] < 0 and g not in gt:
                gt[p], similarities[p] = g, value
    return expected(gt, similarities)


# ------------------------------------------------------------------------------------- by the prediction


def hambox(
    priors: Tensor,
    decoded: Tensor,
    gts: Tensor,
    similarity,
    k: int,
    decoded_thresh: float,
    fg_thresh=0.35,
    ignore_thresh=0.5,
) -> Expected:
    """Match by anchor, compensate by decoded box, ignore what regresses well and was not needed.

    All pairs of an unmatched anchor and a ground truth with fewer than k matches, the best decoded IoU first,
    then the lower ground truth, then the lower anchor. A compensated anchor weighs its decoded IoU.
    """
    P, G = len(priors), len(gts)
    if G == 0:
        return expected([NEGATIVE] * P, [0.0] * P)
    values, after = table(similarity, priors, gts), table(similarity, decoded, gts)
    fg, good, ignore = (rounded(number, gts) for number in (fg_thresh, decoded_thresh, ignore_thresh))
    gt, kept, weight = [NEGATIVE] * P, [0.0] * P, [1.0] * P
    for p in range(P):
        best = argmax(values[p])
        if values[p][best] >= fg:
            gt[p], kept[p] = best, values[p][best]
    matched = list(gt)
    room = [k - matched.count(g) for g in range(G)]
    pairs = [(after[p][g], g, p) for p in range(P) for g in range(G) if matched[p] < 0 and after[p][g] >= good]
    for value, g, p in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if gt[p] == NEGATIVE and room[g] > 0:
            gt[p], kept[p], weight[p] = g, value, value
            room[g] -= 1
    for p in range(P):
        if gt[p] == NEGATIVE and max(after[p]) >= ignore:
            gt[p] = IGNORED
    return expected(gt, kept, weight=weight)


def noisy_anchors(
    priors: Tensor,
    decoded: Tensor,
    scores: Tensor,
    gts: Tensor,
    labels: Tensor,
    similarity,
    n=30,
    alpha=0.75,
    gamma=1.0,
    variant="official",
) -> Expected:
    """The n best anchors of each ground truth; how clean each is becomes its soft label and its weight.

    An anchor belongs to its own best ground truth. The official statistics run over the ground truths' lists one
    after another, an anchor in two lists counting twice.
    """
    P, G = len(priors), len(gts)
    values, after = table(similarity, priors, gts), table(similarity, decoded, gts)
    probability = scores.tolist()
    listed = [p for g in range(G) for p in k_best(values, g, n, range(P))]
    gt = [argmax(values[p]) if p in set(listed) else NEGATIVE for p in range(P)]
    target, weight = [0.0] * P, [1.0] * P
    loc = {p: after[p][gt[p]] for p in listed}
    cls = {p: probability[p][labels[gt[p]]] for p in listed}
    f_loc = {p: 1 / (1 - min(loc[p], 1 - 1e-6)) for p in listed}
    f_cls = {p: 1 / (1 - min(cls[p], 1 - 1e-6)) for p in listed}

    def mean(of: dict[int, float]) -> float:
        return max(math.fsum(of[p] for p in listed) / len(listed), 1e-6)

    if listed and variant == "paper":
        for p in listed:
            target[p] = alpha * loc[p] + (1 - alpha) * cls[p]
            weight[p] = (alpha * f_loc[p] + (1 - alpha) * f_cls[p]) ** gamma
    elif listed:
        blend = {p: alpha * loc[p] / mean(loc) + (1 - alpha) * cls[p] / mean(cls) for p in listed}
        low, high, floor = min(blend.values()), max(blend.values()), math.fsum(loc[p] for p in listed) / len(listed)
        for p in listed:
            target[p] = floor + (blend[p] - low) * (1 - floor) / (high - low) if high > low else 1.0
            weight[p] = alpha * f_loc[p] / mean(f_loc) + (1 - alpha) * f_cls[p] / mean(f_cls)
    return expected(gt, similarity_with(gt, values), target, weight)


# ------------------------------------------------------------- similarities, one pair, in Python's float64


class Box(NamedTuple):
    """One box with what the formulas of the papers speak of."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def w(self) -> float:
        return self.x2 - self.x1

    @property
    def h(self) -> float:
        return self.y2 - self.y1

    @property
    def cx(self) -> float:
        return (self.x1 + self.x2) / 2

    @property
    def cy(self) -> float:
        return (self.y1 + self.y2) / 2


def intersection(a: Box, b: Box) -> float:
    across = min(a.x2, b.x2) - max(a.x1, b.x1)
    down = min(a.y2, b.y2) - max(a.y1, b.y1)
    return across * down if across > 0 and down > 0 else 0.0


def union(a: Box, b: Box) -> float:
    return a.w * a.h + b.w * b.h - intersection(a, b)


def hull(a: Box, b: Box) -> Box:
    return Box(min(a.x1, b.x1), min(a.y1, b.y1), max(a.x2, b.x2), max(a.y2, b.y2))


def iou(a: Box, b: Box) -> float:
    return intersection(a, b) / union(a, b) if union(a, b) > 0 else 0.0


def iof(a: Box, b: Box) -> float:
    return intersection(a, b) / (a.w * a.h) if a.w * a.h > 0 else 0.0


def giou(a: Box, b: Box) -> float:
    around = hull(a, b).w * hull(a, b).h
    return iou(a, b) - (around - union(a, b)) / around


def diou(a: Box, b: Box) -> float:
    diagonal = hull(a, b).w ** 2 + hull(a, b).h ** 2
    return iou(a, b) - ((a.cx - b.cx) ** 2 + (a.cy - b.cy) ** 2) / diagonal


def ciou(a: Box, b: Box) -> float:
    v = 4 / math.pi**2 * (math.atan(b.w / b.h) - math.atan(a.w / a.h)) ** 2
    return diou(a, b) - (v * v / (1 - iou(a, b) + v) if v > 0 else 0.0)


def squared_wasserstein(a: Box, b: Box) -> float:
    return (a.cx - b.cx) ** 2 + (a.cy - b.cy) ** 2 + ((a.w - b.w) ** 2 + (a.h - b.h) ** 2) / 4


def nwd(a: Box, b: Box, constant: float) -> float:
    return math.exp(-math.sqrt(squared_wasserstein(a, b)) / constant)


def dotd(a: Box, b: Box, constant: float) -> float:
    return math.exp(-math.hypot(a.cx - b.cx, a.cy - b.cy) / constant)


def rfd(prior: Box, gt: Box, kind: str = "kl") -> float:
    if kind == "wasserstein":
        return 1 / (1 + squared_wasserstein(prior, gt))
    across = prior.w**2 / gt.w**2 + 4 * (prior.cx - gt.cx) ** 2 / gt.w**2 + math.log(gt.w**2 / prior.w**2)
    down = prior.h**2 / gt.h**2 + 4 * (prior.cy - gt.cy) ** 2 / gt.h**2 + math.log(gt.h**2 / prior.h**2)
    return 1 / (1 + (across + down - 2) / 2)


def simd(a: Box, b: Box, m: float, n: float) -> float:
    location = math.hypot(m * (a.cx - b.cx) / (a.w + b.w), n * (a.cy - b.cy) / (a.h + b.h))
    shape = math.hypot(m * (a.w - b.w) / (a.w + b.w), n * (a.h - b.h) / (a.h + b.h))
    return math.exp(-(location + shape))


def gcd(a: Box, b: Box) -> float:
    total = 0.0
    for own, other in ((a, b), (b, a)):
        total += ((a.cx - b.cx) / own.w) ** 2 + ((a.cy - b.cy) / own.h) ** 2
        total += (((a.w - b.w) / other.w) ** 2 + ((a.h - b.h) / other.h) ** 2) / 4
    return math.exp(-math.sqrt(total / 2))


def gjsd(a: Box, b: Box) -> float:
    divergence = 0.0
    for offset, one, two in (
        (a.cx - b.cx, (a.w / 2) ** 2, (b.w / 2) ** 2),
        (a.cy - b.cy, (a.h / 2) ** 2, (b.h / 2) ** 2),
    ):
        divergence += offset**2 / (2 * (one + two)) + math.log((one + two) / (2 * math.sqrt(one * two)))
    return 1 / (1 + divergence / 2)
