"""A batch in one call beside one call for each image, whose answers are kept: neither may cost more than it must."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from assignment import scattered, workloads
from measuring import Meter, row, side_by_side

from labelkit.assigners import ATSS, FCOS, MaxIoU

CASES = (
    ("max_iou", MaxIoU(), "800x1344, 9 anchors", (8, 32)),
    ("max_iou", MaxIoU(), "800x1344, 1 anchor", (8, 32)),
    ("atss", ATSS(k=9), "800x1344, 9 anchors", (32,)),
    ("fcos", FCOS(center_radius=1.5, closed_ranges=False), "800x1344, points", (32,)),
)
GTS = 7  # of an image, as in COCO


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    made, meter = workloads(device), Meter(device)
    for method, rule, name, sizes in CASES:
        for images in sizes:
            boxes = [scattered(GTS, (8, 600), (1344, 800), seed).to(device) for seed in range(images)]
            targets = [{"boxes": one, "labels": torch.zeros(GTS, dtype=torch.int64, device=device)} for one in boxes]
            yield _row(method, rule, name, made[name], targets, meter, 0.1 if quick else 2.0)


def _row(method: str, rule: Any, name: str, priors: Any, targets: list, meter: Meter, seconds: float) -> dict[str, Any]:
    def singles() -> list[Any]:
        return [rule(priors, target) for target in targets]

    measured = side_by_side(lambda: rule(priors, targets), singles, meter, seconds, "none")
    batch = rule(priors, targets).gt
    measured["differ"] = sum(int((answer.gt != batch[i]).sum()) for i, answer in enumerate(singles()))
    place = {"P": len(priors), "images": len(targets)}
    return row("batches", method, name, GTS, "one call for each image", **place, **measured)
