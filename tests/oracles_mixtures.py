"""What PAA, OTA and DCFL promise, as slow and obvious loops; for DCFL also what the authors' code computes instead.

As in `oracles`: similarities and costs of every prior with every ground truth come from the library's own elementwise
functions (equal values are equal to the last bit), everything else is written anew. `paa` and `ota` take the dense
form of the papers: all priors, all ground truths, a plan over the whole table.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from labelkit import Predictions, Priors
from labelkit.assigners.ground_truths import collect
from labelkit.assigners.predicted import focal_of_background, focal_of_class
from labelkit.search.candidates import Pairs
from labelkit.similarity import giou, gjsd, iou
from tests import oracles
from tests.oracles import IGNORED, NEGATIVE, Expected, expected

EQUAL = 1e-9  # likelihoods and logarithms of shares this near are equal


def focal_costs(priors: Priors, target: dict, predictions: Predictions) -> tuple[Tensor, Tensor]:
    """[P] of background, [P, G] of each ground truth's class: the focal loss summed over the classes."""
    gts = collect([target], priors)
    prior = torch.arange(len(priors)).repeat_interleave(len(gts))
    pairs = Pairs(prior, torch.arange(len(gts)).repeat(len(priors)), torch.zeros(len(prior)))
    background = focal_of_background(torch.arange(len(priors)), predictions)
    return background, background[:, None] + focal_of_class(pairs, gts, predictions).view(len(priors), len(gts))


# ------------------------------------------------------------------------------------------------- PAA


class Component(NamedTuple):
    weight: float
    mean: float
    variance: float

    def log_joint(self, value: float) -> float:
        density = math.log(2 * math.pi * self.variance) + (value - self.mean) ** 2 / self.variance
        return math.log(self.weight) - density / 2


