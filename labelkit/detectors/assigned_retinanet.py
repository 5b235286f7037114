"""torchvision's RetinaNet with any assigner."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, smooth_l1_loss
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import Matcher
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from labelkit.assigners import MaxIoU
from labelkit.detectors.assigning import Assigning, Matched, class_losses
from labelkit.priors import Priors

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
    them by what the `Assignment` says: `score_target` in the class column, `weight` on both.
    Without an assigner the rule is that of the model's `proposal_matcher`, and the losses equal torchvision's; an
    assigner and `fg_iou_thresh`, `bg_iou_thresh` or `proposal_matcher` are a TypeError.

    Labels are columns: 0 to num_classes - 1.
    """

    torchvision_class = RetinaNet
    rule_arguments = ("fg_iou_thresh", "bg_iou_thresh", "proposal_matcher")

    proposal_matcher: Any

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

    @torch.compiler.disable
    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        with torch.autocast(anchors[0].device.type, enabled=False):
            outputs = {name: output.float() for name, output in head_outputs.items()}
            assignment = self.assign(targets, outputs)
            class_weights, box_weights = self.loss_rule.weights(assignment)
            matched = Matched(assignment, targets, box_weights)
            positives = assignment.positive.sum(dim=1).clamp(min=1)
            classification = class_losses(
                self.loss_rule, outputs["cls_logits"], assignment, matched, class_weights
            ).sum(dim=(1, 2))
            boxes = self._box_losses(outputs["bbox_regression"], matched, anchors[0])
            return {
                "classification": (classification / positives).mean(),
                "bbox_regression": (boxes / positives[matched.image]).sum() / len(targets),
            }

    def _box_losses(self, deltas: Tensor, matched: Matched, anchors: Tensor) -> Tensor:
        kind = self.head.regression_head._loss_type
        deltas, anchors = deltas[matched.image, matched.prior], anchors[matched.prior]
        if kind in DELTA_LOSSES:
            expected = self.box_coder.encode_single(matched.boxes, anchors)
            losses = DELTA_LOSSES[kind](deltas, expected, reduction="none").sum(dim=1)
        else:
            losses = BOX_LOSSES[kind](self.decode(deltas, anchors), matched.boxes, reduction="none")
        return self.loss_rule.weigh(losses, matched.weight)
