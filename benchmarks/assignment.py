"""Speed and memory of the assigners beside their dense peers, side by side in one run, on one thread.

    python benchmarks/assignment.py [--device cuda] [--only max_iou] [--json out.json]

Every row first checks that both sides give the same labels where that is defined. A time is the median of several
calls, the two sides taking turns, so that a noisy machine disturbs both. Memory is the peak above what was held
before one call: resident memory on the CPU (Linux), allocated memory on a GPU. Absolute times depend on the machine
and on its allocator (fresh pages are dear): read the ratios.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import dense
import dense_mixtures
import torch
from rich.console import Console
from rich.table import Table

from labelkit import Predictions, Priors
from labelkit.assigners import (
    ATSS,
    DCFL,
    FCOS,
    OTA,
    PAA,
    RFLA,
    RKA,
    DynamicSoftLabel,
    MaxIoU,
    SimOTA,
    TaskAligned,
    TopK,
)
from labelkit.receptive_field import rf_priors
from labelkit.similarity import ciou, dotd, iou, nwd, rfd, simd

COCO, TINY = (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)
NWD, DOTD = partial(nwd, constant=12.8), partial(dotd, constant=12.8)
SIMD = partial(simd, m=5.6, n=5.6)  # what the paper's normalisation gives on 800 x 800 images with small objects


@dataclass
class Row:
    """One line of the table; times in ms, memory in MiB; NaN where there is no peer."""

    method: str
    priors: str
    gts: int
    peer_ms: float
    ours_ms: float
    peer_mib: float
    ours_mib: float
    labels: str


def workloads(device: torch.device) -> dict[str, Priors]:
    nine = [[4 * s * 2 ** (i / 3) for i in range(3)] for s in COCO]
    made = {
        "800x1344, 9 anchors": Priors.anchors((800, 1344), COCO, nine, (0.5, 1.0, 2.0)),
        "800x1344, 1 anchor": Priors.anchors((800, 1344), COCO, [[8 * s] for s in COCO]),
        "800x1344, points": Priors.points((800, 1344), COCO),
        "800x800, 1 anchor": Priors.anchors((800, 800), TINY, [[8 * s] for s in TINY]),
        "800x800, points": Priors.points((800, 800), TINY),
        "800x800, receptive fields": rf_priors((800, 800), TINY, fields=(35, 91, 267, 427, 555)),
    }
    made = {name: priors.to(device) for name, priors in made.items()}
    for name in list(made):
        priors = made[name]
        made[name + ", no grid"] = Priors.from_boxes(priors.boxes, priors.level_sizes, priors.level_strides)
    return made


def ground_truths(priors: str, count: int, device: torch.device) -> torch.Tensor:
    """Log-uniform sides: 8 to 600 px as in COCO, 4 to 32 px as in AI-TOD; fixed seed."""
    low, high, width, height = (4, 32, 800, 800) if "800x800" in priors else (8, 600, 1344, 800)
    generator = torch.Generator().manual_seed(count)
    size = torch.exp(math.log(low) + math.log(high / low) * torch.rand(count, 2, generator=generator))
    size = torch.minimum(size, torch.tensor([0.9 * width, 0.9 * height]))
    center = torch.rand(count, 2, generator=generator) * torch.tensor([float(width), float(height)])
    return torch.cat((center - size / 2, center + size / 2), dim=1).to(device)


def predictions(priors: Priors, classes: int = 80) -> Predictions:
    """As a network gives them: boxes about their own prior, half a stride off and some 3 strides wide; low scores."""
    generator = torch.Generator().manual_seed(len(priors))
    shift, size, score = (torch.randn(len(priors), n, generator=generator) for n in (2, 2, classes))
    stride = priors.strides.cpu()[:, None]
    center, half = priors.centers.cpu() + 0.5 * stride * shift, 1.5 * stride * torch.exp(0.4 * size)
    boxes = torch.cat((center - half, center + half), dim=1)
    return Predictions(boxes.to(priors.device), torch.sigmoid(score - 3).to(priors.device))


def cases() -> list[tuple[str, str, tuple[int, ...], Callable, Callable | None, str]]:
    """(method, priors, numbers of ground truths, ours, peer or None where it asks for too much memory, which labels
    must agree)."""
    wide, tiny, points = "800x1344, 9 anchors", "800x800, 1 anchor", "800x1344, points"
    yolo = TaskAligned(k=10, alpha=0.5, overlap=ciou)
    retina, fcos = MaxIoU(), FCOS(center_radius=1.5, closed_ranges=False)
    mmdet = partial(dense.max_similarity, similarity=iou, fg=0.5, bg=0.4, least=0.0)
    rows = [
        ("max_iou", wide, (1, 10, 100), retina, dense.torchvision_matcher, "all"),
        ("max_iou", "800x1344, 1 anchor", (1, 10, 100), retina, dense.torchvision_matcher, "all"),
        ("max_iou", tiny, (1, 100, 1000), retina, dense.torchvision_matcher, "all"),
        ("max_iou, owner gt", tiny, (1, 100, 1000), MaxIoU(low_quality_owner="gt"), mmdet, "all"),
        ("max_iou", wide + ", no grid", (1, 10, 100), retina, dense.torchvision_matcher, "all"),
        ("max_iou", tiny + ", no grid", (100,), retina, dense.torchvision_matcher, "all"),
        ("fcos", points, (1, 10, 100), fcos, dense.torchvision_fcos, "all"),
        ("fcos", "800x800, points", (1, 100, 1000), fcos, dense.torchvision_fcos, "all"),
        ("fcos", points + ", no grid", (1, 100), fcos, dense.torchvision_fcos, "all"),
        ("topk", wide, (1, 10, 100), TopK(k=9), dense.topk, "none"),
        ("topk", tiny, (1, 100, 1000), TopK(k=9), dense.topk, "none"),
        ("atss", wide, (1, 10, 100), ATSS(k=9), dense.atss, "none"),
        ("atss", tiny, (1, 100, 1000), ATSS(k=9), dense.atss, "positive"),
        ("rka, nwd", tiny, (1, 100, 1000), RKA(3, NWD), partial(dense.ranking, similarity=NWD), "positive"),
        ("rka, dotd", tiny, (100, 1000), RKA(3, DOTD), partial(dense.ranking, similarity=DOTD), "positive"),
        ("max_iou, nwd", tiny, (1, 100, 1000), _by(NWD), partial(dense.max_similarity, similarity=NWD), "all"),
        ("max_iou, simd", tiny, (1, 100, 1000), _by(SIMD), partial(dense.max_similarity, similarity=SIMD), "all"),
        (
            "rfla",
            "800x800, receptive fields",
            (1, 100, 1000),
            RFLA(3, 0.9),
            partial(dense.hierarchical, similarity=rfd),
            "none",
        ),
        ("paa", "800x1344, 1 anchor", (1, 10, 100), PAA(), dense_mixtures.paa, "positive"),
        ("paa", tiny, (1, 100, 1000), PAA(), dense_mixtures.paa, "positive"),
        ("ota", points, (1, 10), OTA(), dense_mixtures.ota, "all"),
        ("ota", points, (100,), OTA(), None, "none"),
        ("ota", "800x800, points", (1000,), OTA(), None, "none"),
        ("dcfl", tiny, (1, 100, 300), DCFL(), dense_mixtures.dcfl, "positive"),
        ("simota", points, (1, 10, 100), SimOTA(), dense.simota, "all"),
        ("simota", "800x800, points", (1000,), SimOTA(), None, "none"),
        ("dsl", points, (1, 100), DynamicSoftLabel(), None, "none"),
        ("dsl", "800x800, points", (1000,), DynamicSoftLabel(), None, "none"),
        ("tal", points, (1, 10, 100), yolo, dense.task_aligned, "all"),
        ("tal", "800x800, points", (1, 100, 1000), yolo, dense.task_aligned, "all"),
    ]
    return rows


def _by(similarity: Callable) -> MaxIoU:
    return MaxIoU(0.7, 0.3, min_fg=0.3, low_quality_owner="gt", similarity=similarity)


class Meter:
    """Times and peak memory of calls, on the CPU or on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.gpu = device.type == "cuda"

    def milliseconds(self, call: Callable) -> float:
        start = time.perf_counter()
        call()
        if self.gpu:
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - start)

    def mebibytes(self, call: Callable) -> float:
        """Peak above what was held before; NaN where the system does not tell."""
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            call()
            return (torch.cuda.max_memory_allocated() - held) / 2**20
        try:
            Path("/proc/self/clear_refs").write_text("5")
            held = self._status("VmRSS")
            call()
            return (self._status("VmHWM") - held) / 1024
        except OSError:
            return math.nan

    @staticmethod
    def _status(key: str) -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return float(line.split()[1])


