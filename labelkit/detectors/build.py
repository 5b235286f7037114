"""The two detectors by name: a small one for the course's images, torchvision's ResNet-50 for real work."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torchvision.models.detection import FCOS, RetinaNet, fcos_resnet50_fpn, retinanet_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetHead

from labelkit.counts import at_least_one
from labelkit.detectors.assigned_fcos import AssignedFCOS
from labelkit.detectors.assigned_retinanet import BOX_LOSSES, DELTA_LOSSES, AssignedRetinaNet
from labelkit.detectors.backbones import NativeSize, SmallPyramid, small_norm
from labelkit.detectors.fields import view_of
from labelkit.detectors.heads import shaped
from labelkit.detectors.loss_rule import LossRule
from labelkit.priors import Priors

BUILDERS_OWN = {"small": (), "resnet50_fpn": ("progress", "trainable_backbone_layers")}  # arguments, by backbone
WEIGHTS: dict[str | None, dict[str, Any]] = {
    None: {"weights": None, "weights_backbone": None},
    "imagenet": {"weights": None, "weights_backbone": "IMAGENET1K_V1"},
    "coco": {"weights": "COCO_V1", "weights_backbone": None},
}
SMALL_CONVS = 2  # in each branch of the head, where torchvision has 4: two thirds of the work were there
ANCHOR_SCALE = 4.0  # side of an anchor in strides
SMALL_TEST: dict[str, Any] = {"score_thresh": 0.02, "nms_thresh": 0.5, "detections_per_img": 300}


def retinanet(
    num_classes: int | None = None,
    backbone: str = "small",
    assigner: Callable | None = None,
    *,
    weights: str | None = None,
    box_loss: str = "l1",
    anchor_scale: float = ANCHOR_SCALE,
    loss_rule: LossRule | None = None,
    assignment_priors: Callable[[Priors], Priors] | None = None,
    assign_on: str | None = None,
    min_size: int | None = None,
    **kwargs: Any,
) -> AssignedRetinaNet:
    """torchvision's RetinaNet with any assigner.

    Args:
        num_classes: classes without background; labels are 0 to num_classes - 1. May be left out with
            `weights="coco"` (91 columns, COCO's category ids).
        backbone: "small" (strides 4, 8, 16; one square anchor of side `anchor_scale` x stride in the middle of each
            cell; a head half as deep as torchvision's; images keep their size unless `min_size`, `max_size` or
            `fixed_size` is given) or "resnet50_fpn" (torchvision's, images resized to 800, anchors at the cells'
            corners).
        assigner: any of `labelkit.assigners`; None is torchvision's own rule, with `fg_iou_thresh`, `bg_iou_thresh`
            or `proposal_matcher` where they are given. An assigner and one of those is a TypeError.
        weights: "coco" (the whole detector; the class layer starts anew when `num_classes` differs), "imagenet"
            (the backbone) or None. Both are downloaded by torchvision; a download that fails is a ValueError that
            says where to put the file. Only for "resnet50_fpn".
        box_loss: "l1" and "smooth_l1" on the deltas, "giou", "diou" and "ciou" on the boxes.
        loss_rule: None is what the assigner's paper says of the loss; `labelkit.detectors.LOSSES` has others.
        assignment_priors: what the assigner sees instead of the detector's priors, see `Assigning`. RFLA sees the
            receptive fields of the backbone by itself.
        assign_on: "cpu" for a rule that works there while a GPU computes the network, see `Assigning`.
        kwargs: as for torchvision's `RetinaNet` (`score_thresh`, `detections_per_img`, `max_size`, ...). With
            `nms_thresh=1.0` nothing is suppressed: torchvision does where boxes overlap by more than it.
    """
    _check(backbone, weights, num_classes)
    AssignedRetinaNet.check_arguments(assigner, kwargs, *BUILDERS_OWN[backbone])
    if backbone != "small" and anchor_scale != ANCHOR_SCALE:
        raise ValueError(
            f"anchor_scale is for the small backbone, give anchor_generator to {backbone}, got {anchor_scale}"
        )
    if box_loss not in DELTA_LOSSES | BOX_LOSSES:
        raise ValueError(f"box_loss must be l1, smooth_l1, giou, diou or ciou, got {box_loss!r}")
    options: dict[str, Any] = {"min_size": min_size or 800} | kwargs
    if backbone == "small":
        pyramid = SmallPyramid()
        generator = _in_mid_cell([anchor_scale * stride for stride in pyramid.strides], pyramid.strides)
        head = RetinaNetHead(pyramid.out_channels, 1, num_classes, norm_layer=small_norm)
        for branch in (head.classification_head, head.regression_head):
            branch.conv = branch.conv[:SMALL_CONVS]
        model = RetinaNet(pyramid, num_classes, anchor_generator=generator, head=head, **(SMALL_TEST | options))
        _keep_sizes(model, min_size, kwargs)
    else:
        model = _from_torchvision(retinanet_resnet50_fpn, weights, num_classes, options)
    model.head.regression_head._loss_type = box_loss
    view = assignment_priors or view_of(assigner, backbone)
    detector = AssignedRetinaNet.from_torchvision(model, assigner, view, assign_on)
    detector.loss_rule = loss_rule or detector.loss_rule
    return detector


def fcos(
    num_classes: int | None = None,
    backbone: str = "small",
    assigner: Callable | None = None,
    *,
    weights: str | None = None,
    loss_rule: LossRule | None = None,
    bins: int | None = None,
    assignment_priors: Callable[[Priors], Priors] | None = None,
    assign_on: str | None = None,
    min_size: int | None = None,
    **kwargs: Any,
) -> AssignedFCOS:
    """torchvision's FCOS with any assigner; arguments as for `retinanet`.

    The head is as the loss rule wants it: with a third branch or, for a `quality` of None, without.
    bins: n, for distances that are distributions over n bins, see `labelkit.detectors.heads`; GFL has 17.

    Without an assigner the rule is torchvision's own: centre sampling with radius `center_sampling_radius` (1.5),
    ranges open at both ends. An assigner and a radius are a TypeError.
    """
    _check(backbone, weights, num_classes)
    AssignedFCOS.check_arguments(assigner, kwargs, *BUILDERS_OWN[backbone])
    options: dict[str, Any] = {"min_size": min_size or 800} | kwargs
    if backbone == "small":
        pyramid = SmallPyramid()
        generator = _in_mid_cell(pyramid.strides, pyramid.strides)
        head = FCOSHead(pyramid.out_channels, 1, num_classes)
        shape: dict[str, Any] = {"num_convs": SMALL_CONVS, "norm_layer": small_norm}
        head.classification_head = FCOSClassificationHead(pyramid.out_channels, 1, num_classes, **shape)
        head.regression_head = FCOSRegressionHead(pyramid.out_channels, 1, **shape)
        model = FCOS(pyramid, num_classes, anchor_generator=generator, head=head, **(SMALL_TEST | options))
        _keep_sizes(model, min_size, kwargs)
    else:
        model = _from_torchvision(fcos_resnet50_fpn, weights, num_classes, options)
    rule = loss_rule or LossRule.of(assigner)
    model.head = shaped(model.head, rule.quality, bins)
    view = assignment_priors or view_of(assigner, backbone)
    detector = AssignedFCOS.from_torchvision(model, assigner, view, assign_on)
    detector.loss_rule = rule
    return detector


def _in_mid_cell(sizes: Sequence[float], strides: Sequence[int]) -> AnchorGenerator:
    """One square a cell, centred on the cell's middle.

    torchvision's stand on the cell's corner, so that a mirrored image has other labels; it knows no offset, and takes
    any base boxes.
    """
    generator = AnchorGenerator(tuple((size,) for size in sizes), ((1.0,),) * len(sizes))
    generator.cell_anchors = [base + stride / 2 for base, stride in zip(generator.cell_anchors, strides, strict=True)]
    return generator


def _check(backbone: str, weights: str | None, num_classes: int | None) -> None:
    if backbone not in BUILDERS_OWN:
        raise ValueError(f"backbone must be one of {', '.join(BUILDERS_OWN)}, got {backbone!r}")
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be None, 'imagenet' or 'coco', got {weights!r}")
    if backbone == "small" and weights is not None:
        raise ValueError(f"weights must be None for the small backbone, which has none, got {weights!r}")
    if num_classes is None and weights != "coco":
        raise ValueError("num_classes must be given unless weights='coco'")
    at_least_one(num_classes=num_classes)


def _from_torchvision(
    build: Callable, weights: str | None, num_classes: int | None, options: dict[str, Any]
) -> RetinaNet | FCOS:
    columns = None if weights == "coco" else num_classes
    try:
        model = build(**WEIGHTS[weights], num_classes=columns, **options)
    except (URLError, TimeoutError, ConnectionError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"weights={weights!r} could not be downloaded ({error}): put torchvision's file into {folder}, "
            "or give weights=None to start from random ones"
        ) from error
    if num_classes is not None:
        _set_num_classes(model, num_classes)
    return model


def _set_num_classes(model: RetinaNet | FCOS, num_classes: int) -> None:
    """A new class layer, initialised as torchvision does, where the number of classes is another one."""
    head: Any = model.get_submodule("head.classification_head")
    if head.num_classes == num_classes:
        return
    build = FCOSClassificationHead if isinstance(model, FCOS) else RetinaNetClassificationHead
    fresh = build(head.cls_logits.in_channels, head.num_anchors, num_classes)
    head.cls_logits, head.num_classes = fresh.cls_logits, num_classes


def _keep_sizes(model: RetinaNet | FCOS, min_size: int | None, options: dict[str, Any]) -> None:
    """No resize, where nobody has said to which size."""
    old: Any = model.transform
    if min_size is None and not options.keys() & {"max_size", "fixed_size"}:
        model.transform = NativeSize(old.min_size, old.max_size, old.image_mean, old.image_std, old.size_divisible)
