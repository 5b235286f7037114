"""The output's ceiling: a detector that may name 300 objects cannot find 1,926, however well it learned.

Where nobody says, the limits follow the data: half as many detections again as the fullest image has objects, for
some of them are wrong, and candidates for NMS in the proportion of torchvision's RetinaNet, 1000 to 300.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labelkit.assigners.ground_truths import flagged
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet
from labelkit.training.recipe import Recipe

Targets = Sequence[Mapping[str, Any]]

LIMITS = ("detections", "topk_candidates")
DETECTIONS, CANDIDATES = 300, 1000  # torchvision's RetinaNet, also at least what a run gets


def most_objects(targets: Targets) -> int:
    """How many objects the fullest image holds, regions to ignore not counted; 0 without images."""
    return max((_objects(target) for target in targets), default=0)


def settle(recipe: Recipe, *targets: Targets) -> Recipe:
    """The recipe with both limits as numbers: enough for the fullest image of these data sets where it names none."""
    detections = recipe.detections or max(enough_for(images) for images in targets)
    candidates = recipe.topk_candidates or candidates_for(detections)
    return replace(recipe, detections=detections, topk_candidates=candidates)


def raise_limits(
    detector: AssignedRetinaNet | AssignedFCOS, detections: int | None, counted: int, targets: Targets
) -> None:
    """Let a trained detector return `detections` an image; None: what the metric counts, what the images need, and
    never less than before."""
    least = max(detector.detections_per_img, counted, enough_for(targets))
    detector.detections_per_img = detections or least
    detector.topk_candidates = max(detector.topk_candidates, candidates_for(detector.detections_per_img))


def enough_for(targets: Targets) -> int:
    """How many detections an image may need on this data."""
    return max(DETECTIONS, math.ceil(1.5 * most_objects(targets) / 100) * 100)


def candidates_for(detections: int) -> int:
    """How many candidates a level should hand to NMS so that so many detections can be left."""
    return max(CANDIDATES, math.ceil(detections * CANDIDATES / DETECTIONS))


def warn_of_ceiling(targets: Targets, limit: int, whose: str) -> None:
    """Warn where an image holds more objects than `limit`: what is above it cannot be found."""
    most = most_objects(targets)
    if most > limit:
        warnings.warn(
            f"an image holds {most} objects, more than the {limit} that {whose}: at most {limit / most:.0%} of them "
            "can be found",
            stacklevel=2,
        )


def _objects(target: Mapping[str, Any]) -> int:
    return int((~flagged(target)).sum())
