"""The assigners beside their dense peers: grids with nine anchors, with one anchor or point, and no grid at all.

Every row first checks that both sides give the same labels where that is defined. `measuring.py` says how a time is
taken, `run.py` runs all of the benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import dense
import dense_cascades
import dense_mixtures
import torch
from measuring import MOST, Meter, row, side_by_side

from labelkit import Predictions, Priors
from labelkit.assigners import (
    ATSS,
    DCFL,
    FCOS,
    OTA,
    PAA,
    RFLA,
    RKA,
    S3FD,
    DynamicSoftLabel,
    HAMBox,
    MaxIoU,
    NoisyAnchors,
    SimOTA,
    TaskAligned,
    TopK,
)
from labelkit.receptive_field import rf_priors
from labelkit.similarity import ciou, dotd, iou, nwd, rfd, simd

COCO, TINY = (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)
NWD, DOTD = partial(nwd, constant=12.8), partial(dotd, constant=12.8)
SIMD = partial(simd, m=5.6, n=5.6)  # what the paper's normalisation gives on 800 x 800 images with small objects


class Case(NamedTuple):
    """A rule on some priors with several numbers of ground truths; None: no peer, or one that asks for too much memory.

    labels: which of them must agree with the peer's.
    """

    method: str
    priors: str
    gts: tuple[int, ...]
    ours: Callable
    peer: Callable | None
    peer_name: str | None
    labels: str = "all"


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
    return scattered(count, (low, high), (width, height), seed=count).to(device)


def scattered(count: int, sides: tuple[float, float], image: tuple[int, int], seed: int) -> torch.Tensor:
    """Boxes anywhere in the image (width, height), their sides log-uniform."""
    low, high = sides
    generator = torch.Generator().manual_seed(seed)
    size = torch.exp(math.log(low) + math.log(high / low) * torch.rand(count, 2, generator=generator))
    size = torch.minimum(size, 0.9 * torch.tensor(image, dtype=torch.float32))
    center = torch.rand(count, 2, generator=generator) * torch.tensor(image, dtype=torch.float32)
    return torch.cat((center - size / 2, center + size / 2), dim=1)


def predictions(priors: Priors, classes: int = 80) -> Predictions:
    """As a network gives them: boxes about their own prior, half a stride off and some 3 strides wide; low scores."""
    generator = torch.Generator().manual_seed(len(priors))
    shift, size, score = (torch.randn(len(priors), n, generator=generator) for n in (2, 2, classes))
    stride = priors.strides.cpu()[:, None]
    center, half = priors.centers.cpu() + 0.5 * stride * shift, 1.5 * stride * torch.exp(0.4 * size)
    boxes = torch.cat((center - half, center + half), dim=1)
    return Predictions(boxes.to(priors.device), torch.sigmoid(score - 3).to(priors.device))


def cases() -> list[Case]:
    wide, cell, points = "800x1344, 9 anchors", "800x1344, 1 anchor", "800x1344, points"
    tiny, dots, fields = "800x800, 1 anchor", "800x800, points", "800x800, receptive fields"
    free = ", no grid"
    few, many = (1, 10, 100), (1, 100, 1000)
    retina, fcos, by_gt = MaxIoU(), FCOS(center_radius=1.5, closed_ranges=False), MaxIoU(low_quality_owner="gt")
    rka, hla = RKA(3, NWD), RFLA(3, 0.9)
    yolo, hambox = TaskAligned(k=10, alpha=0.5, overlap=ciou), HAMBox(k=5, decoded_thresh=0.6)
    matcher = (dense.torchvision_matcher, "torchvision's Matcher")
    mmdet = (partial(dense.max_similarity, similarity=iou, fg=0.5, bg=0.4, least=0.0), "mmdet's rule, dense")
    tv_fcos = (dense.torchvision_fcos, "torchvision's FCOS")
    mm_simota, ultralytics = (dense.simota, "mmdet's rule, dense"), (dense.task_aligned, "Ultralytics' rule, dense")

    def own(peer: Callable, **options: Any) -> tuple[Callable, str]:
        return partial(peer, **options), "its dense form"

    none = (None, None)
    return [
        Case("max_iou", wide, few, retina, *matcher),
        Case("max_iou", cell, few, retina, *matcher),
        Case("max_iou", tiny, many, retina, *matcher),
        Case("max_iou, owner gt", cell, few, by_gt, *mmdet),
        Case("max_iou, owner gt", tiny, many, by_gt, *mmdet),
        Case("max_iou, nwd", tiny, many, _by(NWD), *own(dense.max_similarity, similarity=NWD)),
        Case("max_iou, simd", tiny, many, _by(SIMD), *own(dense.max_similarity, similarity=SIMD)),
        Case("fcos", points, few, fcos, *tv_fcos),
        Case("fcos", dots, many, fcos, *tv_fcos),
        Case("topk", wide, few, TopK(k=9), *own(dense.topk), "none"),
        Case("topk", cell, few, TopK(k=9), *own(dense.topk), "none"),
        Case("topk", tiny, many, TopK(k=9), *own(dense.topk), "none"),
        Case("atss", wide, few, ATSS(k=9), *own(dense.atss), "none"),
        Case("atss", cell, few, ATSS(k=9), *own(dense.atss), "positive"),
        Case("atss", tiny, many, ATSS(k=9), *own(dense.atss), "positive"),
        Case("s3fd", wide, few, S3FD(), *own(dense_cascades.s3fd), "none"),
        Case("s3fd", cell, few, S3FD(), *own(dense_cascades.s3fd), "none"),
        Case("s3fd", tiny, many, S3FD(), *own(dense_cascades.s3fd), "none"),
        Case("rka, nwd", wide, few, rka, *own(dense.ranking, similarity=NWD), "none"),
        Case("rka, nwd", cell, few, rka, *own(dense.ranking, similarity=NWD), "positive"),
        Case("rka, nwd", tiny, many, rka, *own(dense.ranking, similarity=NWD), "positive"),
        Case("rka, dotd", tiny, many, RKA(3, DOTD), *own(dense.ranking, similarity=DOTD), "positive"),
        Case("rfla", fields, many, hla, *own(dense.hierarchical, similarity=rfd), "none"),
        Case("max_iou", wide + free, few, retina, *matcher),
        Case("max_iou", wide + free, (1000,), retina, *none),
        Case("max_iou", tiny + free, many, retina, *matcher),
        Case("fcos", points + free, few, fcos, *tv_fcos),
        Case("atss", tiny + free, (1, 100), ATSS(k=9), *own(dense.atss), "positive"),
        Case("rka, nwd", tiny + free, (1, 100), rka, *own(dense.ranking, similarity=NWD), "positive"),
        Case("simota", points, few, SimOTA(), *mm_simota),
        Case("simota", dots, (1000,), SimOTA(), *none),
        Case("tal", points, few, yolo, *ultralytics),
        Case("tal", dots, many, yolo, *ultralytics),
        Case("dsl", points, few, DynamicSoftLabel(), *none),
        Case("dsl", dots, (1000,), DynamicSoftLabel(), *none),
        Case("paa", cell, few, PAA(), *own(dense_mixtures.paa), "positive"),
        Case("paa", tiny, many, PAA(), *own(dense_mixtures.paa), "positive"),
        Case("ota", points, (1, 10), OTA(), *own(dense_mixtures.ota)),
        Case("ota", points, (100,), OTA(), *none),
        Case("ota", dots, (1000,), OTA(), *none),
        Case("dcfl", tiny, (1, 100, 300), DCFL(), *own(dense_mixtures.dcfl), "positive"),
        Case("hambox", wide, few, hambox, *own(dense_cascades.hambox)),
        Case("hambox", cell, few, hambox, *own(dense_cascades.hambox)),
        Case("hambox", tiny, many, hambox, *own(dense_cascades.hambox)),
        Case("noisy_anchors", wide, few, NoisyAnchors(), *own(dense_cascades.noisy_anchors), "none"),
        Case("noisy_anchors", cell, few, NoisyAnchors(), *own(dense_cascades.noisy_anchors), "none"),
        Case("noisy_anchors", tiny, many, NoisyAnchors(), *own(dense_cascades.noisy_anchors), "none"),
    ]


def _by(similarity: Callable) -> MaxIoU:
    return MaxIoU(0.7, 0.3, min_fg=0.3, low_quality_owner="gt", similarity=similarity)


def measure(case: Case, count: int, priors: Priors, meter: Meter, quick: bool) -> dict[str, Any]:
    boxes = ground_truths(case.priors, count, priors.device)
    target = {"boxes": boxes, "labels": torch.arange(count, device=priors.device) % 80}
    seen = (predictions(priors),) if case.ours.needs_predictions else ()
    asked = (*seen, target["labels"]) if seen else ()
    few = len(priors) * count <= MOST[quick] or case.method == "max_iou"  # the README speaks of this one
    peer = (lambda: case.peer(priors, boxes, *asked)) if case.peer and few else None
    ours, seconds = lambda: case.ours(priors, target, *seen).gt, 0.1 if quick else 2.0
    measured = side_by_side(ours, peer, meter, seconds, case.labels)
    section = "predicted" if seen else "no grid" if priors.grid is None else "grid"
    return row(section, case.method, case.priors, count, case.peer_name, P=len(priors), **measured)


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    made, meter = workloads(device), Meter(device)
    for case in cases():
        for count in case.gts:
            yield measure(case, count, made[case.priors], meter, quick)
