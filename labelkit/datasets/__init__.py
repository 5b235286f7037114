"""Data sets: the course's own two, and any COCO-format folder, checked when it is loaded."""

from labelkit.datasets.base import DetectionDataset, box_fields, collate, drop_crowd, make_target
from labelkit.datasets.coco import InvalidAnnotations, Problem, Report, check_coco, load_coco
from labelkit.datasets.digit_scenes import digits
from labelkit.datasets.folder import CocoFolder
from labelkit.datasets.formats import VISDRONE_CLASSES, read_visdrone, read_wider_face
from labelkit.datasets.tree_crowns import data_dir, neon_trees

__all__ = [
    "VISDRONE_CLASSES",
    "CocoFolder",
    "DetectionDataset",
    "InvalidAnnotations",
    "Problem",
    "Report",
    "box_fields",
    "check_coco",
    "collate",
    "data_dir",
    "digits",
    "drop_crowd",
    "load_coco",
    "make_target",
    "neon_trees",
    "read_visdrone",
    "read_wider_face",
]
