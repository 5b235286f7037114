"""Assigners: one method a file, and a registry by name."""

from labelkit.assigners.atss import ATSS
from labelkit.assigners.base import Assigner
from labelkit.assigners.fcos import FCOS
from labelkit.assigners.hambox import HAMBox
from labelkit.assigners.hungarian import Hungarian
from labelkit.assigners.max_iou import MaxIoU
from labelkit.assigners.noisy_anchors import NoisyAnchors
from labelkit.assigners.poto import POTO
from labelkit.assigners.rfla import HLA, RFLA
from labelkit.assigners.rka import RKA
from labelkit.assigners.s3fd import S3FD
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
    "hungarian": Hungarian,
    "poto": POTO,
}

__all__ = [
    "ASSIGNERS",
    "ATSS",
    "FCOS",
    "HLA",
    "POTO",
    "RFLA",
    "RKA",
    "S3FD",
    "Assigner",
    "HAMBox",
    "Hungarian",
    "MaxIoU",
    "NoisyAnchors",
    "TopK",
]
