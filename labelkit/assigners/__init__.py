"""Assigners: one method a file, and a registry by name."""

from labelkit.assigners.atss import ATSS
from labelkit.assigners.base import Assigner
from labelkit.assigners.dcfl import DCFL
from labelkit.assigners.dynamic_soft_label import DynamicSoftLabel
from labelkit.assigners.explanation import Steps
from labelkit.assigners.fcos import FCOS
from labelkit.assigners.hambox import HAMBox
from labelkit.assigners.hungarian import Hungarian
from labelkit.assigners.max_iou import MaxIoU
from labelkit.assigners.noisy_anchors import NoisyAnchors
from labelkit.assigners.ota import OTA
from labelkit.assigners.paa import PAA
from labelkit.assigners.poto import POTO
from labelkit.assigners.rfla import HLA, RFLA
from labelkit.assigners.rka import RKA
from labelkit.assigners.s3fd import S3FD
from labelkit.assigners.simota import SimOTA
from labelkit.assigners.task_aligned import TaskAligned
from labelkit.assigners.topk import TopK

ASSIGNERS: dict[str, type[Assigner]] = {
    "max_iou": MaxIoU,
    "fcos": FCOS,
    "topk": TopK,
    "atss": ATSS,
    "s3fd": S3FD,
    "hambox": HAMBox,
    "noisy_anchors": NoisyAnchors,
    "rka": RKA,
    "rfla": RFLA,
    "paa": PAA,
    "ota": OTA,
    "dcfl": DCFL,
    "simota": SimOTA,
    "tal": TaskAligned,
    "dsl": DynamicSoftLabel,
    "hungarian": Hungarian,
    "poto": POTO,
}

__all__ = [
    "ASSIGNERS",
    "ATSS",
    "DCFL",
    "FCOS",
    "HLA",
    "OTA",
    "PAA",
    "POTO",
    "RFLA",
    "RKA",
    "S3FD",
    "Assigner",
    "DynamicSoftLabel",
    "HAMBox",
    "Hungarian",
    "MaxIoU",
    "NoisyAnchors",
    "SimOTA",
    "Steps",
    "TaskAligned",
    "TopK",
]
