"""What the two detectors share: priors of the image's size, predictions for the assigner, and its answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from labelkit.assignment import Assignment, Predictions
from labelkit.detectors.loss_rule import LossRule
from labelkit.priors import Priors

KEPT_SIZES = 16


class CachedAnchors(AnchorGenerator):
    """An anchor generator of torchvision's that draws in float32 and remembers.

    torchvision draws its anchors in the dtype of the feature maps: under autocast a corner beyond 256 px is then
    off by up to a pixel and more. Here they are float32 always, computed once an image size. `priors` are those of
    the last call; the `KEPT_SIZES` latest sizes are kept. `strides`: the nominal ones, see `Priors.from_torchvision`.
    """

    def __init__(self, generator: AnchorGenerator, strides: tuple[float, ...] | None = None):
        super().__init__(generator.sizes, generator.aspect_ratios)
        self.generator = generator
        self.strides = strides
        self.priors: Priors | None = None
        self._known: dict[tuple, Priors] = {}

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        image_size = tuple(image_list.tensors.shape[-2:])
        feature_sizes = tuple(tuple(feature.shape[-2:]) for feature in feature_maps)
        key = (image_size, feature_sizes, feature_maps[0].device)
        if key not in self._known:
            if len(self._known) >= KEPT_SIZES:
                self._known.pop(next(iter(self._known)))
            self._known[key] = Priors.from_torchvision(
                self.generator, image_size, feature_sizes, self.strides, feature_maps[0].device
            )
        self.priors = self._known[key]
        return [self.priors.boxes] * len(image_list.image_sizes)


class Assigning:
    """Mixed into a detector of torchvision's; asks `assigner` where torchvision asks its matcher.

    What the method's paper says about the loss is in `loss_rule`.
    """

    def use_assigner(
        self,
        assigner: Callable,
        assignment_priors: Callable[[Priors], Priors] | None,
        strides: tuple[float, ...] | None = None,
    ) -> None:
        """`assignment_priors` turns the detector's priors into those the assigner sees: as many, in their order."""
        self.assigner = assigner
        self.loss_rule = LossRule.of(assigner)
        self.assignment_priors = assignment_priors
        self.last_assignment: Assignment | None = None
        self.anchor_generator = CachedAnchors(self.anchor_generator, strides)
        self._converted: tuple[Priors, Priors] | None = None

    def assign(self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor]) -> Assignment:
        """The batch's assignment in float32 and without gradient; also kept as `last_assignment`."""
        priors = self._priors_for_assigner()
        with torch.no_grad():
            predictions = None
            if getattr(self.assigner, "needs_predictions", True):
                boxes = self.decode(head_outputs["bbox_regression"], self.anchor_generator.priors.boxes)
                predictions = Predictions(boxes=boxes, scores=head_outputs["cls_logits"].sigmoid())
            plain = [{key: target[key].as_subclass(Tensor) for key in ("boxes", "labels")} for target in targets]
            self.last_assignment = self.assigner(priors, plain, predictions)
        return self.last_assignment

    def _priors_for_assigner(self) -> Priors:
        priors = self.anchor_generator.priors
        if self.assignment_priors is None:
            return priors
        if self._converted is None or self._converted[0] is not priors:
            converted = self.assignment_priors(priors)
            if len(converted) != len(priors):
                raise ValueError(f"assignment_priors must return {len(priors)} priors, got {len(converted)}")
            self._converted = priors, converted
        return self._converted[1]


def receptive_field_view(fields: Sequence[float], fraction: float = 0.5) -> Callable[[Priors], Priors]:
    """For `assignment_priors`: squares of side fraction * field where the detector's priors stand, a field a level.

    What `RFLA` assigns (RFLA, section 3.1); the detector has one prior a cell. See `labelkit.receptive_field`.
    """

    def view(priors: Priors) -> Priors:
        sides = priors.boxes.new_tensor([fraction * field for field in fields])
        half = sides[priors.levels][:, None] / 2
        boxes = torch.cat((priors.centers - half, priors.centers + half), dim=1)
        grid = priors.grid
        if grid is not None:
            grid = replace(grid, width=sides[grid.level], height=sides[grid.level])
        return replace(priors, boxes=boxes, grid=grid)

    return view


class Matched:
    """The positives of a batch, flat: their image, their prior, their ground truth's box and label, their weight."""

    def __init__(self, assignment: Assignment, targets: list[dict[str, Tensor]], box_weights: Tensor):
        counts = [len(target["labels"]) for target in targets]
        starts = torch.tensor([0, *counts[:-1]], device=assignment.gt.device).cumsum(0)
        self.image, self.prior = assignment.positive.nonzero(as_tuple=True)
        index = starts[self.image] + assignment.gt[self.image, self.prior]
        self.boxes = torch.cat([target["boxes"] for target in targets])[index]
        self.labels = torch.cat([target["labels"] for target in targets])[index]
        self.weight = box_weights[self.image, self.prior]


def class_losses(rule: LossRule, logits: Tensor, assignment: Assignment, matched: Matched, weights: Tensor) -> Tensor:
    """`[B, P, C]`, weighed: the score target in the column of a positive's class, 0 elsewhere; ignored priors out."""
    targets = torch.zeros_like(logits)
    score = assignment.score_target[matched.image, matched.prior]
    targets[matched.image, matched.prior, matched.labels] = score.to(logits.dtype)
    losses = rule.class_loss(logits, targets) * ~assignment.ignored[..., None]
    return rule.weigh(losses, weights[..., None])
