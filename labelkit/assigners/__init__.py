"""Assigners: one method a file, and a registry by name."""

from labelkit.assigners.base import Assigner
from labelkit.assigners.fcos import FCOS
from labelkit.assigners.max_iou import MaxIoU

ASSIGNERS: dict[str, type[Assigner]] = {
    "max_iou": MaxIoU,
    "fcos": FCOS,
}

__all__ = ["ASSIGNERS", "FCOS", "Assigner", "MaxIoU"]
