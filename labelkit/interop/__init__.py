"""Interop: labels in the shapes that other people's code knows. Nobody else's package is needed to import this one."""

from typing import TYPE_CHECKING

from labelkit.lazy import attach

if TYPE_CHECKING:
    from labelkit.interop.detectron2 import to_detectron2
    from labelkit.interop.mmdet_assigner import LabelkitAssigner
    from labelkit.interop.mmdetection import mmdet_priors, to_mmdet
    from labelkit.interop.padded import padded_rows, targets_from_padded
    from labelkit.interop.ultralytics import UltralyticsAssigner

__all__ = [
    "LabelkitAssigner",
    "UltralyticsAssigner",
    "mmdet_priors",
    "padded_rows",
    "targets_from_padded",
    "to_detectron2",
    "to_mmdet",
]

__getattr__ = attach(
    __name__,
    {
        "LabelkitAssigner": "labelkit.interop.mmdet_assigner",
        "UltralyticsAssigner": "labelkit.interop.ultralytics",
        "mmdet_priors": "labelkit.interop.mmdetection",
        "padded_rows": "labelkit.interop.padded",
        "targets_from_padded": "labelkit.interop.padded",
        "to_detectron2": "labelkit.interop.detectron2",
        "to_mmdet": "labelkit.interop.mmdetection",
    },
)
