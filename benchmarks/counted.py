"""What the assigners and their dense peers would ask of a GPU: counted on a pretended device, not measured.

    python benchmarks/counted.py [--only atss] [--json out.json]

Launches, synchronisations ("waits") and bytes are counted operator by operator (`pretended.py`), and a model makes
milliseconds of them: 5 us a launch, 18 us a synchronisation, 3 TB/s. A second call is counted, when the priors know
what they keep. The peers' counts are straight lines in G: they are counted at 50 and 100 ground truths and drawn on to
300 and 1000.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dense
import torch
from assignment import NWD, ground_truths, predictions, workloads
from pretended import DEVICE, Counts, Device, pretended_device
from rich.console import Console
from rich.table import Table

from labelkit import Predictions, Priors
from labelkit.assigners import ATSS, FCOS, RFLA, RKA, S3FD, HAMBox, MaxIoU, NoisyAnchors, TopK
from labelkit.similarity import iou, rfd

GTS = (1, 100, 300, 1000)
NINE, TINY, FIELDS = "800x1344, 9 anchors", "800x800, 1 anchor", "800x800, receptive fields"
MMDET = partial(dense.max_similarity, similarity=iou, fg=0.5, bg=0.4, least=0.0)


@dataclass
class Row:
    """One line: ours beside the peer, by the model in ms; peer None where none is written here."""

    method: str
    priors: str
    gts: int
    ours: dict[str, float]
    peer: dict[str, float] | None


def cases() -> list[tuple[str, str, Callable, Callable | None]]:
    """(method, priors, ours, peer)"""
    fcos = FCOS(center_radius=1.5, closed_ranges=False)
    return [
        ("max_iou", NINE, MaxIoU(), dense.torchvision_matcher),
        ("max_iou", TINY, MaxIoU(), dense.torchvision_matcher),
        ("max_iou, owner gt", TINY, MaxIoU(low_quality_owner="gt"), MMDET),
        ("fcos", "800x1344, points", fcos, dense.torchvision_fcos),
        ("fcos", "800x800, points", fcos, dense.torchvision_fcos),
        ("topk", NINE, TopK(), dense.topk),
        ("topk", TINY, TopK(), dense.topk),
        ("atss", NINE, ATSS(), dense.atss),
        ("atss", TINY, ATSS(), dense.atss),
        ("s3fd", TINY, S3FD(), None),
        ("rka, nwd", TINY, RKA(3, NWD), partial(dense.ranking, similarity=NWD)),
        ("rfla", FIELDS, RFLA(), partial(dense.hierarchical, similarity=rfd)),
        ("hambox", TINY, HAMBox(5, 0.6), None),
        ("noisy_anchors", TINY, NoisyAnchors(), None),
    ]


def measure(device: Device, priors: Priors, seen: Predictions, case: tuple, gts: tuple[int, ...]) -> Iterator[Row]:
    """The rows of one case; `priors` and `seen` on the pretended device."""
    method, name, assigner, peer = case
    theirs: dict[int, Counts] = {}
    if peer is not None:
        for count in (1, 1, 50, 100):  # the first call makes what the priors keep
            boxes = ground_truths(name, count, torch.device("cpu")).to(DEVICE)
            theirs[count] = counted(device, lambda boxes=boxes: peer(priors, boxes))
        theirs |= {count: _drawn_on(theirs[50], theirs[100], count) for count in gts if count > 100}
    for count in gts:
        boxes = ground_truths(name, count, torch.device("cpu")).to(DEVICE)
        target = {"boxes": boxes, "labels": torch.zeros(count, dtype=torch.int64).to(DEVICE)}
        given = (seen,) if assigner.needs_predictions else ()
        assigner(priors, target, *given)  # what the priors keep is made here
        ours = counted(device, lambda target=target, given=given: assigner(priors, target, *given))
        yield Row(method, name, count, ours.as_dict(), theirs[count].as_dict() if peer else None)


def counted(device: Device, call: Callable) -> Counts:
    device.reset()
    call()
    counts = device.counts
    device.reset()
    return counts


def _drawn_on(at_50: Counts, at_100: Counts, count: int) -> Counts:
    low, high = asdict(at_50), asdict(at_100)
    return Counts(**{key: high[key] + (high[key] - low[key]) * (count - 100) // 50 for key in low})


def measure_all(only: str = "", gts: tuple[int, ...] = GTS) -> Iterator[Row]:
    """Every case whose method's name contains `only`."""
    made = workloads(torch.device("cpu"))
    with pretended_device() as device:
        for case in cases():
            if only in case[0]:
                own = made[case[1]]
                seen = predictions(own, 1)
                there = Predictions(seen.boxes.to(DEVICE), seen.scores.to(DEVICE))
                yield from measure(device, own.to(DEVICE), there, case, gts)
                print(f"{case[0]}, {case[1]}", file=sys.stderr)


def rows(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """For `make bench`: no device is asked, and nothing is timed."""
    untimed = dict.fromkeys(("peer", "ours_ms", "peer_ms", "ratio", "ours_mib", "peer_mib", "differ"))
    found = list(measure_all(gts=(1, 100) if quick else GTS))
    return [
        {"section": "counted for a GPU"} | untimed | asdict(row) | {"peer": None, "theirs": row.peer} for row in found
    ]


def table(found: list[Row]) -> Table:
    side = ("launches", "waits", "MB", "ms")
    made = Table("method", "priors", "G", *side, "peer: launches", *side[1:], "times")
    for row in found:
        sides = [_cells(row.ours), _cells(row.peer) if row.peer else ["-"] * 4]
        times = f"{row.ours['ms'] / row.peer['ms']:.2f}" if row.peer else "-"
        made.add_row(row.method, row.priors, str(row.gts), *sides[0], *sides[1], times)
    return made


def _cells(counts: dict[str, float]) -> list[str]:
    megabytes = f"{counts['bytes'] / 1e6:.0f}"
    return [f"{counts['launches']:.0f}", f"{counts['synchronisations']:.0f}", megabytes, f"{counts['ms']:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument("--json", type=Path, help="write the rows here, and the table beside them as .txt")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = list(measure_all(arguments.only))
    Console(width=150).print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
        with arguments.json.with_suffix(".txt").open("w") as file:
            Console(width=150, file=file).print(table(found))


if __name__ == "__main__":
    main()
