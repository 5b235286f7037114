"""Data sets: the course's own three, and any COCO-format folder, checked when it is loaded, in tiles if need be."""

from labelkit.datasets.base import (
    BoxDataset,
    DetectionDataset,
    box_fields,
    check_trainable,
    collate,
    drop_crowd,
    make_target,
)
from labelkit.datasets.coco import check_coco, load_coco
from labelkit.datasets.digit_scenes import digits
from labelkit.datasets.folder import CocoFolder
from labelkit.datasets.formats import VISDRONE_CLASSES, read_visdrone, read_wider_face
from labelkit.datasets.hubble import deep_field
from labelkit.datasets.layouts import find_layout, open_folder, open_split
from labelkit.datasets.pixels import read_picture
from labelkit.datasets.report import InvalidAnnotations, Problem, Report
from labelkit.datasets.tiles import Tiles
from labelkit.datasets.tree_crowns import data_dir, neon_trees
from labelkit.datasets.yolo import read_yolo

__all__ = [
    "VISDRONE_CLASSES",
    "BoxDataset",
    "CocoFolder",
    "DetectionDataset",
    "InvalidAnnotations",
    "Problem",
    "Report",
    "Tiles",
    "box_fields",
    "check_coco",
    "check_trainable",
    "collate",
    "data_dir",
    "deep_field",
    "digits",
    "drop_crowd",
    "find_layout",
    "load_coco",
    "make_target",
    "neon_trees",
    "open_folder",
    "open_split",
    "read_picture",
    "read_visdrone",
    "read_wider_face",
    "read_yolo",
]
