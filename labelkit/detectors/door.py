"""The detector's door: targets as its losses need them, or a sentence that says which of them is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from labelkit.boxes import check_boxes, plain


@torch.compiler.disable
def check_targets(
    targets: Sequence[Any], images: int, num_classes: int, assign_on: str | None = None
) -> list[dict[str, Any]]:
    """The targets with boxes [G, 4] in float32 and labels [G] in int64; all other entries as they are.

    Checked is what is used: a box that is thin in float64 and empty in float32 is refused, as are a box of zero or
    negative size, a number that is not finite, and a label that is no class of the detector. An image without objects
    may have boxes and labels of any dtype, its boxes also of shape [0]. Raises ValueError with target, index and value.
    assign_on: the detector's; where it is not None, boxes and labels must be there.
    """
    if len(targets) != images:
        raise ValueError(f"targets must have one entry for each of the {images} images, got {len(targets)}")
    return [_checked(target, f"targets[{index}]", num_classes, assign_on) for index, target in enumerate(targets)]


def _checked(target: Any, name: str, num_classes: int, assign_on: str | None) -> dict[str, Any]:
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
        raise ValueError(f"{name} must be a dict with 'boxes' [G, 4] and 'labels' [G], got {target!r:.80}")
    for key in ("boxes", "labels"):
        if not isinstance(target[key], Tensor):
            raise ValueError(f"{name}['{key}'] must be a tensor, got {type(target[key]).__name__}")
        if assign_on is not None and target[key].device.type != assign_on:
            raise ValueError(
                f"{name}['{key}'] is on {target[key].device}: with assign_on={assign_on!r} the targets stay on the CPU"
            )
    boxes, labels = plain(target["boxes"], f"{name}['boxes']"), target["labels"].as_subclass(Tensor)
    if boxes.numel() == 0:
        boxes = boxes.new_zeros((0, 4), dtype=torch.float32)
    no_numbers = boxes.dtype == torch.bool or boxes.is_complex()  # for check_boxes to refuse
    boxes = check_boxes(boxes if no_numbers else boxes.float(), f"{name}['boxes']")
    return {**target, "boxes": boxes, "labels": _checked_labels(labels, f"{name}['labels']", len(boxes), num_classes)}


def _checked_labels(labels: Tensor, name: str, count: int, num_classes: int) -> Tensor:
    if labels.shape != (count,):
        raise ValueError(f"{name} must have shape [{count}], one class for each box, got {list(labels.shape)}")
    if count and (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool):
        raise ValueError(f"{name} must be a tensor of whole numbers, got {labels.dtype}")
    labels = labels.long()
    wrong = (labels < 0) | (labels >= num_classes)
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        raise ValueError(f"{name}[{index}] must be a class from 0 to {num_classes - 1}, got {int(labels[index])}")
    return labels
