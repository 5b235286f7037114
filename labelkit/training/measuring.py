"""What a trained detector is worth on a data set: its detections, AP by size, and what its rule gave each size."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from labelkit.assigners.ground_truths import flagged
from labelkit.assignment import Assignment
from labelkit.datasets import BoxDataset, collate
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet
from labelkit.detectors.assigning import ASKED_OF_TARGETS
from labelkit.evaluation import PRESETS, Preset, evaluate, starvation_by_size
from labelkit.modes import evaluating
from labelkit.tiling import Tiling
from labelkit.training.tiled import detect_in_tiles

Detections = list[dict[str, Tensor]]
Scores = dict[str, float | None]


@torch.no_grad()
def detect(detector: nn.Module, dataset: BoxDataset, batch_size: int = 8, tiling: Tiling | None = None) -> Detections:
    """Boxes, scores and labels of every image in the data set's order, on the CPU. Modes are left as they were.

    tiling: every image is cut, and what its tiles show is merged (`labelkit.training.tiled`).
    """
    device = next(detector.parameters()).device
    found: Detections = []
    with _mode(detector, training=False):
        if tiling is not None:
            return [detect_in_tiles(detector, dataset[i][0], tiling, batch_size) for i in range(len(dataset))]
        for images, _ in DataLoader(cast(Dataset, dataset), batch_size, collate_fn=collate):
            for detection in detector([image.to(device) for image in images]):
                found.append({name: value.cpu() for name, value in detection.items()})
    return found


def detect_without_nms(
    detector: Any, dataset: BoxDataset, batch_size: int = 8, tiling: Tiling | None = None
) -> Detections:
    """The detections with the highest scores, however much they overlap; as many as otherwise.

    With a tiling, what two tiles show is merged none the less.
    """
    threshold, detector.nms_thresh = detector.nms_thresh, 1.0
    try:
        return detect(detector, dataset, batch_size, tiling)
    finally:
        detector.nms_thresh = threshold


@torch.no_grad()
def positives_by_size(
    detector: AssignedRetinaNet | AssignedFCOS,
    dataset: BoxDataset,
    images: int = 200,
    batch_size: int = 8,
    preset: str = "course",
) -> dict[str, dict[str, float]]:
    """What the detector's assigner, with its present predictions, gives the objects of the first images.

    For each of the preset's sizes that occurs: `gts`, how many; `positives`, the mean number of positive priors that
    each got; `starved`, the share of them that got none. Regions to ignore are no objects and are not counted.
    """
    device = detector.assign_on or next(detector.parameters()).device
    boxes, counts = [torch.empty(0, 4, device=device)], [torch.empty(0, dtype=torch.int64, device=device)]
    first = torch.utils.data.Subset(cast(Dataset, dataset), range(min(images, len(dataset))))
    for pictures, targets in DataLoader(first, batch_size, collate_fn=collate):
        targets = [{key: target[key].to(device) for key in ASKED_OF_TARGETS if key in target} for target in targets]
        got = assigned(detector, pictures, targets).positives_per_gt([len(target["boxes"]) for target in targets])
        for target, positives in zip(targets, got, strict=True):
            objects = ~flagged(target)
            counts.append(positives[objects])
            boxes.append(target["boxes"].as_subclass(Tensor)[objects])
    return starvation_by_size(torch.cat(boxes), torch.cat(counts), preset)


@torch.no_grad()
def assigned(
    detector: AssignedRetinaNet | AssignedFCOS, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]
) -> Assignment:
    """What the detector's assigner, with its present predictions, answers for a batch. Modes are left as they were."""
    device = next(detector.parameters()).device
    with _mode(detector, training=True):
        detector([image.to(device) for image in images], list(targets))
    assignment = detector.last_assignment
    assert assignment is not None  # the training forward has just made it
    return assignment


@contextmanager
def _mode(detector: nn.Module, training: bool) -> Iterator[None]:
    """Evaluation mode throughout, so that no statistic moves; with `training` the detector itself asks its assigner.

    Of its head only the flag of the whole is `training`, by which two heads know whether both are asked.
    """
    with evaluating(detector):
        detector.training = training
        if isinstance(detector, AssignedRetinaNet | AssignedFCOS):
            detector.head.training = training
        yield


@torch.no_grad()
def measure(
    detector: AssignedRetinaNet | AssignedFCOS,
    dataset: BoxDataset,
    batch_size: int = 8,
    tiling: Tiling | None = None,
) -> Scores:
    """`evaluate` by the course's sizes and by AI-TOD's, in one flat dict; what is undefined is None."""
    return score(detect(detector, dataset, batch_size, tiling), dataset.targets, detector.detections_per_img)


def score(detections: Detections, targets: Sequence[Mapping[str, Any]], limit: int = 0) -> Scores:
    """What `measure` returns, for detections made elsewhere; `limit`: how many of them an image may have."""
    by_aitod, by_course = evaluate(detections, targets, "aitod"), evaluate(detections, targets, course_rules(limit))
    return defined(by_aitod | by_course)


def check_preset(name: str) -> None:
    """A ValueError for a name that is no preset's."""
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")


def rules_of(preset: str, limit: int) -> Preset:
    """The preset of this name for a detector that returns `limit` detections an image: the course's counts all."""
    return course_rules(limit) if preset == "course" else PRESETS[preset]


def course_rules(limit: int) -> Preset:
    """The course's preset, counting as many detections an image as the detector may return: no ceiling of its own."""
    rules = PRESETS["course"]
    if limit <= rules.ap_max_dets:
        return rules
    return replace(rules, max_dets=(*rules.max_dets, limit), ap_max_dets=limit)


def defined(numbers: Mapping[str, Any]) -> Scores:
    """Numbers for a file: rounded, and None where there is none (NaN: nothing of that size to find)."""
    return {name: None if math.isnan(value) else round(value, 5) for name, value in numbers.items()}
