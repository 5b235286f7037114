"""What `evaluate` is given, checked and as NumPy arrays on the CPU: exact in float64, which not every device has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelkit.assigners.ground_truths import FLAGS
from labelkit.boxes import check_boxes

Fields = dict[str, np.ndarray]


def read(one: Mapping[str, Any], name: str, *, scored: bool) -> Fields:
    """bbox [N, 4] (x, y, width, height) and labels of one image; of predictions scores, of targets area and iscrowd.

    A target's area is that of its box where it has none, and a box is a crowd where `iscrowd` or `ignore` says so;
    None is as good as absent. Anything else that isn't a number for each box is a ValueError that names the field.
    """
    if not isinstance(one, Mapping):
        raise ValueError(f"{name} must be a dictionary of tensors, got {type(one).__name__}")
    for key in ("boxes", "labels", "scores") if scored else ("boxes", "labels"):
        if one.get(key) is None:
            raise ValueError(f"{name} must have {key!r}, got {[given for given in one if one[given] is not None]}")
    boxes = _tensor(one["boxes"], f"{name}['boxes']")
    boxes = boxes.reshape(-1, 4) if boxes.numel() == 0 else boxes
    corners = _numbers(check_boxes(boxes, f"{name}['boxes']", zero_size=scored), "")
    sides = corners[:, 2:] - corners[:, :2]
    fields = {"labels": _labels(one["labels"], f"{name}['labels']")}
    if scored:
        fields["scores"] = _numbers(one["scores"], f"{name}['scores']")
    else:
        fields["area"] = sides[:, 0] * sides[:, 1]
        fields |= {key: _numbers(one[key], f"{name}['{key}']") for key in ("area", *FLAGS) if one.get(key) is not None}
    for key, value in fields.items():
        if value.shape != (len(corners),):
            shape = list(value.shape)
            raise ValueError(f"{name}['{key}'] must have shape [{len(corners)}], as its boxes, got {shape}")
        if not np.isfinite(value).all():
            index = int(np.argmin(np.isfinite(value)))
            raise ValueError(f"{name}['{key}'][{index}] must be finite, got {value[index]}")
    if not scored:
        if (fields["area"] < 0).any():  # in no size: an object that nobody misses
            index = int(np.argmax(fields["area"] < 0))
            raise ValueError(f"{name}['area'][{index}] must not be negative, got {fields['area'][index]}")
        nowhere = np.zeros(len(corners), dtype=bool)
        fields["iscrowd"] = np.logical_or.reduce([nowhere, *(fields.pop(key) != 0 for key in FLAGS if key in fields)])
    return {"bbox": np.concatenate((corners[:, :2], sides), axis=1)} | fields


def _labels(values: Any, name: str) -> np.ndarray:
    labels = _tensor(values, name).detach().cpu()
    if labels.numel() and (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool):
        raise ValueError(f"{name} must be integers, got {labels.dtype}")
    if bool((labels < 0).any()):
        index = int((labels < 0).nonzero()[0, 0])
        raise ValueError(f"{name}[{index}] must not be negative, got {labels[index].item()}")
    return labels.long().numpy()


def _tensor(values: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:  # as torch says of a text, or of rows of two lengths
        raise ValueError(f"{name} must be a tensor, or what torch makes one of: {error}") from error


def _numbers(values: Any, name: str) -> np.ndarray:
    """In float64, off the device first."""
    values = _tensor(values, name).detach().cpu()
    return (values.float() if values.dtype in (torch.float16, torch.bfloat16) else values).numpy().astype(np.float64)
