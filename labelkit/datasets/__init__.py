"""Data sets: the course's own two, and any COCO-format folder, checked when it is loaded."""

from labelkit.datasets.base import DetectionDataset, box_fields, collate, drop_crowd, make_target
from labelkit.datasets.digits import digits
from labelkit.datasets.trees import data_dir, neon_trees

__all__ = [
    "DetectionDataset",
    "box_fields",
    "collate",
    "data_dir",
    "digits",
    "drop_crowd",
    "make_target",
    "neon_trees",
]
