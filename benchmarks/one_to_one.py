"""One-to-one matching beside scipy on the whole matrix, side by side in one run, on one thread.

    python benchmarks/one_to_one.py [--only poto] [--seconds 3] [--json out.json]

"minimum sum" is the matching alone, of POTO's candidates whose qualities are known: our pairs beside scipy's
`linear_sum_assignment` on the ground truths x priors matrix that already stands. "poto" is the whole rule beside
DeFCN's way, which fills that matrix first. "hungarian" is DETR's matcher with as many queries as DETR and DINO have.
Read the ratios, as in `assignment.py`, which says how a time is taken. Predictions are the priors' own boxes of four
strides, moved and scaled at random, with random scores of 80 classes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import dense
import torch
from assignment import Meter, Row, ground_truths, show, workloads
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


def cases() -> list[tuple[str, str, int, Callable[[], Tensor], Callable[[], Tensor]]]:
    """(method, priors, number of ground truths, ours, peer); the labels must agree."""
    made, rows = workloads(torch.device("cpu")), []
    for name, counts in POINTS.items():
        for count in counts:
            given = scene(made[name], name, count)
            rows.append(("minimum sum", name, count, *matching_alone(given)))
            rows.append(("poto", name, count, _labels(POTO(), given), _peer(dense.poto, given)))
    for queries, counts in QUERIES.items():
        center = torch.rand(queries, 2, generator=torch.Generator().manual_seed(queries)) * torch.tensor([1344.0, 800])
        priors = Priors.from_boxes(center.repeat(1, 2))
        for count in counts:
            given = scene(priors, "queries", count)
            rule = Hungarian(image_size=(800, 1344))
            rows.append(("hungarian", f"{queries} queries", count, _labels(rule, given), _peer(dense.detr, given)))
    return rows


def _labels(rule: Callable, given: Scene) -> Callable[[], Tensor]:
    return lambda: rule(*given).gt


def _peer(rule: Callable, given: Scene) -> Callable[[], Tensor]:
    return lambda: rule(*given)


def measure(case: tuple, meter: Meter, seconds: float) -> Row:
    method, name, count, ours, theirs = case
    ours_mib = meter.mebibytes(ours)  # its first call: later ones find memory that the process still holds
    same = f"{int((ours() != theirs()).sum())} differ"
    peer_mib = meter.mebibytes(theirs)
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < 3 or (sum(times[0]) + sum(times[1]) < 1000 * seconds and len(times[0]) < 50):
        times[0].append(meter.milliseconds(theirs))
        times[1].extend(meter.milliseconds(ours) for _ in range(3))
    return Row(method, name, count, statistics.median(times[0]), statistics.median(times[1]), peer_mib, ours_mib, same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each row")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    meter = Meter(torch.device("cpu"))
    rows = [measure(case, meter, arguments.seconds) for case in cases() if arguments.only in case[0]]
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
