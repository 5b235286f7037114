"""Cost against the number of ground truths, and against the number of priors: the lines of the picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import dense
import torch
from assignment import NWD, TINY, scattered
from measuring import MOST, Meter, row, side_by_side

from labelkit import Priors
from labelkit.assigners import RKA, MaxIoU

GTS = (1, 3, 10, 30, 100, 300, 1000, 3000)
SIDES = (256, 448, 800, 1600, 3104)  # px of a square image: 5,456 to 802,278 priors
SIDE, COUNT = 800, 100  # where the other varies
RULES = (
    ("max_iou", MaxIoU(), dense.torchvision_matcher, "torchvision's Matcher"),
    ("rka, nwd", RKA(3, NWD), partial(dense.ranking, similarity=NWD), "its dense form"),
)


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    meter = Meter(device)
    for side, count in dict.fromkeys([*((SIDE, count) for count in GTS), *((side, COUNT) for side in SIDES)]):
        priors = Priors.anchors((side, side), TINY, [[8 * stride] for stride in TINY]).to(device)
        boxes = scattered(count, (4, 32), (side, side), seed=count).to(device)
        for method, rule, peer, name in RULES:
            yield _row(method, rule, partial(peer, priors, boxes), name, priors, boxes, meter, quick)


def _row(
    method: str, rule: Any, peer: Any, name: str, priors: Priors, boxes: torch.Tensor, meter: Meter, quick: bool
) -> dict[str, Any]:
    target = {"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)}
    asked = peer if len(priors) * len(boxes) <= MOST[quick] else None
    measured = side_by_side(lambda: rule(priors, target).gt, asked, meter, 0.1 if quick else 1.0, "positive")
    return row("scaling", method, "square, 1 anchor", len(boxes), name, P=len(priors), **measured)
