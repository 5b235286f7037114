"""The positives of a batch: who they are, what their class column learns, and how much their boxes weigh."""

import torch
import torch.distributed
from torch import Tensor

from labelkit.assignment import Assignment
from labelkit.detectors.loss_rule import LossRule
from labelkit.devices import shipped
from labelkit.similarity import iou

LEAST_TARGET = 1e-6  # of a positive, where the target is an IoU: with 0 it would be a negative


class Matched:
    """The positives of a batch, flat: their image, their prior, their ground truth's box and label.

    After `judge` also what a rule makes of them, constants to the gradient: `overlap`, the IoU of their predicted box;
    `target`, what their class column learns; `given`, the weight that the assigner gives their box, and `weight`, that
    of its loss.
    """

    def __init__(self, assignment: Assignment, targets: list[dict[str, Tensor]]):
        counts = [len(target["labels"]) for target in targets]
        starts = torch.tensor([0, *counts[:-1]], device=assignment.gt.device).cumsum(0)
        self.image, self.prior = assignment.positive.nonzero(as_tuple=True)
        index = starts[self.image] + assignment.gt[self.image, self.prior]
        self.boxes = torch.cat([target["boxes"] for target in targets])[index]
        self.labels = torch.cat([target["labels"] for target in targets])[index]

    def to(self, device: torch.device) -> "Matched":
        """All of it on a device, without waiting."""
        for name, value in vars(self).items():
            setattr(self, name, shipped(value, device))
        return self

    def of(self, values: Tensor) -> Tensor:
        """The rows of the positives, of values `[B, P, ...]`."""
        return values[self.image, self.prior]

    @torch.no_grad()
    def judge(self, rule: LossRule, assignment: Assignment, box_weights: Tensor, boxes: Tensor, logits: Tensor) -> None:
        """By their predicted boxes `[N, 4]` and class logits `[N, C]`."""
        self.overlap = iou(boxes, self.boxes)
        by_iou = rule.target == "iou"
        self.target = self.overlap.clamp(min=LEAST_TARGET) if by_iou else self.of(assignment.score_target)
        self.given = self.weight = self.of(box_weights)
        if rule.box_weight is not None:
            factors = {"target": self.target, "iou": self.overlap, "score": logits.sigmoid().amax(dim=1)}
            self.weight = self.given * factors[rule.box_weight]


def sent_whole(assignment: Assignment, device: torch.device) -> Assignment:
    """An assignment on a device, without waiting."""
    return Assignment(**{name: shipped(value, device) for name, value in vars(assignment).items()})


def class_losses(rule: LossRule, logits: Tensor, assignment: Assignment, matched: Matched, weights: Tensor) -> Tensor:
    """`[B, P, C]`, weighed: the target in the column of a positive's class, 0 elsewhere; ignored priors out."""
    targets = torch.zeros_like(logits)
    targets[matched.image, matched.prior, matched.labels] = matched.target.to(logits.dtype)
    losses = rule.class_loss(logits, targets) * ~assignment.ignored[..., None]
    return rule.weigh(losses, weights[..., None])


def divisor(amounts: Tensor) -> Tensor:
    """What the losses of a batch are divided by: the sum, at least 1.

    Of several processes each divides by its share of the whole batch's divisor: DDP averages their gradients, which are
    then those of one process with the whole batch, also where a sum of small scores is below 1.
    """
    total = amounts.sum().float()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
        return total.clamp(min=1) / torch.distributed.get_world_size()
    return total.clamp(min=1)