def log_sum(values: list[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def mixture_of_two(values: list[float]) -> list[Component]:
    """Expectation and maximisation from the least and the largest value, weights 1/2, variances 1."""
    parts = [Component(0.5, min(values), 1.0), Component(0.5, max(values), 1.0)]
    before = -math.inf
    for _ in range(100):
        joint = [[part.log_joint(value) for part in parts] for value in values]
        total = [log_sum(row) for row in joint]
        mass, moved = [], []
        for c in range(2):
            share = [math.exp(row[c] - t) for row, t in zip(joint, total, strict=True)]
            mass.append(math.fsum(share) + 10 * 2**-52)
            mean = math.fsum(s * v for s, v in zip(share, values, strict=True)) / mass[c]
            spread = math.fsum(s * (v - mean) ** 2 for s, v in zip(share, values, strict=True)) / mass[c]
            moved.append((mean, spread + 1e-6))
        parts = [Component(m / sum(mass), *part) for m, part in zip(mass, moved, strict=True)]
        likelihood = math.fsum(total) / len(values)
        if abs(likelihood - before) < 1e-3:
            break
        before = likelihood
    return parts


def positives_of_scores(scores: list[float], variant: str) -> list[int]:
    """Which of the ascending scores are positives."""
    everybody = list(range(len(scores)))
    if len(scores) < 2:
        return everybody if variant == "official" else []
    parts = mixture_of_two(scores)
    joint = [[part.log_joint(score) for part in parts] for score in scores]
    first = [i for i in everybody if joint[i][0] >= joint[i][1] - EQUAL]
    if not first:
        return everybody if variant == "official" else []
    likelihood = {i: log_sum(joint[i]) for i in first}
    bar = min(i for i in first if likelihood[i] >= max(likelihood.values()) - EQUAL)
    return [i for i in (everybody if variant == "official" else first) if i <= bar]


def paa(priors: Priors, target: dict, predictions: Predictions, k=9, iou_thresh=0.1, variant="official") -> Expected:
    """Max-IoU, a score for each stage-one positive, the k least of every level, a mixture for each ground truth."""
    gts, P = target["boxes"], len(priors)
    owner = "argmax" if variant == "official" else "gt"
    stage_one = oracles.max_iou(
        priors.boxes, priors.centers, gts, iou, iou_thresh, iou_thresh, low_quality_owner=owner
    ).gt.tolist()
    _, cost = focal_costs(priors, target, predictions)
    loss = 1 - giou(predictions.boxes[:, None], gts[None])
    score = (cost + (1.0 if variant == "official" else 1.3) * loss).tolist()
    levels = priors.levels.tolist()
    gt = [NEGATIVE] * P
    for g in range(len(gts)):
        candidates = []
        for level in sorted(set(levels)):
            own = [p for p in range(P) if stage_one[p] == g and levels[p] == level]
            candidates += sorted(own, key=lambda p, g=g: (score[p][g], p))[:k]
        candidates.sort(key=lambda p, g=g: (score[p][g], p))
        for place in positives_of_scores([score[p][g] for p in candidates], variant):
            gt[candidates[place]] = g
    return expected(gt, oracles.similarity_with(gt, oracles.table(iou, predictions.boxes, gts)))


# ------------------------------------------------------------------------------------------------- OTA


def dense_sinkhorn(cost: Tensor, supply: Tensor, demand: Tensor, eps: float, iterations: int) -> Tensor:
    """The logarithm of the plan [rows, columns] as the published code computes it: potentials that are added to."""
    u, v = torch.ones_like(supply), torch.ones_like(demand)
    for _ in range(iterations):
        v = v + eps * ((demand + 1e-8).log() - ((-cost + u[:, None] + v) / eps).logsumexp(dim=0))
        u = u + eps * ((supply + 1e-8).log() - ((-cost + u[:, None] + v) / eps).logsumexp(dim=1))
    return (-cost + u[:, None] + v) / eps


def ota(
    priors: Priors,
    target: dict,
    predictions: Predictions,
    eps=0.1,
    iterations=50,
    iou_weight=1.5,
    k=20,
    radius=2.5,
    min_side=None,
) -> Expected:
    """The table of all ground truths that have a feasible prior and the background; what is not feasible costs 1e6."""
    gts, P = target["boxes"], len(priors)
    background, cost = focal_costs(priors, target, predictions)
    overlap = iou(predictions.boxes[:, None], gts[None])
    offset = (priors.centers[:, None] - (gts[None, :, :2] + gts[None, :, 2:]) / 2).abs().amax(dim=2)
    least = torch.tensor(oracles.least_distances(priors.centers, gts, min_side)).view(P, len(gts))
    feasible = (least > 0.01) & (offset < radius * priors.strides[:, None])
    rows = [g for g in range(len(gts)) if P and bool(feasible[:, g].any())]
    if not rows:
        return expected([NEGATIVE] * P, [0.0] * P)
    cost = (cost - iou_weight * overlap.clamp(min=2**-23).log()).double() + 1e6 * ~feasible
    table = torch.stack([*(cost[:, g] for g in rows), background.double()])
    supply = []
    for g in rows:
        best = sorted((overlap[:, g].double() * feasible[:, g]).tolist(), reverse=True)[:k]
        supply.append(max(1, math.trunc(math.fsum(best))))
    supply.append(max(0, P - sum(supply)))
    plan = dense_sinkhorn(table, torch.tensor(supply).double(), torch.ones(P).double(), eps, iterations)
    share = ((plan - plan.amax(dim=1, keepdim=True)) / EQUAL).round()
    gt = [rows[row] if row < len(rows) else NEGATIVE for row in share.argmax(dim=0).tolist()]
    return expected(gt, oracles.similarity_with(gt, overlap.tolist()))


# ------------------------------------------------------------------------------------------------ DCFL


def gaussian(point: tuple[float, float], middle: tuple[float, float], width: float, height: float) -> float:
    return math.exp(-(((point[0] - middle[0]) / (width / 2)) ** 2 + ((point[1] - middle[1]) / (height / 2)) ** 2) / 2)


def in_the_gate(place: list, kept: list[int], box: oracles.Box, gate: float, mix: float) -> list[int]:
    """Which of the kept priors are near the middle of the box and of each other. place[p]: centre of prior p."""
    if not kept:
        return []
    mean = tuple(math.fsum(place[p][axis] for p in kept) / len(kept) for axis in (0, 1))
    return [p for p in kept if gate_value(place[p], mean, box, mix) >= math.exp(-gate) - 1e-12]


def gate_value(point, mean, box: oracles.Box, mix: float) -> float:
    of_box = gaussian(point, (box.cx, box.cy), box.w, box.h)
    return mix * of_box + (1 - mix) * gaussian(point, mean, box.w, box.h)


def dcfl(
    priors: Priors,
    target: dict,
    predictions: Predictions,
    k=16,
    q=12,
    gate=0.6,
    mix=0.7,
    similarity=gjsd,
    bg_thresh=0.8,
) -> Expected:
    """The clean reading: k most similar, the best of conflicts, q best predicted, the gate."""
    gts, P = target["boxes"], len(priors)
    values, place = oracles.table(similarity, priors.boxes, gts), priors.centers.tolist()
    quality = (iou(predictions.boxes[:, None], gts[None]) + predictions.scores[:, target["labels"]]).tolist()
    listed = {g: oracles.k_best(values, g, k, range(P)) for g in range(len(gts))}
    owner = oracles.settle(listed, values, P)
    candidates = {p for own in listed.values() for p in own}
    gt = [NEGATIVE] * P
    for g, box in enumerate(gts.tolist()):
        own = [p for p in range(P) if owner[p] == g]
        kept = sorted(own, key=lambda p, g=g: (-quality[p][g], p))[:q]
        for p in in_the_gate(place, kept, oracles.Box(*box), gate, mix):
            gt[p] = g
    thresh = oracles.rounded(bg_thresh, gts)
    for p in range(P):
        if p not in candidates and values[p] and max(values[p]) >= thresh:
            gt[p] = IGNORED
    return expected(gt, oracles.similarity_with(gt, values))


class AuthorsDCFL(NamedTuple):
    """The labels after each of the three filters of the authors' code: an index, NEGATIVE or IGNORED for each prior."""

    coarse: list[int]
    medium: list[int]
    fine: list[int]


def dcfl_authors(priors: Priors, target: dict, predictions: Predictions, k=16, q=12, gate=0.6, mix=0.7) -> AuthorsDCFL:
    """What Chasel-Tsui/mmrotate-dcfl d60ca27 computes for upright boxes, its slips included (not the library's rule).

    Where torch's topk leaves open which of several equal entries a list is filled with, the lower prior comes first.
    How many priors are given back depends on it, that some are does not.
    """
    gts, P = target["boxes"], len(priors)
    values, place = oracles.table(gjsd, priors.boxes, gts), priors.centers.tolist()
    overlap = oracles.table(iou, predictions.boxes, gts)
    boxes = [oracles.Box(*box) for box in gts.tolist()]
    coarse = [NEGATIVE if max(values[p]) < 0.8 else IGNORED for p in range(P)]
    for g in range(len(gts)):
        best = sorted((values[p][g] for p in range(P)), reverse=True)[:k]
        for p in range(P):
            if values[p][g] in best:  # equal to one of the k best: more than k on ties, and the last one overwrites
                coarse[p] = g
    candidates = [p for p in range(P) if coarse[p] >= 0]
    quality = {p: overlap[p][coarse[p]] + max(predictions.scores[p].tolist()) for p in candidates}
    medium = [NEGATIVE if p in quality else coarse[p] for p in range(P)]
    kept = {}
    for g in range(len(gts)):
        # Priors of other ground truths stand in the list too, with a quality of -100: they fill it up.
        row = {p: quality[p] if coarse[p] == g else -100.0 for p in candidates}
        kept[g] = sorted(candidates, key=lambda p, row=row: (-row[p], p))[:q]
        for p in kept[g]:
            medium[p] = coarse[p]  # and a foreign prior is given back to its own ground truth
    fine = []
    for p in range(P):
        g = max(medium[p], 0)  # who is nobody's is asked at the gate of ground truth 0
        mean = tuple(math.fsum(place[m][axis] for m in kept[g]) / len(kept[g]) for axis in (0, 1))
        fine.append(medium[p] if gate_value(place[p], mean, boxes[g], mix) >= math.exp(-gate) else NEGATIVE)
    return AuthorsDCFL(coarse, medium, fine)