def measure(case, count: int, made: dict[str, Priors], meter: Meter, seconds: float) -> Row:
    method, name, _, assigner, peer, labels = case
    priors, device = made[name], made[name].device
    boxes = ground_truths(name, count, device)
    target = {"boxes": boxes, "labels": torch.arange(count, device=device) % 80}
    seen = (predictions(priors),) if assigner.needs_predictions else ()
    asked = (*seen, target["labels"]) if seen else ()

    def ours() -> torch.Tensor:
        return assigner(priors, target, *seen).gt

    def theirs() -> torch.Tensor:
        return peer(priors, boxes, *asked)

    ours_mib = meter.mebibytes(ours)  # its first call: later ones find memory that the process still holds
    if peer is None:
        ours_ms = statistics.median(meter.milliseconds(ours) for _ in range(7))
        return Row(method, name, count, math.nan, ours_ms, math.nan, ours_mib, "no peer")
    got, wanted = ours(), theirs()
    if labels == "positive":
        got, wanted = got.clamp(min=-1), wanted
    same = "not compared" if labels == "none" else f"{int((got != wanted).sum())} differ"
    del got, wanted
    peer_mib = meter.mebibytes(theirs)
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < 3 or (sum(times[0]) + sum(times[1]) < 1000 * seconds and len(times[0]) < 50):
        times[0].append(meter.milliseconds(theirs))
        times[1].extend(meter.milliseconds(ours) for _ in range(3))
    return Row(method, name, count, statistics.median(times[0]), statistics.median(times[1]), peer_mib, ours_mib, same)


def show(rows: list[Row]) -> None:
    table = Table("method", "priors", "G", "peer ms", "ours ms", "faster", "peer MiB", "ours MiB", "less", "labels")
    for row in rows:
        faster, less = row.peer_ms / row.ours_ms, row.peer_mib / max(row.ours_mib, 0.1)
        figures = (f"{row.peer_ms:.2f}", f"{row.ours_ms:.2f}", f"{faster:.1f}x")
        memory = (f"{row.peer_mib:.0f}", f"{row.ours_mib:.1f}", f"{less:.0f}x")
        if math.isnan(row.peer_ms):
            figures, memory = ("-", figures[1], "-"), ("-", memory[1], "-")
        table.add_row(row.method, row.priors, str(row.gts), *figures, *memory, row.labels)
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each row")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    made, meter = workloads(device), Meter(device)
    rows = []
    for case in cases():
        if arguments.only in case[0]:
            rows += [measure(case, count, made, meter, arguments.seconds) for count in case[2]]
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
