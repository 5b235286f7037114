"""What a method's paper says about the loss beside the labels, as plain fields; one table says it of every method."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from labelkit.assigners import ASSIGNERS
from labelkit.assignment import Assignment
from labelkit.losses import focal_loss, ia_bce_loss, keep_scale, mal_loss, quality_focal_loss, varifocal_loss

CHOICES: dict[str, tuple[str | None, ...]] = {
    "target": ("assigned", "iou"),
    "class_divisor": ("positives", "targets"),
    "box_weight": (None, "target", "iou", "score"),
    "quality": ("centerness", "iou", "objectness", None),
}


def assigned_weights(assignment: Assignment) -> tuple[Tensor, Tensor]:
    """Weights `[B, P]` of the classification and of the box loss: what the assigner says, for both."""
    return assignment.weight, assignment.weight


def hambox_weights(assignment: Assignment) -> tuple[Tensor, Tensor]:
    """Compensated priors are divided by their own number, all others by the number of matched ones.

    The detector divides everything by the number N of positives of the image, so N / count is what is left to do.
    A compensated prior's IoU weighs its classification only (Liu 2020, arXiv 1912.09231, equations 3 and 4, with
    the number of matched priors as N_norm: over all anchors, as the text can be read, no positive would count).
    """
    positive = assignment.positive
    compensated = positive & (assignment.weight != 1)
    number = positive.sum(dim=1, keepdim=True).clamp(min=1)
    of_compensated = number / compensated.sum(dim=1, keepdim=True).clamp(min=1)
    of_matched = number / (positive & ~compensated).sum(dim=1, keepdim=True).clamp(min=1)
    boxes = torch.where(compensated, of_compensated, of_matched)
    return boxes * assignment.weight, boxes


@dataclass(frozen=True)
class LossRule:
    """The loss of a method. Weights between its parts (box loss against classification) are the training's.

    class_loss: (logits, targets), elementwise.
    weights: of an assignment, (of classification, of boxes), each [B, P].
    keeps_scale: weights move the loss between priors and leave its sum alone.
    target: what stands in the column of a positive's class: what the assigner says ("assigned"), or the IoU of the
        predicted box with its ground truth ("iou"). No gradient reaches it; it is at least 1e-6, so that a loss that
        tells positives from others by their target does.
    class_divisor: the class loss is divided by the number of "positives", or by the sum of their "targets".
    box_weight: what the loss of a positive's box is multiplied with beside `weights`: nothing (None), its class
        "target", its predicted box's "iou", or its highest class "score"; constants to the gradient. The box loss is
        then divided by the sum of the weights instead of the number of positives.
    quality: what the third branch of FCOS learns: "centerness"; the predicted box's "iou", at positives; "objectness",
        at every prior whether it is positive, while the class is learnt at positives alone; None: the method asks for
        a head without it, and a head that has one learns centre-ness there. RetinaNet has no such branch: there the
        class score says everything, at every prior.
    quality_weight, distribution_weight: of that branch's loss and of the distribution focal loss, which heads with
        bins have.
    """

    class_loss: Callable[[Tensor, Tensor], Tensor] = focal_loss
    weights: Callable[[Assignment], tuple[Tensor, Tensor]] = assigned_weights
    keeps_scale: bool = False
    target: str = "assigned"
    class_divisor: str = "positives"
    box_weight: str | None = None
    quality: str | None = "centerness"
    quality_weight: float = 1.0
    distribution_weight: float = 0.25

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {getattr(self, name)!r}")

    @classmethod
    def of(cls, assigner: Any) -> "LossRule":
        """The rule of a method; an assigner from elsewhere may bring its own as its attribute `loss_rule`."""
        names = {kind: name for name, kind in ASSIGNERS.items()}
        for kind in type(assigner).__mro__:
            if kind in names:
                variant = names[kind], getattr(assigner, "variant", None)
                return METHODS.get(variant) or METHODS.get((names[kind], None)) or cls()
        return getattr(assigner, "loss_rule", cls())

    def with_branch_of(self, other: "LossRule") -> "LossRule":
        """This rule for a head whose third branch learns what `other` says."""
        return replace(self, quality=other.quality, quality_weight=other.quality_weight)

    def weigh(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Losses times weights, which broadcast; with `keeps_scale` of the same sum as before."""
        return keep_scale(losses, weights) if self.keeps_scale else losses * weights


BY_IOU = LossRule(box_weight="iou", quality="iou", quality_weight=0.5)
ALIGNED = LossRule(quality_focal_loss, class_divisor="targets", box_weight="target", quality=None)

# By registry name and variant. A method that is not here has the detector's own loss, `LossRule()`.
METHODS: dict[tuple[str, str | None], LossRule] = {
    ("hambox", None): LossRule(weights=hambox_weights),
    ("noisy_anchors", "official"): LossRule(partial(focal_loss, alpha=0.5), keeps_scale=True),
    # Kim and Lee 2020, section 3.3, and Ge et al. 2021 (OTA), in their code: hard classes, and an IoU branch.
    ("paa", None): BY_IOU,
    ("ota", None): BY_IOU,
    # YOLOX's head, 2021: the class target is the IoU, objectness is whether a prior is positive.
    ("simota", None): LossRule(
        partial(binary_cross_entropy_with_logits, reduction="none"), target="iou", quality="objectness"
    ),
    # TOOD, 2021, section 3.3.2, and RTMDet, 2022: the assigner's soft target, and nothing beside the class score.
    ("tal", None): ALIGNED,
    ("dsl", None): ALIGNED,
    # One-to-one: hard classes and nothing that could vouch for a second point (DeFCN, 2021; Deformable DETR, 2021).
    ("poto", None): LossRule(quality=None),
    ("hungarian", None): LossRule(quality=None),
}

# Losses that go with the labels of any method: on the predicted box's IoU, which then is in the class score.
LOSSES: dict[str, LossRule] = {
    "focal": LossRule(),
    "qfl": LossRule(quality_focal_loss, target="iou", box_weight="score", quality=None),  # GFL, 2020; add bins for DFL
    "vfl": LossRule(varifocal_loss, target="iou", box_weight="iou", quality=None),  # VarifocalNet, 2021
    "mal": LossRule(mal_loss, target="iou", quality=None),  # DEIM, 2025
    "ia_bce": LossRule(ia_bce_loss, target="iou", quality=None),  # Align-DETR, 2023
}
