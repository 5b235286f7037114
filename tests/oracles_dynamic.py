"""The assigners that ask the network, as slow loops from their definitions: see `oracles` for the style.

Costs and metrics are Python numbers, rounded to float32 before they are compared, as the library promises.
"""

import math

import torch
from torch import Tensor

from labelkit.similarity import iou
from tests.oracles import NEGATIVE, Expected, best_of, expected, least_distances, similarity_with, table


def as_float32(values: list[list[float]]) -> list[list[float]]:
    return torch.tensor(values, dtype=torch.float64).float().tolist()


def task_aligned(
    points: Tensor,
    decoded: Tensor,
    scores: Tensor,
    gts: Tensor,
    labels: list[int],
    k=13,
    alpha=1.0,
    beta=6.0,
    overlap=None,
    min_side=None,
    k_final=None,
) -> Expected:
    """The k best by t of the points inside; conflicts to the highest overlap; of those a ground truth kept, k_final."""
    P, G = len(points), len(gts)
    fit, least, probability = table(overlap, decoded, gts), least_distances(points, gts, min_side), scores.tolist()
    t = [[probability[p][labels[g]] ** alpha * max(fit[p][g], 0) ** beta for g in range(G)] for p in range(P)]
    rank = as_float32(t)

    def best(g: int, some, number: int) -> list[int]:
        return sorted(some, key=lambda p: (-rank[p][g], p))[:number]

    chosen = {g: best(g, [p for p in range(P) if least[p][g] > 0 and t[p][g] > 0], k) for g in range(G)}
    claims = [{g: fit[p][g] for g in range(G) if p in chosen[g]} for p in range(P)]
    gt = [best_of(claims[p]) if claims[p] else NEGATIVE for p in range(P)]
    target = [0.0] * P
    for g in range(G):
        own = [p for p in range(P) if gt[p] == g]
        own = own if k_final is None else best(g, own, k_final)
        gt = [NEGATIVE if gt[p] == g and p not in own else gt[p] for p in range(P)]
        for p in own:
            target[p] = t[p][g] / max(t[q][g] for q in own) * max(fit[q][g] for q in own)
    return expected(gt, similarity_with(gt, fit), target)


def simota(
    points: Tensor,
    levels: Tensor,
    strides: list[float],
    decoded: Tensor,
    scores: Tensor,
    gts: Tensor,
    labels: list[int],
    radius=None,
    k=10,
    iou_weight=3.0,
    variant="mmdet",
    min_side=None,
) -> Expected:
    """Every kept point with every ground truth: feasible pairs before all others, each kind by its cost."""
    P, G, mmdet = len(points), len(gts), variant == "mmdet"
    radius = radius if radius is not None else 2.5 if mmdet else 1.5
    fit, least, probability = table(iou, decoded, gts), least_distances(points, gts, min_side), scores.tolist()
    offset = ((gts[:, :2] + gts[:, 2:]) / 2 - points[:, None]).abs().amax(2).tolist()
    square = [[offset[p][g] < radius * strides[int(levels[p])] for g in range(G)] for p in range(P)]
    inside = [[least[p][g] > 0 for g in range(G)] for p in range(P)]
    kept = [p for p in range(P) if any(square[p]) or mmdet and any(inside[p])]
    cost = [[0.0] * G for _ in range(P)]
    for p in range(P):
        for g in range(G):
            for c, s in enumerate(probability[p]):
                cost[p][g] += min(-ln(s if c == labels[g] else 1 - s), 100)
            cost[p][g] += iou_weight * -math.log(fit[p][g] + (1e-7 if mmdet else 1e-8))
    rank = as_float32(cost)
    order = [[(not (square[p][g] and (inside[p][g] or not mmdet)), rank[p][g]) for g in range(G)] for p in range(P)]
    gt = settled(order, kept, rooms(fit, kept, k, G), P, G)
    return expected(gt, similarity_with(gt, fit), similarity_with(gt, fit))


def dynamic_soft_label(
    points: Tensor,
    levels: Tensor,
    strides: list[float],
    decoded: Tensor,
    scores: Tensor,
    gts: Tensor,
    labels: list[int],
    k=13,
    variant="mmdet",
    iou_weight=3.0,
    radius=3.0,
    min_side=None,
) -> Expected:
    """Every point inside anything with every ground truth: soft class cost, IoU, and the distance in strides."""
    P, G = len(points), len(gts)
    fit, least, probability = table(iou, decoded, gts), least_distances(points, gts, min_side), scores.tolist()
    kept = [p for p in range(P) if any(least[p][g] > 0 for g in range(G))]
    offset = ((gts[:, :2] + gts[:, 2:]) / 2 - points[:, None]).tolist()
    cost = [[0.0] * G for _ in range(P)]
    for p in range(P):
        for g in range(G):
            for c, s in enumerate(probability[p]):
                y = fit[p][g] if c == labels[g] else 0.0
                if c == labels[g] or variant == "mmdet":
                    entropy = y * min(-ln(s), 100) + (1 - y) * min(-ln(1 - s), 100)
                    cost[p][g] += entropy * (y - s) ** 2
            cost[p][g] += iou_weight * -math.log(fit[p][g] + 1e-7)
            away = math.hypot(*offset[p][g]) / strides[int(levels[p])] - radius
            cost[p][g] += 10.0**away if away < 300 else math.inf
    counted = kept if variant == "mmdet" else range(P)
    gt = settled(as_float32(cost), kept, rooms(fit, counted, k, G), P, G)
    return expected(gt, similarity_with(gt, fit), similarity_with(gt, fit))


def ln(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def rooms(fit: list[list[float]], counted, k: int, G: int) -> list[int]:
    """The sum of each ground truth's k largest overlaps, without its fraction, at least 1."""
    sums = [math.fsum(sorted((fit[p][g] for p in counted), reverse=True)[:k]) for g in range(G)]
    return [max(1, int(total + 1e-6)) for total in sums]


def settled(cost: list[list], kept: list[int], room: list[int], P: int, G: int) -> list[int]:
    """Each takes its cheapest; a prior taken more than once goes to the ground truth, any of them, of lowest cost."""
    takers: list[list[int]] = [[] for _ in range(P)]
    for g in range(G):
        for p in sorted(kept, key=lambda p, g=g: (cost[p][g], p))[: room[g]]:
            takers[p].append(g)
    cheapest = [min(range(G), key=lambda g, p=p: (cost[p][g], g)) if G else NEGATIVE for p in range(P)]
    return [NEGATIVE if not takers[p] else takers[p][0] if len(takers[p]) == 1 else cheapest[p] for p in range(P)]
