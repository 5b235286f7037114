"""What the one-to-one rules promise, written slowly: the whole table of costs, and a matching of it that is the best.

`brute` tries everything, for tiny tables; `dense` asks scipy about the whole table. Both follow the definition: as many
ground truths as candidates allow are served, then as many as possible a second time, and so on; of all matchings that
do so the one of least total cost.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from labelkit import NEGATIVE
from labelkit.similarity import giou, iou
from tests import oracles


class Matching(NamedTuple):
    """gt: of every prior, or NEGATIVE. served: how many ground truths have at least 1, 2, ... priors."""

    gt: list[int]
    served: list[int]
    total: float


def matching_of(table: np.ndarray, gt: list[int], copies: int = 1) -> Matching:
    """What a list of labels amounts to; a prior with an infeasible ground truth makes the total infinite."""
    times = [gt.count(g) for g in range(table.shape[1])]
    served = [sum(count >= least for count in times) for least in range(1, copies + 1)]
    return Matching(gt, served, math.fsum(table[p, g] for p, g in enumerate(gt) if g >= 0))


def order_of(matching: Matching) -> tuple:
    """The better, the smaller."""
    return (*(-count for count in matching.served), matching.total)


def brute(table: np.ndarray, copies: int = 1) -> Matching:
    """Every way to give each prior a feasible ground truth or none. table: [P, G], infinite where infeasible."""
    best = None
    allowed = [[NEGATIVE, *np.flatnonzero(np.isfinite(row)).tolist()] for row in table]
    for gt in itertools.product(*allowed):
        if any(gt.count(g) > copies for g in range(table.shape[1])):
            continue
        found = matching_of(table, list(gt), copies)
        if best is None or order_of(found) < order_of(best):
            best = found
    assert best is not None
    return best


def dense(table: np.ndarray, copies: int = 1) -> Matching:
    """scipy on the whole table, every ground truth `copies` times and each copy with a last resort of its own."""
    priors, gts = table.shape
    feasible = table[np.isfinite(table)]
    if feasible.size == 0:
        return matching_of(table, [NEGATIVE] * priors, copies)
    never = (np.ptp(feasible) + 1) * (gts * copies + 1)  # more than sums can differ by
    whole = np.full((gts * copies, priors + gts * copies), 1e3 * copies * never)
    for g, copy in itertools.product(range(gts), range(copies)):
        row = g * copies + copy
        whole[row, :priors] = np.where(np.isfinite(table[:, g]), table[:, g] - feasible.min(), whole[row, :priors])
        whole[row, priors + row] = never * (copies - copy)
    gt = [NEGATIVE] * priors
    for row, column in zip(*linear_sum_assignment(whole), strict=True):
        if column < priors:
            gt[column] = int(row) // copies
    return matching_of(table, gt, copies)


def certain(table: np.ndarray, best: Matching, margin: float, copies: int = 1) -> bool:
    """Whether every other matching that serves as many costs more by at least `margin`: then labels must agree."""
    for prior, gt in enumerate(best.gt):
        if gt >= 0:
            without = table.copy()
            without[prior, gt] = np.inf
            other = dense(without, copies)
            if other.served == best.served and other.total < best.total + margin:
                return False
    return True


def assert_best(assignment, table: np.ndarray, overlaps: Tensor, copies: int = 1) -> None:
    """An assignment of one image: a matching, as good as the best; the same one where there is no doubt.

    table [P, G]: the costs, in float64, the assigner's own being rounded to float32. overlaps [P, G]: the IoU of the
    decoded boxes.
    """
    gt = assignment.gt.tolist()
    assert min(gt, default=NEGATIVE) >= NEGATIVE
    if table.size == 0:
        assert set(gt) <= {NEGATIVE}
        return
    found, best = matching_of(table, gt, copies), dense(table, copies)
    slack = 1e-6 * table.shape[1] * copies * (1 + np.abs(table[np.isfinite(table)]).max(initial=0))
    assert all(gt.count(g) <= copies for g in range(table.shape[1]))
    assert found.served == best.served and abs(found.total - best.total) <= slack, (found, best)
    if certain(table, best, 4 * slack, copies):
        assert found.gt == best.gt
    values = [overlaps[p, g].item() if g >= 0 else 0.0 for p, g in enumerate(gt)]
    oracles.assert_same(assignment, oracles.expected(gt, values))


def infeasible_but(candidates: set[tuple[int, int]], table: list[list[float]], priors: int, gts: int) -> np.ndarray:
    """[P, G] of `table`'s numbers, infinite but for the candidates."""
    whole = np.full((priors, gts), np.inf)
    for p, g in candidates:
        whole[p, g] = table[p][g]
    return whole


def inside(points: Tensor, levels: Tensor, strides: tuple[float, ...], gts: Tensor, radius=None, min_side=None) -> set:
    """(prior, gt) of the points strictly inside a (floored) box, and within `radius` strides of its centre."""
    least = oracles.least_distances(points, gts, min_side)
    offsets = ((gts[:, :2] + gts[:, 2:])[None] / 2 - points[:, None]).abs().amax(2).tolist()
    return {
        (p, g)
        for p, level in enumerate(levels.tolist())
        for g in range(len(gts))
        if least[p][g] > 0 and (radius is None or offsets[p][g] < radius * strides[level])
    }


def poto_costs(decoded: Tensor, scores: Tensor, gts: Tensor, labels: Tensor, alpha: float) -> list[list[float]]:
    """Minus s^(1 - alpha) I^alpha of every pair."""
    overlaps, probability = oracles.table(iou, decoded, gts), scores.tolist()
    return [
        [-(probability[p][label] ** (1 - alpha)) * overlaps[p][g] ** alpha for g, label in enumerate(labels.tolist())]
        for p in range(len(decoded))
    ]


def focal(p: float) -> float:
    """The focal loss of answering yes with p, less that of answering no."""
    p = min(max(p, 1e-8), 1 - 1e-8)
    yes = 0.25 * (1 - p) ** 2 * -math.log(p)
    return yes - 0.75 * p**2 * -math.log(1 - p)


def hungarian_costs(
    decoded: Tensor, scores: Tensor, gts: Tensor, labels: Tensor, class_cost, weights, image_size
) -> list[list[float]]:
    """The cost of every pair, term by term."""
    overlaps = oracles.table(giou, decoded.double(), gts.double())
    of_class = {"focal": focal, "softmax": lambda p: -p, None: lambda p: 0.0}[class_cost]
    boxes, objects = ([oracles.Box(*row) for row in rows.double().tolist()] for rows in (decoded, gts))
    probability = scores.tolist()
    table = []
    for p, box in enumerate(boxes):
        row = []
        for g, label in enumerate(labels.tolist()):
            wanted = objects[g]
            height, width = image_size or (math.inf, math.inf)
            l1 = (abs(box.cx - wanted.cx) + abs(box.w - wanted.w)) / width
            l1 += (abs(box.cy - wanted.cy) + abs(box.h - wanted.h)) / height
            w_class, w_l1, w_giou = weights
            row.append(w_class * of_class(probability[p][label]) + w_l1 * l1 - w_giou * overlaps[p][g])
        table.append(row)
    return table
