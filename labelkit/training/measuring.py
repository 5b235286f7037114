"""What a trained detector is worth on a data set: its detections, AP by size, and what its rule gave each size."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from labelkit.datasets import collate
from labelkit.evaluation import evaluate, starvation_by_size

Detections = list[dict[str, Tensor]]


@torch.no_grad()
def detect(detector: nn.Module, dataset: Dataset, batch_size: int = 8) -> Detections:
    """Boxes, scores and labels of every image in the data set's order, on the CPU. Modes are left as they were."""
    device = next(detector.parameters()).device
    found: Detections = []
    with _mode(detector, training=False):
        for images, _ in DataLoader(dataset, batch_size, collate_fn=collate):
            for detection in detector([image.to(device) for image in images]):
                found.append({name: value.cpu() for name, value in detection.items()})
    return found


@torch.no_grad()
def positives_by_size(
    detector: nn.Module, dataset: Dataset, images: int = 200, batch_size: int = 8, preset: str = "course"
) -> dict[str, dict[str, float]]:
    """What the detector's assigner, with its present predictions, gives the ground truths of the first images.

    For each of the preset's sizes that occurs: `gts`, how many; `positives`, the mean number of positive priors that
    each got; `starved`, the share of them that got none.
    """
    device = next(detector.parameters()).device
    boxes, counts = [], []
    first = torch.utils.data.Subset(dataset, range(min(images, len(dataset))))
    with _mode(detector, training=True):
        for pictures, targets in DataLoader(first, batch_size, collate_fn=collate):
            targets = [{key: target[key].to(device) for key in ("boxes", "labels")} for target in targets]
            detector([picture.to(device) for picture in pictures], targets)
            numbers = [len(target["boxes"]) for target in targets]
            counts += detector.last_assignment.positives_per_gt(numbers)
            boxes += [target["boxes"].as_subclass(Tensor) for target in targets]
    return starvation_by_size(torch.cat(boxes), torch.cat(counts), preset)


@contextmanager
def _mode(detector: nn.Module, training: bool) -> Iterator[None]:
    """Evaluation mode throughout, so that no statistic moves; with `training` the detector itself asks its assigner."""
    before = {module: module.training for module in detector.modules()}
    detector.eval()
    detector.training = training
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


@torch.no_grad()
def measure(detector: nn.Module, dataset: Dataset, batch_size: int = 8) -> dict[str, float | None]:
    """`evaluate` by the course's sizes and by AI-TOD's, in one flat dict; what is undefined is None."""
    return score(detect(detector, dataset, batch_size), dataset.targets)


def score(detections: Detections, targets: list[dict]) -> dict[str, float | None]:
    """What `measure` returns, for detections made elsewhere."""
    numbers = evaluate(detections, targets, "aitod") | evaluate(detections, targets, "course")
    return {name: None if math.isnan(value) else round(value, 5) for name, value in numbers.items()}
