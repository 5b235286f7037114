"""The peers: each method as its published code computes it, on the whole prior x ground-truth matrix.

torchvision's own functions where it has the method; the rest written from the papers in the dense form that all
published implementations share (the tables that they build, not their code): SimOTA as MMDetection 3.3 computes it,
task alignment as Ultralytics 8.4 does. Ties are broken as torch happens to, so labels are compared where there are
none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou, generalized_box_iou

from labelkit import Predictions, Priors
from labelkit.boxes import centers, encode_ltrb
from labelkit.similarity import ciou

Similarity = Callable[[Tensor, Tensor], Tensor]


def torchvision_matcher(priors: Priors, gt: Tensor, fg: float = 0.5, bg: float = 0.4) -> Tensor:
    """torchvision's RetinaNet: box_iou and Matcher."""
    return Matcher(fg, bg, allow_low_quality_matches=True)(box_iou(gt, priors.boxes))


def torchvision_fcos(priors: Priors, gt: Tensor) -> Tensor:
    """The matching inside torchvision's FCOS, as its `compute_loss` states it, on points of the same strides."""
    center = (gt[:, :2] + gt[:, 2:]) / 2
    offset = (priors.centers[:, None] - center[None]).abs().max(dim=2).values
    match = offset < 1.5 * priors.strides[:, None]
    x, y = priors.centers.unsqueeze(2).unbind(1)
    x0, y0, x1, y1 = gt.unsqueeze(0).unbind(2)
    sides = torch.stack((x - x0, y - y0, x1 - x, y1 - y), dim=2)
    match &= sides.min(dim=2).values > 0
    low, high = priors.strides * 4, priors.strides * 8
    low = torch.where(priors.levels == 0, 0, low)
    high = torch.where(priors.levels == len(priors.level_sizes) - 1, torch.inf, high)
    farthest = sides.max(dim=2).values
    match &= (farthest > low[:, None]) & (farthest < high[:, None])
    areas = (gt[:, 2] - gt[:, 0]) * (gt[:, 3] - gt[:, 1])
    value, owner = (match.to(torch.float32) * (1e8 - areas[None])).max(dim=1)
    return torch.where(value < 1e-5, -1, owner)


def max_similarity(priors: Priors, gt: Tensor, similarity: Similarity, fg=0.7, bg=0.3, least=0.3) -> Tensor:
    """mmdet's MaxIoUAssigner under another similarity: thresholds, then the ties of every ground truth in turn."""
    value = similarity(priors.boxes[None], gt[:, None])
    best, owner = value.max(dim=0)
    answer = torch.where(best >= fg, owner, torch.where(best < bg, -1, -2))
    best_of_gt = value.max(dim=1).values
    for g in range(len(gt)):
        if best_of_gt[g] >= least:
            answer[value[g] == best_of_gt[g]] = g
    return answer


def topk(priors: Priors, gt: Tensor, k: int = 9) -> Tensor:
    """ATSS's POSITIVE_TYPE 'TOPK': IoU with the centre distance as a small malus, conflicts by IoU."""
    value = box_iou(priors.boxes, gt)
    distance = (priors.centers[:, None] - centers(gt)[None]).pow(2).sum(-1).sqrt()
    chosen = (value - distance / distance.max() / 1000).topk(k, dim=0).indices
    return _settle(value, chosen, torch.ones_like(chosen, dtype=torch.bool))


def atss(priors: Priors, gt: Tensor, k: int = 9) -> Tensor:
    """Algorithm 1 of ATSS on the matrix of IoUs and of distances."""
    value = box_iou(priors.boxes, gt)
    distance = (priors.centers[:, None] - centers(gt)[None]).pow(2).sum(-1).sqrt()
    candidates, start = [], 0
    for size in priors.level_sizes:
        near = distance[start : start + size].topk(min(k, size), dim=0, largest=False).indices
        candidates.append(near + start)
        start += size
    candidates = torch.cat(candidates)
    candidate_value = value.gather(0, candidates)
    threshold = candidate_value.mean(0) + candidate_value.std(0)
    point = priors.centers[candidates]
    inside = torch.cat((point - gt[None, :, :2], gt[None, :, 2:] - point), dim=-1).min(-1).values > 0.01
    return _settle(value, candidates, (candidate_value >= threshold) & inside)


def ranking(priors: Priors, gt: Tensor, similarity: Similarity, k: int = 3) -> Tensor:
    """RKA: the k best of every ground truth on the whole matrix, conflicts by similarity."""
    value = similarity(priors.boxes[:, None], gt[None])
    chosen = value.topk(k, dim=0).indices
    return _settle(value, chosen, torch.ones_like(chosen, dtype=torch.bool))


def hierarchical(priors: Priors, gt: Tensor, similarity: Similarity, k: int = 3, beta: float = 0.9) -> Tensor:
    """HLA: one matrix for each of the two rounds."""
    first = ranking(priors, gt, similarity, k)
    center, half = priors.centers, (priors.boxes[:, 2:] - priors.boxes[:, :2]) * (beta / 2)
    shrunk = Priors.from_boxes(torch.cat((center - half, center + half), dim=1))
    second = ranking(shrunk, gt, similarity, 1)
    return torch.where(first >= 0, first, second)


