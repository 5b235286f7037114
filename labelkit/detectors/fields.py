"""Receptive fields in the place of a detector's priors: what RFLA assigns, and a refusal where it would see others."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torchvision.models import resnet50

from labelkit.assigners import RFLA
from labelkit.detectors.backbones import SmallPyramid
from labelkit.priors import Priors
from labelkit.receptive_field import receptive_fields, resnet_stages

OF_DETECTOR = (
    "assignment_priors=receptive_field_view(fields), the fields from labelkit.receptive_field, one a level; where the "
    "detector's anchors are such squares already, assignment_priors=lambda priors: priors"
)


def receptive_field_view(fields: Sequence[float], fraction: float = 0.5) -> Callable[[Priors], Priors]:
    """For `assignment_priors`: squares of side fraction * field where the detector's priors stand, a field a level.

    What `RFLA` assigns (RFLA, section 3.1); the detector has one prior a cell. See `labelkit.receptive_field`.
    """
    sides = tuple(fraction * field for field in fields)
    if not sides or not all(0 < side < math.inf for side in sides):
        raise ValueError(f"fields and fraction must be positive and finite, got {tuple(fields)} and {fraction}")
    return partial(_squares, sides=sides)


def _squares(priors: Priors, sides: tuple[float, ...]) -> Priors:
    if len(sides) != len(priors.level_sizes):
        raise ValueError(f"fields must be one for each of the {len(priors.level_sizes)} levels, got {len(sides)}")
    side = priors.boxes.new_tensor(sides)
    half = side[priors.levels][:, None] / 2
    boxes = torch.cat((priors.centers - half, priors.centers + half), dim=1)
    grid = priors.grid
    if grid is not None:
        grid = replace(grid, width=side[grid.level], height=side[grid.level])
    return replace(priors, boxes=boxes, grid=grid)


def view_of(assigner: Any, backbone: str) -> Callable[[Priors], Priors] | None:
    """What RFLA sees in a detector that labelkit builds on "small" or "resnet50_fpn"; None for every other rule."""
    if not isinstance(assigner, RFLA):
        return None
    if backbone == "small":
        return receptive_field_view(receptive_fields(SmallPyramid.layers))
    with torch.device("meta"):
        return receptive_field_view(receptive_fields(resnet_stages(resnet50()))[1:])


def check_fields(assigner: Any, view: Callable[[Priors], Priors] | None, mend: str = OF_DETECTOR) -> None:
    """ValueError for RFLA on priors that nobody said are receptive fields: it runs on any, and labels wrongly."""
    if isinstance(assigner, RFLA) and view is None:
        raise ValueError(f"RFLA assigns receptive fields, and here it would see the detector's own priors: give {mend}")
