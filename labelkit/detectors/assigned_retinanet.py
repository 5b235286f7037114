"""torchvision's RetinaNet with any assigner."""

from typing import Any

from torch import Tensor
from torch.nn.functional import l1_loss, smooth_l1_loss
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import Matcher
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from labelkit.assigners import MaxIoU
from labelkit.assignment import Assignment
from labelkit.detectors.assigning import Assigning
from labelkit.detectors.loss_rule import LossRule
from labelkit.detectors.matched import Matched, class_losses, divisor

DELTA_LOSSES = {"l1": l1_loss, "smooth_l1": smooth_l1_loss}
BOX_LOSSES = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}


class AssignedRetinaNet(Assigning, RetinaNet):
    """torchvision's RetinaNet: its anchors, head, transforms and post-processing, and `assigner` for its matcher.

    Losses are torchvision's: focal over all priors that are not ignored, the head's box loss over the positives,
    both divided by the positives of each image (at least 1) and averaged over the images. Soft methods change
    them by what the `Assignment` says: `score_target` in the class column, `weight` on both; and by what their paper
    says of the loss, see `LossRule`: a loss that is divided by a sum of targets or of weights is divided by that of
    the batch.
    Without an assigner the rule is that of the model's `proposal_matcher`, and the losses equal torchvision's; an
    assigner and `fg_iou_thresh`, `bg_iou_thresh` or `proposal_matcher` are a TypeError.

    Labels are columns: 0 to num_classes - 1.
    """

    torchvision_class = RetinaNet
    rule_arguments = ("fg_iou_thresh", "bg_iou_thresh", "proposal_matcher")

    proposal_matcher: Any

    def own_rule(self) -> MaxIoU:
        """torchvision's matcher as an assigner; a matcher of another class has a rule that can't be read off."""
        matcher = self.proposal_matcher
        if type(matcher) is not Matcher:
            raise ValueError(
                f"assigner must be given: proposal_matcher is a {type(matcher).__name__}, not torchvision's"
            )
        return MaxIoU(
            fg_thresh=matcher.high_threshold,
            bg_thresh=matcher.low_threshold,
            allow_low_quality_matches=matcher.allow_low_quality_matches,
            low_quality_owner="argmax",
            low_quality_ties="all",
        )

    def decode(self, numbers: Tensor, anchors: Tensor) -> Tensor:
        """Boxes `[..., P, 4]` in pixels of the network's input, from the head's numbers."""
        anchors = anchors.expand_as(numbers).reshape(-1, 4)
        return self.box_coder.decode_single(numbers.reshape(-1, 4), anchors).reshape(numbers.shape)

    def _head_losses(
        self, outputs: dict[str, Tensor], anchors: Tensor, assignment: Assignment, matched: Matched, rule: LossRule
    ) -> dict[str, Tensor]:
        class_weights, box_weights = rule.weights(assignment)
        deltas, own = matched.of(outputs["bbox_regression"]), anchors[matched.prior]
        boxes, logits = self.decode(deltas.detach(), own), outputs["cls_logits"]
        matched.judge(rule, assignment, box_weights, boxes, matched.of(logits))
        positives = assignment.positive.sum(dim=1).clamp(min=1)
        of_classes = class_losses(rule, logits, assignment, matched, class_weights)
        of_boxes = rule.weigh(self._box_losses(deltas, own, matched.boxes), matched.weight)
        if rule.class_divisor == "targets":
            classification = of_classes.sum() / divisor(matched.target)
        else:
            classification = (of_classes.sum(dim=(1, 2)) / positives).mean()
        if rule.box_weight is not None:
            regression = of_boxes.sum() / divisor(matched.weight)
        else:
            regression = (of_boxes / positives[matched.image]).sum() / len(positives)
        return {"classification": classification, "bbox_regression": regression}

    def _box_losses(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        kind = self.head.regression_head._loss_type
        if kind in DELTA_LOSSES:
            expected = self.box_coder.encode_single(boxes, anchors)
            return DELTA_LOSSES[kind](deltas, expected, reduction="none").sum(dim=1)
        return BOX_LOSSES[kind](self.decode(deltas, anchors), boxes, reduction="none")
