"""torchvision's RetinaNet and FCOS with any assigner: only the assignment, and what it says about the loss, changes."""

from labelkit.detectors.assigned_fcos import AssignedFCOS
from labelkit.detectors.assigned_retinanet import AssignedRetinaNet
from labelkit.detectors.backbones import NativeSize, SmallPyramid
from labelkit.detectors.build import fcos, retinanet
from labelkit.detectors.fields import receptive_field_view
from labelkit.detectors.loss_rule import LOSSES, LossRule
from labelkit.detectors.second_head import progressive_weights

__all__ = [
    "LOSSES",
    "AssignedFCOS",
    "AssignedRetinaNet",
    "LossRule",
    "NativeSize",
    "SmallPyramid",
    "fcos",
    "progressive_weights",
    "receptive_field_view",
    "retinanet",
]
