"""Padded batches, the convention of many repositories: annotations [B, N, 5] in, target rows [B, A, 5] out.

A row of annotations is x1, y1, x2, y2, class, and a class of -1 says that the row is padding (so does
pytorch-retinanet, and what follows it). A row of targets is tx, ty, tw, th, class, one for every anchor.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from labelkit.assigners.ground_truths import flagged
from labelkit.assignment import Assignment
from labelkit.boxes import as_float, encode_deltas
from labelkit.interop.left_out import say_left_out
from labelkit.priors import Priors

PADDING = -1


def targets_from_padded(annotations: Num[Tensor, "B N 5"]) -> list[dict[str, Tensor]]:
    """A target an image, as assigners and detectors take them: {"boxes": [G, 4], "labels": int64 [G]}, G may be 0.

    Rows of class -1 are padding, wherever they stand, and what else is in them is not looked at. Classes may be floats;
    boxes keep their dtype, float32 at least. A class that is no whole number from 0 on is a ValueError that names its
    place.
    """
    if not isinstance(annotations, Tensor) or annotations.ndim != 3 or annotations.shape[-1] != 5:
        found = list(annotations.shape) if isinstance(annotations, Tensor) else type(annotations).__name__
        raise ValueError(f"annotations must be a tensor of shape [B, N, 5], got {found}")
    classes = annotations[..., 4]
    wrong = (classes != PADDING) & ~((classes >= 0) & (classes == classes.floor()) & classes.isfinite())
    if bool(wrong.any()):
        image, row = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"annotations[{image}, {row}, 4] must be a class counted from 0, or -1 for padding, "
            f"got {classes[image, row].item()}"
        )
    real = classes != PADDING
    return [
        {"boxes": as_float(rows[keep, :4]), "labels": rows[keep, 4].long()}
        for rows, keep in zip(annotations, real, strict=True)
    ]


def padded_rows(
    priors: Priors,
    assignment: Assignment,
    targets: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    empty: str = "negative",
) -> Float[Tensor, "*batch A 5"]:
    """[B, A, 5], for one image and its target [A, 5]: tx, ty, tw, th of every anchor, then its class.

    The class is -1 for an ignored anchor, 0 for background, the label + 1 for a positive. The four numbers are
    `boxes.encode_deltas` of a positive with its box, without weights, and 0 elsewhere.

    empty: what the anchors of an image without an object are. "negative" is what the assignment says; "ignored" leaves
    such images out of the loss, as code does that returns early for them. Regions to ignore are no objects.

    Soft targets and weights have no place in these rows, which is said in a warning. Points have no size to divide by:
    a ValueError.
    """
    if empty not in ("negative", "ignored"):
        raise ValueError(f"empty must be 'negative' or 'ignored', got {empty!r}")
    say_left_out(assignment, "a row tx, ty, tw, th, class", ("score_target", "weight"))
    if isinstance(targets, Mapping):
        return _rows(priors, assignment, targets, empty)
    if assignment.gt.ndim != 2 or len(targets) != len(assignment.gt):
        raise ValueError(f"targets must be one an image of the assignment {assignment}, got {len(targets)}")
    rows = [_rows(priors, assignment[image], target, empty) for image, target in enumerate(targets)]
    return torch.stack(rows) if rows else priors.boxes.new_zeros(0, len(priors), 5)


def _rows(priors: Priors, assignment: Assignment, target: Mapping[str, Any], empty: str) -> Tensor:
    boxes = as_float(target["boxes"].as_subclass(Tensor).reshape(-1, 4))
    rows = priors.boxes.new_zeros(len(priors), 5, dtype=torch.promote_types(priors.boxes.dtype, boxes.dtype))
    if empty == "ignored" and bool(flagged(target).all()):
        rows[:, 4] = -1
        return rows
    rows[:, 4] = assignment.class_targets(target["labels"].long()).to(rows.dtype)
    positive = assignment.positive.nonzero().squeeze(1)
    own = priors.boxes[positive].to(rows.dtype)
    if bool((own[:, :2] >= own[:, 2:]).any()):
        raise ValueError("priors must have a positive size: the four numbers are divided by it, and points have none")
    rows[positive, :4] = encode_deltas(boxes[assignment.gt[positive]].to(rows.dtype), own)
    return rows
