"""The audit at scale: a file of many pictures' boxes is made, read and audited; beside it the dense way on a sample.

    python benchmarks/audit.py [--pictures 2000] [--boxes 20] [--workers 2] [--json out.json]

The peer does for each picture what torchvision's RetinaNet does in training: `box_iou` of all anchors and `Matcher`.
Times are of the processor (both sides on one thread), which other work on the machine disturbs least; the wall time of
the whole stands below them. Memory is the peak of resident memory (Linux): this process, and the largest worker, which
shares with this one what both have read. docs/speed.md has 100,000 pictures with 2,000,000 boxes:
--pictures 100000 --json benchmarks/results/audit-100000.json
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import row
from rich.console import Console
from rich.table import Table
from run import header
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from labelkit.audit import Front, audit
from labelkit.audit.building import build_detector
from labelkit.datasets.box_table import BoxTable

SIZES = [(640, 480)] * 8 + [(640, 427)] * 5 + [(480, 640)] * 2 + [(500, 375), (427, 640), (612, 612), (640, 360)]
SAMPLE = 40  # pictures for the peer


def make(path: Path, pictures: int, boxes: int) -> None:
    """COCO's sizes of pictures, half of the rest of any; boxes of every size. Written record by record."""
    dice = random.Random(0)
    entries, number = [], 0
    with open(path, "w") as file:
        file.write('{"categories": [{"id": 1, "name": "one"}], "annotations": [')
        for image in range(1, pictures + 1):
            width, height = dice.choice(SIZES) if dice.random() < 0.8 else (640, dice.randrange(300, 640))
            entries.append({"id": image, "file_name": f"{image:012d}.jpg", "width": width, "height": height})
            for _ in range(min(10 * boxes, int(dice.expovariate(1 / (boxes + 0.5))))):
                side = dice.lognormvariate(3.4, 1)
                w, h = (min(limit - 1, side * dice.uniform(0.5, 2)) for limit in (width, height))
                box = [round(value, 2) for value in (dice.uniform(0, width - w), dice.uniform(0, height - h), w, h)]
                number += 1
                record = {"id": number, "image_id": image, "category_id": 1, "bbox": box, "iscrowd": 0}
                file.write((", " if number > 1 else "") + json.dumps(record))
        file.write(f'], "images": {json.dumps(entries)}}}')


def peer_ms(front: Front, table: BoxTable) -> float:
    """The median over some pictures."""
    match, times = Matcher(0.5, 0.4, allow_low_quality_matches=True), []
    for image in range(0, len(table), max(1, len(table) // SAMPLE)):
        seen, priors = front.see(tuple(table.sizes[image].tolist()))
        boxes = seen.at_input(torch.from_numpy(table.boxes[table.starts[image] : table.starts[image + 1]]))
        if len(boxes):
            start = time.process_time()
            match(box_iou(boxes, priors.boxes))
            times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def measure(pictures: int, boxes: int, workers: int) -> dict[str, float]:
    """What making, reading and auditing took."""
    imports = _resident(resource.RUSAGE_SELF)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "many.json"
        make(file, pictures, boxes)
        wall, start = time.perf_counter(), time.process_time()
        table = BoxTable.read(file)
        reading = time.process_time() - start
    front, start = Front(build_detector("retinanet")), time.process_time()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = audit(table, front, what_if=False, workers=workers)
    numbers = found.to_json()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    auditing = time.process_time() - start + _spent(children) - _spent(before)
    wall, peak = time.perf_counter() - wall, _resident(resource.RUSAGE_SELF)  # before the peer's matrices
    ours, peer = 1e3 * auditing / pictures, peer_ms(front, table)
    return {
        "pictures": len(table),
        "boxes": numbers["objects"],
        "reading, s of the processor": round(reading, 1),
        "auditing, s of the processor": round(auditing, 1),
        "audit, ms a picture": round(ours, 2),
        "dense matcher alone, ms a picture": round(peer, 2),
        "ratio": round(peer / ours, 1),
        f"wall with {workers} workers, s": round(wall, 1),
        "peak memory, MB": peak,
        "of which the imports, MB": imports,
        "peak memory of a worker, MB": _resident(resource.RUSAGE_CHILDREN),
    }


def _resident(who: int) -> int:
    return round(resource.getrusage(who).ru_maxrss / 1024)


def _spent(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """The whole of an audit beside the dense matching alone, per picture.

    The detector is asked for its maps once for every size of its input, 0.1 s each: few pictures would show that alone.
    """
    if device.type != "cpu":
        return
    pictures = 400 if quick else 2000
    found = measure(pictures, boxes=20, workers=1)
    ours, theirs = found["audit, ms a picture"], found["dense matcher alone, ms a picture"]
    times = {"ours_ms": ours, "ours_mib": None, "peer_ms": theirs, "ratio": theirs / ours}
    name = f"RetinaNet's on {pictures:,} pictures"
    yield row("audit", "audit", name, int(found["boxes"]), "torchvision's Matcher alone", **times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--boxes", type=int, default=20, help="of a picture, in the mean")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(given.pictures, given.boxes, given.workers)
    chart = Table("", "")
    for name, value in found.items():
        chart.add_row(name, f"{value:,}")
    Console().print(chart)
    if given.json:
        given.json.write_text(json.dumps(header(torch.device("cpu"), quick=False) | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
