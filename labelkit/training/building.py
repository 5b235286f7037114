"""The detector that a recipe describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchvision.models import resnet50

from labelkit.detectors import AssignedFCOS, AssignedRetinaNet, SmallPyramid, fcos, receptive_field_view, retinanet
from labelkit.detectors.loss_rule import LossRule
from labelkit.receptive_field import receptive_fields, resnet_stages
from labelkit.training.weights import NAMED, start_from_file

if TYPE_CHECKING:
    from labelkit.training.recipe import Recipe


def build_detector(recipe: Recipe, num_classes: int) -> AssignedRetinaNet | AssignedFCOS:
    """With the recipe's rule, its limits on the output, and its weights: fresh ones, downloaded ones, or a file's."""
    from_file = recipe.weights is not None and recipe.weights not in NAMED
    limits = {"detections_per_img": recipe.detections, "topk_candidates": recipe.topk_candidates}
    options: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    options |= {"backbone": recipe.backbone, "weights": None if from_file else recipe.weights}
    options |= {"min_size": recipe.min_size, "assigner": recipe.rule()}
    if recipe.assigner == "rfla":
        options["assignment_priors"] = receptive_field_view(_fields(recipe))
    detector: AssignedRetinaNet | AssignedFCOS
    if recipe.detector == "retinanet":
        detector = retinanet(num_classes, box_loss=recipe.box_loss, anchor_scale=recipe.anchor_scale, **options)
    else:
        detector = fcos(num_classes, **options)
    if recipe.plain_loss:
        detector.loss_rule = LossRule()
    if from_file:
        start_from_file(detector, str(recipe.weights))
    return detector


def _fields(recipe: Recipe) -> tuple[int, ...]:
    """Receptive fields of the levels that the detector reads."""
    if recipe.backbone == "small":
        return receptive_fields(SmallPyramid.layers)
    with torch.device("meta"):
        return receptive_fields(resnet_stages(resnet50()))[1:]
