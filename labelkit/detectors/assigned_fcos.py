"""torchvision's FCOS with any assigner."""

from itertools import pairwise
from math import inf

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection import FCOS
from torchvision.ops import generalized_box_iou_loss

from labelkit.assigners import FCOS as FCOSRule
from labelkit.assignment import Assignment
from labelkit.boxes import centerness, centers, encode_ltrb
from labelkit.detectors.assigning import Assigning
from labelkit.detectors.loss_rule import LossRule
from labelkit.detectors.matched import Matched, class_losses, divisor
from labelkit.losses import distribution_focal_loss


class AssignedFCOS(Assigning, FCOS):
    """torchvision's FCOS: its points, head, transforms and post-processing, and `assigner` for its rule.

    Losses are torchvision's: focal over all priors that are not ignored, GIoU and centre-ness over the positives,
    all divided by the positives of the batch (at least 1; of several processes each divides by its share of them,
    so that two processes give the gradients of one with the doubled batch). Soft methods change them by what the
    `Assignment` says: `score_target` in the class column, `weight` on all three; and by what their paper says of the
    loss, see `LossRule`: what the third branch learns, weights and divisors of the box loss. A head with bins
    (`labelkit.detectors.heads`) has the distribution focal loss beside the box loss. An assigner made for anchor boxes
    sees torchvision's anchors: one square of side = stride at every point.
    Without an assigner the rule is torchvision's with the model's `center_sampling_radius`, ranges open at both ends,
    and the losses equal torchvision's; an assigner and `center_sampling_radius` are a TypeError.

    Labels are columns: 0 to num_classes - 1.
    """

    torchvision_class = FCOS
    rule_arguments = ("center_sampling_radius",)

    center_sampling_radius: float

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

    def _head_losses(
        self, outputs: dict[str, Tensor], anchors: Tensor, assignment: Assignment, matched: Matched, rule: LossRule
    ) -> dict[str, Tensor]:
        class_weights, box_weights = rule.weights(assignment)
        if self._learns_objectness(rule):
            class_weights = class_weights * assignment.positive
        points, logits = anchors[matched.prior], outputs["cls_logits"]
        boxes = self.decode(matched.of(outputs["bbox_regression"]), points)
        matched.judge(rule, assignment, box_weights, boxes, matched.of(logits))
        positives = divisor(assignment.positive)
        by_class = positives if rule.class_divisor == "positives" else divisor(matched.target)
        by_boxes = positives if rule.box_weight is None else divisor(matched.weight)
        of_boxes = rule.weigh(generalized_box_iou_loss(boxes, matched.boxes, reduction="none"), matched.weight)
        losses = {
            "classification": class_losses(rule, logits, assignment, matched, class_weights).sum() / by_class,
            "bbox_regression": of_boxes.sum() / by_boxes,
        }
        if getattr(self.head, "scored", True):
            of_quality = self._quality_losses(outputs["bbox_ctrness"][..., 0], assignment, matched, points, rule)
            losses["bbox_ctrness"] = rule.quality_weight * of_quality.sum() / positives
        if "bbox_distribution" in outputs:
            distances = self.box_coder.encode(points, matched.boxes)
            of_bins = distribution_focal_loss(matched.of(outputs["bbox_distribution"]), distances).mean(dim=1)
            of_bins = rule.weigh(of_bins, matched.weight)
            losses["bbox_distribution"] = rule.distribution_weight * of_bins.sum() / by_boxes
        return losses

    def _learns_objectness(self, rule: LossRule) -> bool:
        return rule.quality == "objectness" and getattr(self.head, "scored", True)

    def _scores(self, outputs: dict[str, Tensor], rule: LossRule) -> Tensor:
        scores = outputs["cls_logits"].sigmoid()
        return (scores * outputs["bbox_ctrness"].sigmoid()).sqrt() if self._learns_objectness(rule) else scores

    def _quality_losses(
        self, logits: Tensor, assignment: Assignment, matched: Matched, points: Tensor, rule: LossRule
    ) -> Tensor:
        """Of the third branch: at every prior that is not ignored for objectness, else at the positives."""
        if rule.quality == "objectness":
            positive = assignment.positive.to(logits.dtype)
            return binary_cross_entropy_with_logits(logits, positive, reduction="none") * ~assignment.ignored
        expected = matched.overlap if rule.quality == "iou" else _centerness(matched, points)
        losses = binary_cross_entropy_with_logits(matched.of(logits), expected, reduction="none")
        return rule.weigh(losses, matched.given)


def _centerness(matched: Matched, points: Tensor) -> Tensor:
    # A positive of another method may lie outside its box, or on its border: as far from central as can be.
    distances = encode_ltrb(matched.boxes, centers(points))
    inside = distances.min(dim=1).values > 0
    return torch.where(inside, centerness(torch.where(inside[:, None], distances, 1)), 0)
