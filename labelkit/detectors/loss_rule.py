"""What a method's paper says about the loss beside the labels: which classification loss, and how priors weigh."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from labelkit.assigners import HAMBox, NoisyAnchors
from labelkit.assignment import Assignment
from labelkit.losses import focal_loss, keep_scale


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
    """class_loss(logits, targets), elementwise; weights(assignment) -> (of classification, of boxes), each [B, P];
    keeps_scale: weights move the loss between priors and leave its sum alone."""

    class_loss: Callable[[Tensor, Tensor], Tensor] = focal_loss
    weights: Callable[[Assignment], tuple[Tensor, Tensor]] = assigned_weights
    keeps_scale: bool = False

    @classmethod
    def of(cls, assigner: Any) -> "LossRule":
        """The rule of a method; an assigner from elsewhere may bring its own as its attribute `loss_rule`."""
        if isinstance(assigner, HAMBox):
            return cls(weights=hambox_weights)
        if isinstance(assigner, NoisyAnchors) and assigner.variant == "official":
            return cls(class_loss=partial(focal_loss, alpha=0.5), keeps_scale=True)
        return getattr(assigner, "loss_rule", cls())

    def weigh(self, losses: Tensor, weights: Tensor) -> Tensor:
        return keep_scale(losses, weights) if self.keeps_scale else losses * weights
