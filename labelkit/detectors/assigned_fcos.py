"""torchvision's FCOS with any assigner."""

from collections.abc import Callable

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection import FCOS
from torchvision.ops import generalized_box_iou_loss

from labelkit.assigners import FCOS as FCOSRule
from labelkit.boxes import centerness, centers, encode_ltrb
from labelkit.detectors.assigning import Assigning, Matched, class_losses

TORCHVISION_RULE = FCOSRule(center_radius=1.5, closed_ranges=False)


class AssignedFCOS(Assigning, FCOS):
    """torchvision's FCOS: its points, head, transforms and post-processing, and `assigner` for its rule.

    Losses are torchvision's: focal over all priors that are not ignored, GIoU and centre-ness over the positives,
    all divided by the positives of the batch (at least 1; their mean over the processes when there are several,
    so that two processes give the gradients of one with the doubled batch). Soft methods change them by what the
    `Assignment` says: `score_target` in the class column, `weight` on all three. An assigner made for anchor boxes
    sees torchvision's anchors: one square of side = stride at every point.
    With the default assigner the losses equal torchvision's.

    Labels are columns: 0 to num_classes - 1.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        assigner: Callable = TORCHVISION_RULE,
        assignment_priors: Callable | None = None,
        **kwargs,
    ):
        super().__init__(backbone, num_classes, **kwargs)
        # Where the padded image is no multiple of a stride, torchvision's points are spaced otherwise than its
        # rule's stride, which is the side of its anchors.
        strides = tuple(float(sizes[0]) for sizes in self.anchor_generator.sizes)
        self.use_assigner(assigner, assignment_priors, strides)

    @classmethod
    def from_torchvision(
        cls, model: FCOS, assigner: Callable = TORCHVISION_RULE, assignment_priors: Callable | None = None
    ) -> "AssignedFCOS":
        """A model of torchvision's, its modules shared, with another assigner."""
        detector = cls(
            model.backbone,
            model.head.classification_head.num_classes,
            assigner,
            assignment_priors,
            anchor_generator=model.anchor_generator,
            head=model.head,
            score_thresh=model.score_thresh,
            nms_thresh=model.nms_thresh,
            detections_per_img=model.detections_per_img,
            topk_candidates=model.topk_candidates,
        )
        detector.transform = model.transform
        return detector

    def decode(self, distances: Tensor, anchors: Tensor) -> Tensor:
        """Boxes `[..., P, 4]` in pixels of the network's input, from the head's numbers."""
        return self.box_coder.decode(distances, anchors)

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
