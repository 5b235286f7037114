"""One-to-one matching beside scipy on the whole matrix.

"minimum sum" is the matching alone, of POTO's candidates whose qualities are known: our pairs beside scipy's
`linear_sum_assignment` on the ground truths x priors matrix that already stands. "poto" is the whole rule beside
DeFCN's way, which fills that matrix first. "hungarian" is DETR's matcher with as many queries as DETR and DINO have.
Predictions are the priors' own boxes of four
strides, moved and scaled at random, with random scores of 80 classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dense
import torch
from assignment import ground_truths, workloads
from measuring import MOST, Meter, row, side_by_side
from torch import Tensor

from labelkit import Predictions, Priors
from labelkit.assigners import POTO, Hungarian
from labelkit.search.candidates import Pairs
from labelkit.search.choosing import minimum_sum

CLASSES = 80
POINTS = {"800x1344, points": (10, 100), "800x800, points": (100, 1000)}
QUERIES = {300: (7, 100), 900: (300,)}
Scene = tuple[Priors, dict[str, Tensor], Predictions]


def predicted(priors: Priors, count: int) -> Predictions:
    generator = torch.Generator().manual_seed(count)
    stride = priors.strides[:, None] if priors.level_strides else torch.full((len(priors), 1), 8.0)
    center = priors.centers + stride * torch.randn(len(priors), 2, generator=generator) / 2
    half = 2 * stride * torch.exp(torch.randn(len(priors), 2, generator=generator) / 2)
    scores = torch.rand(len(priors), CLASSES, generator=generator)
    return Predictions(torch.cat((center - half, center + half), dim=1), scores)


def scene(priors: Priors, name: str, count: int) -> Scene:
    boxes = ground_truths(name, count, torch.device("cpu"))
    return priors, {"boxes": boxes, "labels": torch.arange(count) % CLASSES}, predicted(priors, count)


def matching_alone(given: Scene) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Ours and scipy's on the same qualities: (ground truth of every prior)."""
    priors, target, _ = given
    count = len(target["boxes"])
    pairs = POTO().explain(*given).candidates
    quality = dense.poto_quality(*given)

    def labels(found: Pairs) -> Tensor:
        return torch.full((len(priors),), -1).index_copy_(0, found.prior, found.gt)

    return (
        lambda: labels(pairs[minimum_sum(pairs, pairs.prior, count, -pairs.value)]),
        lambda: dense.solved(quality, maximize=True, least=0.0),
    )


def cases(most: int) -> Iterator[tuple[str, str, Scene, str, Callable[[], Tensor], Callable[[], Tensor]]]:
    """(method, priors, scene, peer's name, ours, peer), of at most so many pairs; the labels must agree."""
    made = workloads(torch.device("cpu"))
    for name, counts in POINTS.items():
        for count in (count for count in counts if len(made[name]) * count <= most):
            given = scene(made[name], name, count)
            yield "minimum sum", name, given, "scipy on the whole matrix", *matching_alone(given)
            yield "poto", name, given, "DeFCN's rule, with scipy", _labels(POTO(), given), _peer(dense.poto, given)
    for queries, counts in QUERIES.items():
        center = torch.rand(queries, 2, generator=torch.Generator().manual_seed(queries)) * torch.tensor([1344.0, 800])
        priors, rule = Priors.from_boxes(center.repeat(1, 2)), Hungarian(image_size=(800, 1344))
        for count in counts:
            given = scene(priors, "queries", count)
            peer = "DETR's matcher, with scipy"
            yield "hungarian", f"{queries} queries", given, peer, _labels(rule, given), _peer(dense.detr, given)


def _labels(rule: Callable, given: Scene) -> Callable[[], Tensor]:
    return lambda: rule(*given).gt


def _peer(rule: Callable, given: Scene) -> Callable[[], Tensor]:
    return lambda: rule(*given)


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """On the CPU alone: so is scipy."""
    if device.type != "cpu":
        return
    meter = Meter(device)
    for method, name, given, peer, ours, theirs in cases(MOST[quick]):
        priors, target, _ = given
        measured = side_by_side(ours, theirs, meter, 0.1 if quick else 2.0)
        yield row("one to one", method, name, len(target["boxes"]), peer, P=len(priors), **measured)
