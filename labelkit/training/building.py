"""The detector that a recipe describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labelkit.detectors import AssignedFCOS, AssignedRetinaNet, fcos, retinanet
from labelkit.detectors.fields import view_of
from labelkit.detectors.loss_rule import LOSSES, LossRule
from labelkit.training.weights import NAMED, start_from_file

if TYPE_CHECKING:
    from labelkit.training.recipe import Recipe


ONE_TO_ONE = ("poto", "hungarian")  # rules whose detectors answer without suppression


def build_detector(recipe: Recipe, num_classes: int) -> AssignedRetinaNet | AssignedFCOS:
    """With the recipe's rules and losses, the heads they ask for, its limits on the output, and its weights: fresh
    ones, downloaded ones, or a file's."""
    from_file = recipe.weights is not None and recipe.weights not in NAMED
    limits = {"detections_per_img": recipe.detections, "topk_candidates": recipe.topk_candidates}
    options: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    options |= {"backbone": recipe.backbone, "weights": None if from_file else recipe.weights}
    rules = recipe.rules()
    assigner = rules["assigner"]
    options |= {"min_size": recipe.min_size, "assigner": assigner, "loss_rule": _loss_rule(recipe, assigner)}
    options |= {"assignment_priors": _view(recipe, assigner), "assign_on": recipe.assign_on}
    detector: AssignedRetinaNet | AssignedFCOS
    if recipe.detector == "retinanet":
        detector = retinanet(num_classes, box_loss=recipe.box_loss, anchor_scale=recipe.anchor_scale, **options)
    else:
        detector = fcos(num_classes, bins=recipe.bins, **options)
    if from_file:
        start_from_file(detector, str(recipe.weights))
    if "second_assigner" in rules:
        second = rules["second_assigner"]
        detector.use_second_head(second)
        detector.second_loss_rule = _loss_rule(recipe, second).with_branch_of(detector.loss_rule)
    if recipe.nms_thresh is not None:
        detector.nms_thresh = recipe.nms_thresh
    elif recipe.assigner in ONE_TO_ONE and getattr(assigner, "repeat", 1) == 1:
        detector.nms_thresh = 1.0
    return detector


def teach(detector: AssignedRetinaNet | AssignedFCOS, recipe: Recipe, warming_up: bool) -> None:
    """Give the detector the recipe's rule, or the one that it warms up with; its heads stay as they are."""
    rules = recipe.rules()
    field = "warmup_assigner" if warming_up else "assigner"
    detector.use_assigner(rules[field], _view(recipe, rules[field]), recipe.assign_on)
    own = _loss_rule(recipe, rules["assigner"])
    detector.loss_rule = _loss_rule(recipe, rules[field]).with_branch_of(own)


def _loss_rule(recipe: Recipe, assigner: Callable) -> LossRule:
    """What the recipe says of the loss, or what the rule's paper says."""
    named = "focal" if recipe.plain_loss else recipe.loss
    rule = LossRule.of(assigner) if named is None else LOSSES[named]
    if recipe.quality is None:
        return rule
    return replace(rule, quality=None if recipe.quality == "none" else recipe.quality)


def _view(recipe: Recipe, rule: Callable) -> Callable | None:
    """What a rule sees in place of the detector's priors."""
    return view_of(rule, recipe.backbone)
