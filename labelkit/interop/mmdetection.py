"""MMDetection: an assignment as its `AssignResult` holds it, and the priors of its generators with their grid.

Conventions of mmdet 3.3.0, mmdet/models/task_modules: assigners/assign_result.py, prior_generators/*.py. Nothing of it
is imported. The assigner for its heads is in `labelkit.interop.mmdet_assigner`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.assignment import Assignment
from labelkit.interop.lattice import on_lattice
from labelkit.interop.left_out import say_left_out
from labelkit.priors import Priors


class MMDetLabels(NamedTuple):
    """gt_inds: 0 negative, -1 ignored, index of the ground truth + 1. max_overlaps: the similarity of a positive, 0
    elsewhere. labels: the class of a positive, -1 elsewhere."""

    gt_inds: Int[Tensor, "*batch P"]
    max_overlaps: Float[Tensor, "*batch P"]
    labels: Int[Tensor, "*batch P"]


def to_mmdet(assignment: Assignment, labels: Int[Tensor, "G"] | list[Int[Tensor, "_"]]) -> MMDetLabels:
    """What mmdet's `AssignResult(num_gts, gt_inds, max_overlaps, labels)` is made of.

    labels: the class of every ground truth, counted from 0; for a batch a list of one tensor an image. Soft targets and
    weights have no place there, which is said in a warning.
    """
    say_left_out(assignment, "mmdet's AssignResult", ("score_target", "weight"))
    classes = assignment.class_targets(labels)
    gt_inds = torch.where(assignment.ignored, -1, assignment.gt.clamp(min=-1) + 1)
    return MMDetLabels(gt_inds, assignment.similarity, torch.where(assignment.positive, classes - 1, -1))


def mmdet_priors(
    generator: Any, feature_sizes: Sequence[tuple[int, int]], device: torch.device | str = "cpu"
) -> Priors:
    """The priors of one of mmdet's generators, bit for bit, with their grid.

    generator: an `AnchorGenerator` (or SSD's, YOLO's), or an `MlvlPointGenerator`, whose priors are points.
    feature_sizes: (height, width) of the feature map of each level.
    """
    boxes = torch.cat(
        [as_boxes(level, generator) for level in generator.grid_priors(list(feature_sizes), device=device)]
    )
    priors = recognised(boxes, generator)
    if priors is None:
        raise ValueError(f"generator must lay its priors on a grid, which a {type(generator).__name__} does not")
    return priors


def recognised(boxes: Tensor, generator: Any) -> Priors | None:
    """Boxes as `as_boxes` makes them, with the grid of this generator; None where they are not its, or not all."""
    strides = [(float(across), float(down)) for across, down in generator.strides]
    if hasattr(generator, "base_anchors"):
        bases = [plain(base) for base in generator.base_anchors]
    else:
        bases = [torch.tensor([[generator.offset * side for side in (*pair, *pair)]]) for pair in strides]
    return on_lattice(boxes, bases, strides)


def as_boxes(priors: Any, generator: Any | None) -> Float[Tensor, "P 4"]:
    """mmdet's priors as xyxy: anchors as they are, points [P, 2], or [P, 4] with their strides behind, as boxes of
    size zero."""
    priors = plain(priors)
    if priors.shape[-1] == 2 or (generator is not None and not hasattr(generator, "base_anchors")):
        return priors[:, :2].repeat(1, 2)
    return priors[:, :4]


def plain(boxes: Any) -> Tensor:
    """The tensor inside mmdet's box types."""
    return boxes if isinstance(boxes, Tensor) else boxes.tensor
