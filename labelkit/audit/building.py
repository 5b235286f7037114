"""Detectors by the names that the command line has for them: torchvision's as they come, labelkit's small one."""

from __future__ import annotations

from typing import Any

from labelkit.counts import at_least_one

DETECTORS = ("retinanet", "retinanet-v2", "fcos", "faster-rcnn", "ssd300", "small")


def build_detector(name: str, **options: Any) -> Any:
    """A detector of torchvision's without weights: an audit asks it for the input, the priors and the rule.

    options: min_size and max_size.
    """
    from torchvision.models import detection

    from labelkit.detectors import retinanet

    if name not in DETECTORS:
        raise ValueError(f"detector must be one of {', '.join(DETECTORS)}, got {name!r}")
    at_least_one(**options)
    if name == "small":
        return retinanet(1, **options)
    if name == "ssd300" and options:
        raise ValueError("an SSD300 has an input of 300 x 300; leave --min-size and --max-size out")
    build = {
        "retinanet": detection.retinanet_resnet50_fpn,
        "retinanet-v2": detection.retinanet_resnet50_fpn_v2,
        "fcos": detection.fcos_resnet50_fpn,
        "faster-rcnn": detection.fasterrcnn_resnet50_fpn,
        "ssd300": detection.ssd300_vgg16,
    }[name]
    return build(weights=None, weights_backbone=None, **options)
