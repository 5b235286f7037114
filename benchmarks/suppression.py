"""Suppression and evaluation beside torchvision, faster-coco-eval and pycocotools, in one run, on one thread.

    python benchmarks/suppression.py [--device cuda] [--only crowded] [--json out.json]

Every row first checks that both sides give the same. A time is the median of several calls, the sides taking turns; on
the CPU it is the processor's own time, so that other programs disturb it less. `clustered`: many boxes on each of 1000
places, of which few are kept. `crowded`: every box overlaps a few others, and most are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import measuring
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torchvision import ops

from labelkit.boxes import as_float
from labelkit.evaluation import evaluate
from labelkit.nms import nms, soft_nms
from labelkit.similarity import nwd

NWD = partial(nwd, constant=12.8)


@dataclass
class Row:
    """One line of the table: ms and MiB, NaN where there is no peer; `kept` boxes of nms, images of evaluate."""

    method: str
    data: str
    boxes: int
    kept: int
    peer: str
    peer_ms: float
    ours_ms: float
    peer_mib: float
    ours_mib: float
    same: str


def scene(kind: str, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes, scores of which no two are equal, and labels of 80 classes; fixed seed."""
    generator = torch.Generator().manual_seed(count)
    uniform, normal = (partial(draw, count, 2, generator=generator) for draw in (torch.rand, torch.randn))
    if kind == "clustered":
        place = torch.randint(0, 1000, (count,), generator=generator)
        center = 4000 * torch.rand(1000, 2, generator=generator)[place] + 3 * normal()
        size = (20 + 60 * torch.rand(1000, 2, generator=generator))[place] * torch.exp(0.1 * normal())
    elif kind == "crowded":
        center, size = 4000 * math.sqrt(count / 1e5) * uniform(), 8 + 24 * uniform()
    else:
        center, size = 1000 * uniform(), 5 + 60 * uniform()
    boxes = torch.cat((center - size / 2, center + size / 2), dim=1)
    scores = torch.randperm(count, generator=generator).float() / count
    labels = torch.randint(0, 80, (count,), generator=generator)
    return boxes.to(device), scores.to(device), labels.to(device)


def detections(images: int, classes: int) -> tuple[list[dict], list[dict]]:
    """Objects of 8 to 160 px, four detections near each and 50 anywhere; fixed seed."""
    generator = torch.Generator().manual_seed(images)

    def boxes(count: int) -> torch.Tensor:
        center = 600 * torch.rand(count, 2, generator=generator)
        half = 4 * torch.exp(3 * torch.rand(count, 2, generator=generator))
        return torch.cat((center - half, center + half), dim=1)

    found, truth = [], []
    for _ in range(images):
        count = int(torch.randint(1, 15, (1,), generator=generator))
        objects, labels = boxes(count), torch.randint(0, classes, (count,), generator=generator)
        size = (objects[:, 2:] - objects[:, :2]).repeat(4, 2)
        near = objects.repeat(4, 1) + 0.05 * size * torch.randn(4 * count, 4, generator=generator)
        near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 1)
        guess = torch.cat((labels.repeat(4), torch.randint(0, classes, (50,), generator=generator)))
        scores = torch.rand(4 * count + 50, generator=generator)
        found.append({"boxes": torch.cat((near, boxes(50))), "labels": guess, "scores": scores})
        truth.append({"boxes": objects, "labels": labels})
    return found, truth


def records(images: list[dict]) -> dict:
    """COCO's form, as a user of the peers writes it."""
    annotations: list[dict] = []
    for image, one in enumerate(images):
        corners = as_float(one["boxes"]).double()
        xywh = torch.cat((corners[:, :2], corners[:, 2:] - corners[:, :2]), dim=1)
        scores = one.get("scores", torch.zeros(len(corners))).tolist()
        for bbox, label, score in zip(xywh.tolist(), one["labels"].tolist(), scores, strict=True):
            record = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": bbox}
            annotations.append(record | {"area": bbox[2] * bbox[3], "iscrowd": 0, "score": score})
    labels = sorted({one["category_id"] for one in annotations})
    return {
        "images": [{"id": image} for image in range(len(images))],
        "categories": [{"id": label, "name": str(label)} for label in labels],
        "annotations": annotations,
    }


def faster_coco_eval(found: list[dict], truth: list[dict]) -> float:
    from faster_coco_eval import COCO, COCOeval_faster

    return _ap(COCOeval_faster(COCO(records(truth)), COCO(records(found)), "bbox"))