def simota(priors: Priors, gt: Tensor, predictions: Predictions, labels: Tensor, radius=2.5, k=10) -> Tensor:
    """MMDetection's SimOTA: the cross-entropy of every kept prior, ground truth and class; one topk a ground truth."""
    inside = encode_ltrb(gt[None], priors.centers[:, None]).amin(dim=-1) > 0
    offset = (priors.centers[:, None] - centers(gt)[None]).abs().amax(dim=-1)
    square = offset < radius * priors.strides[:, None]
    kept = (inside | square).any(dim=1)
    feasible = (inside & square)[kept]
    overlap = box_iou(predictions.boxes[kept], gt)
    scores = predictions.scores[kept][:, None].repeat(1, len(gt), 1)
    hot = torch.nn.functional.one_hot(labels, scores.shape[-1]).to(scores)[None].repeat(len(scores), 1, 1)
    classes = torch.nn.functional.binary_cross_entropy(scores, hot, reduction="none").sum(dim=-1)
    cost = classes - 3 * (overlap + 1e-7).log() + 1e5 * ~feasible
    room = overlap.topk(min(k, len(overlap)), dim=0).values.sum(dim=0).int().clamp(min=1)
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for g in range(len(gt)):
        taken[cost[:, g].topk(int(room[g]), largest=False).indices, g] = True
    contested = taken.sum(dim=1) > 1
    taken[contested] = False
    taken[contested, cost[contested].argmin(dim=1)] = True
    answer = torch.full((len(priors),), -1, device=gt.device)
    value, owner = taken.max(dim=1)
    answer[kept] = torch.where(value, owner, -1)
    return answer


def task_aligned(priors: Priors, gt: Tensor, predictions: Predictions, labels: Tensor, k=10) -> Tensor:
    """Ultralytics' task alignment for one image: masks, metrics and counts of all G x P; alpha 0.5, beta 6."""
    inside = encode_ltrb(gt[:, None], priors.centers[None]).amin(dim=-1) > 1e-9
    scores, overlap = torch.zeros(inside.shape, device=gt.device), torch.zeros(inside.shape, device=gt.device)
    scores[inside] = predictions.scores.T[labels][inside]
    decoded = predictions.boxes[None].expand(len(gt), -1, -1)[inside]
    overlap[inside] = ciou(decoded, gt[:, None].expand(-1, len(priors), -1)[inside]).clamp(min=0)
    metric = scores.pow(0.5) * overlap.pow(6)
    best = metric.topk(k, dim=1).indices
    count = torch.zeros(inside.shape, dtype=torch.int8, device=gt.device)
    count.scatter_(1, best, 1)
    taken = count.bool() & inside
    contested = taken.sum(dim=0) > 1
    highest = torch.zeros_like(taken).scatter_(0, overlap.argmax(dim=0, keepdim=True), True)
    taken = torch.where(contested, highest, taken)
    target = metric * taken
    target = target / (target.amax(dim=1, keepdim=True) + 1e-9) * (overlap * taken).amax(dim=1, keepdim=True)
    return torch.where(target.amax(dim=0) > 0, taken.int().argmax(dim=0), -1)


def poto_quality(priors: Priors, target: dict[str, Tensor], seen: Predictions, alpha=0.8, radius=1.5) -> Tensor:
    """DeFCN's matrix [G, P]: score and IoU of the decoded boxes, -1 outside the centre squares."""
    gt, score = target["boxes"], seen.scores[:, target["labels"]].T
    quality = score ** (1 - alpha) * box_iou(gt, seen.boxes) ** alpha
    sides = torch.cat((priors.centers[None] - gt[:, None, :2], gt[:, None, 2:] - priors.centers[None]), dim=2)
    offset = (priors.centers[None] - centers(gt)[:, None]).abs().max(dim=2).values
    fits = (sides.min(dim=2).values > 0) & (offset < radius * priors.strides[None])
    return torch.where(fits, quality, -1.0)


def solved(value: Tensor, maximize: bool, least: float = -torch.inf) -> Tensor:
    """scipy's matching of [G, P] as the ground truth of every prior; a pair of less than `least` is none."""
    gt, prior = map(torch.from_numpy, linear_sum_assignment(value.numpy(), maximize=maximize))
    kept = value[gt, prior] >= least
    return torch.full((value.shape[1],), -1).index_copy_(0, prior[kept], gt[kept])


def poto(priors: Priors, target: dict[str, Tensor], seen: Predictions) -> Tensor:
    """DeFCN's POTO, but for what it matches at -1."""
    return solved(poto_quality(priors, target, seen), maximize=True, least=0.0)


def detr(priors: Priors, target: dict[str, Tensor], seen: Predictions, height=800, width=1344) -> Tensor:
    """Deformable DETR's matcher: focal class cost, L1 of normalised (cx, cy, w, h), GIoU; weights 2, 5, 2."""
    gt, p = target["boxes"], seen.scores[:, target["labels"]]
    yes = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log()
    no = 0.75 * p**2 * -(1 - p + 1e-8).log()
    scale = gt.new_tensor([width, height, width, height])
    coded = [torch.cat((centers(boxes), boxes[:, 2:] - boxes[:, :2]), dim=1) / scale for boxes in (seen.boxes, gt)]
    cost = 5 * torch.cdist(*coded, p=1) + 2 * (yes - no) - 2 * generalized_box_iou(seen.boxes, gt)
    return solved(cost.T, maximize=False)


def _settle(value: Tensor, candidates: Tensor, chosen: Tensor) -> Tensor:
    """Each prior to the ground truth of highest value among those that chose it, on a matrix as the peers do."""
    kept = torch.full_like(value, -1)
    kept.scatter_(0, candidates, torch.where(chosen, value.gather(0, candidates), -1.0))
    best, owner = kept.max(dim=1)
    return torch.where(best >= 0, owner, -1)
