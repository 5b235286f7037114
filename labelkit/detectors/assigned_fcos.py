"""torchvision's FCOS with any assigner."""

from collections.abc import Callable
from itertools import pairwise
from math import inf
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection import FCOS
from torchvision.ops import generalized_box_iou_loss

from labelkit.assigners import FCOS as FCOSRule
from labelkit.boxes import centerness, centers, encode_ltrb
from labelkit.detectors.assigning import Assigning, Matched, class_losses
from labelkit.priors import Priors


class AssignedFCOS(Assigning, FCOS):
    """torchvision's FCOS: its points, head, transforms and post-processing, and `assigner` for its rule.

    Losses are torchvision's: focal over all priors that are not ignored, GIoU and centre-ness over the positives,
    all divided by the positives of the batch (at least 1; their mean over the processes when there are several,
    so that two processes give the gradients of one with the doubled batch). Soft methods change them by what the
    `Assignment` says: `score_target` in the class column, `weight` on all three. An assigner made for anchor boxes
    sees torchvision's anchors: one square of side = stride at every point.
    Without an assigner the rule is torchvision's with the model's `center_sampling_radius`, ranges open at both ends,
    and the losses equal torchvision's; an assigner and `center_sampling_radius` are a TypeError.

    Labels are columns: 0 to num_classes - 1.
    """

    torchvision_class = FCOS
    rule_arguments = ("center_sampling_radius",)

    center_sampling_radius: float

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        assigner: Callable | None = None,
        assignment_priors: Callable[[Priors], Priors] | None = None,
        **kwargs: Any,
    ):
        self.check_arguments(assigner, kwargs)
        super().__init__(backbone, num_classes, **kwargs)
        self.use_assigner(assigner, assignment_priors)

    def own_rule(self) -> FCOSRule:
        """torchvision's rule: a level holds 4 to 8 of its strides, the finest from 0, the coarsest without end."""
        strides = self.nominal_strides()
        ranges = None
        if any(2 * finer != coarser for finer, coarser in pairwise(strides)):
            edges = [[4 * stride, 8 * stride] for stride in strides]
            edges[0][0], edges[-1][1] = 0.0, inf
            ranges = tuple((low, high) for low, high in edges)
        return FCOSRule(ranges, self.center_sampling_radius, closed_ranges=False)

    def nominal_strides(self) -> tuple[float, ...]:
        """The sides of the anchors: what torchvision's rule takes for the stride.

        Where the padded image is no multiple of a stride, its points are spaced otherwise.
        """
        return tuple(float(sizes[0]) for sizes in self.anchor_generator.sizes)

    def decode(self, numbers: Tensor, anchors: Tensor) -> Tensor:
        """Boxes `[..., P, 4]` in pixels of the network's input, from the head's numbers."""
        return self.box_coder.decode(numbers, anchors)

    @torch.compiler.disable
    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        with torch.autocast(anchors[0].device.type, enabled=False):
            outputs = {name: output.float() for name, output in head_outputs.items()}
            assignment = self.assign(targets, outputs)
            class_weights, box_weights = self.loss_rule.weights(assignment)
            matched = Matched(assignment, targets, box_weights)
            positives = _mean_over_processes(assignment.positive.sum()).clamp(min=1)
            losses = {
                "classification": class_losses(
                    self.loss_rule, outputs["cls_logits"], assignment, matched, class_weights
                ),
                "bbox_regression": self._box_losses(outputs["bbox_regression"], matched, anchors[0]),
                "bbox_ctrness": self._centerness_losses(outputs["bbox_ctrness"], matched, anchors[0]),
            }
            return {name: values.sum() / positives for name, values in losses.items()}

    def _box_losses(self, distances: Tensor, matched: Matched, anchors: Tensor) -> Tensor:
        decoded = self.decode(distances[matched.image, matched.prior], anchors[matched.prior])
        losses = generalized_box_iou_loss(decoded, matched.boxes, reduction="none")
        return self.loss_rule.weigh(losses, matched.weight)

    def _centerness_losses(self, logits: Tensor, matched: Matched, anchors: Tensor) -> Tensor:
        # A positive of another method may lie outside its box, or on its border: as far from central as can be.
        distances = encode_ltrb(matched.boxes, centers(anchors[matched.prior]))
        inside = distances.min(dim=1).values > 0
        expected = torch.where(inside, centerness(torch.where(inside[:, None], distances, 1)), 0)
        losses = binary_cross_entropy_with_logits(logits[matched.image, matched.prior, 0], expected, reduction="none")
        return self.loss_rule.weigh(losses, matched.weight)


def _mean_over_processes(count: Tensor) -> Tensor:
    """DDP averages gradients over processes; a normaliser of the whole batch has to be averaged as well."""
    count = count.float()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count /= torch.distributed.get_world_size()
    return count