def pycocotools(found: list[dict], truth: list[dict]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for images in (truth, found):
            side = COCO()
            side.dataset = records(images)
            side.createIndex()
            sides.append(side)
        return _ap(COCOeval(*sides, "bbox"))


def _ap(evaluator) -> float:
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    return float(precision[precision > -1].mean())


def cases(device: torch.device) -> list[tuple[str, str, int, Callable, str, Callable | None]]:
    """(method, data, boxes, ours, name of the peer, peer or None)."""
    made: list[tuple[str, str, int, Callable, str, Callable | None]] = []
    for kind, count in (
        ("random", 1000),
        ("random", 10_000),
        ("crowded", 10_000),
        ("clustered", 100_000),
        ("crowded", 100_000),
    ):
        boxes, scores, labels = scene(kind, count, device)
        ours, theirs = partial(nms, boxes, scores, 0.5), partial(ops.nms, boxes, scores, 0.5)
        made.append(("nms", kind, count, ours, "torchvision", theirs))
        if count == 10_000:
            by_class = partial(ops.batched_nms, boxes, scores, labels, 0.5)
            made.append(("nms, 80 classes", kind, count, partial(ours, labels=labels), "torchvision", by_class))
            made.append(("nms by NWD", kind, count, partial(ours, similarity=NWD), "", None))
            made.append(("nms by NWD, 80 classes", kind, count, partial(ours, similarity=NWD, labels=labels), "", None))
        made.append(("soft_nms", kind, count, partial(soft_nms, boxes, scores, method="gaussian"), "", None))
    found, truth = detections(500, 20)
    for olrp in (False, True):
        method, ours = (
            f"evaluate, {'with' if olrp else 'without'} oLRP",
            partial(evaluate, found, truth, "coco", olrp=olrp),
        )
        boxes_in_all = sum(len(one["boxes"]) for one in found)
        for peer in (faster_coco_eval, pycocotools):
            theirs = partial(peer, found, truth)
            made.append((method, "500 images, 20 classes", boxes_in_all, ours, peer.__name__, theirs))
    return made


def measure(case: tuple, device: torch.device, seconds: float) -> Row:
    method, data, boxes, ours, peer_name, peer = case
    meter = measuring.Meter(device)
    got, _, ours_mib = meter.first(ours)
    kept = 500 if isinstance(got, dict) else len(got[0] if isinstance(got, tuple) else got)
    first, peer_mib, same = math.nan, math.nan, "no peer"
    if peer is not None:
        wanted, first, peer_mib = meter.first(peer)
        equal = np.isclose(got["AP"], wanted, rtol=0, atol=1e-9) if isinstance(got, dict) else torch.equal(got, wanted)
        same = "yes" if equal else "NO"
    slow = first > 5000 * seconds  # timed once, in the call that says whether both agree
    theirs, times = [first] if slow else [], [meter.milliseconds(ours)]
    while len(times) < 3 or (sum(theirs) + sum(times) < 1000 * seconds and len(times) < 30):
        if not slow:
            theirs.append(math.nan if peer is None else meter.milliseconds(peer))
        times.append(meter.milliseconds(ours))
    medians = (statistics.median(theirs), statistics.median(times))
    return Row(method, data, boxes, kept, peer_name, *medians, peer_mib, ours_mib, same)


def measured(device: str = "cpu", only: str = "", seconds: float = 2.0) -> Iterator[dict]:
    """Every line whose method or data contain `only`, as a dictionary, as soon as it is measured."""
    torch.set_num_threads(1)
    at = torch.device(device)
    for case in cases(at):
        if only in f"{case[0]}, {case[1]}":
            yield asdict(measure(case, at, seconds))


def rows(device: torch.device, quick: bool) -> Iterator[dict]:
    """For `make bench`; a quick run leaves out 100,000 boxes, on which torchvision takes half a minute."""
    for case in cases(device):
        if not quick or case[2] < 100_000:
            found = measure(case, device, 0.1 if quick else 2.0)
            beside = {"peer_ms": found.peer_ms, "ratio": found.peer_ms / found.ours_ms} if found.peer else {}
            mib = {"ours_mib": found.ours_mib, "peer_mib": found.peer_mib}
            mib = {side: None if math.isnan(value) else round(value, 1) for side, value in mib.items()}
            same = {"same": found.same == "yes"} if found.peer else {}
            place = ("suppression", found.method, found.data, found.boxes, found.peer or None)
            yield measuring.row(*place, ours_ms=found.ours_ms, **mib, **beside, **same)


def show(found: list[dict]) -> None:
    table = Table("method", "data", "boxes", "kept", "peer", "peer ms", "ours ms", "times the peer's", "same")
    for row in found:
        alone = math.isnan(row["peer_ms"])
        figures = ("-", "-") if alone else (f"{row['peer_ms']:.1f}", f"{row['ours_ms'] / row['peer_ms']:.2f}")
        size = (str(row["boxes"]), str(row["kept"]), row["peer"])
        table.add_row(row["method"], row["data"], *size, figures[0], f"{row['ours_ms']:.1f}", figures[1], row["same"])
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="rows whose method or data contain this")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    found = []
    for row in measured(arguments.device, arguments.only, arguments.seconds):
        found.append(row)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
