"""What the two detectors share: priors of the image's size, predictions for the assigner, and its answer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from labelkit.assigners import ASSIGNERS
from labelkit.assigners.ground_truths import FLAGS
from labelkit.assignment import Assignment, Predictions
from labelkit.detectors.anchors import CachedAnchors
from labelkit.detectors.door import check_targets
from labelkit.detectors.fields import check_fields
from labelkit.detectors.loss_rule import LossRule
from labelkit.detectors.matched import Matched, sent_whole
from labelkit.detectors.second_head import SECOND, TwoHeads
from labelkit.detectors.sharing import combined, share
from labelkit.modes import evaluating
from labelkit.place import check_place
from labelkit.priors import Priors

D = TypeVar("D", bound="Assigning")
Targets = list[dict[str, Tensor]]
Outputs = dict[str, Tensor]  # of a head, by name
ASKED_OF_TARGETS = ("boxes", "labels", *FLAGS)
OF_FIRST = {"assigner", "loss_rule", "assignment_priors", "assign_on", "last_assignment", "_converted"}
OF_SECOND = {"second_assigner", "second_loss_rule", "last_second_assignment"}
OWN_ATTRIBUTES = OF_FIRST | OF_SECOND


class Assigning(nn.Module, ABC):
    """Mixed into a detector of torchvision's; asks `assigner` where torchvision asks its matcher.

    What the method's paper says about the loss is in `loss_rule`, the answer to the last training images in
    `last_assignment`. The targets of a training step may have boxes and labels of any dtype of numbers, and regions
    in which nothing may be learned (`iscrowd` or `ignore`, see `labelkit.assigners`); a box or a label that can't be
    learned is a ValueError that names the target, the index and the value.

    A second head that answers without suppression, trained by a second assigner: `use_second_head`.

    `assign_on="cpu"`: a rule that never asks the network works on the CPU, on targets that stay there, while a GPU
    computes the network; labels and losses are the same, and nothing waits for the GPU. Then `last_assignment` is on
    the CPU, and targets on another device are a ValueError.

    `torch.compile` works around a training step: assignment and losses, whose shapes follow the number of objects, run
    outside of its graphs.
    What is exported is the plain model, `to_torchvision()`; `torch.jit.script(detector)` takes it by itself.
    """

    torchvision_class: ClassVar[type[nn.Module]]
    rule_arguments: ClassVar[tuple[str, ...]]  # those of torchvision's that an assigner stands for
    assign_on: str | None = None
    second_assigner: Callable | None = None
    second_loss_rule: LossRule = LossRule()
    last_second_assignment: Assignment | None = None
    head: Any
    transform: Any
    backbone: Any
    box_coder: Any
    nms_thresh: float
    detections_per_img: int
    topk_candidates: int
    anchor_generator: Any  # torchvision's until `use_assigner`, then CachedAnchors around it

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        assigner: Callable | None = None,
        assignment_priors: Callable[[Priors], Priors] | None = None,
        assign_on: str | None = None,
        **kwargs: Any,
    ):
        self.check_arguments(assigner, kwargs)
        super().__init__(backbone, num_classes, **kwargs)
        self.use_assigner(assigner, assignment_priors, assign_on)

    @classmethod
    def from_torchvision(
        cls: type[D],
        model: nn.Module,
        assigner: Callable | None = None,
        assignment_priors: Callable[[Priors], Priors] | None = None,
        assign_on: str | None = None,
    ) -> D:
        """A model of torchvision's, its modules shared, with another assigner; None derives it from the model.

        The model is left as it is, and what it is the detector is: its mode, its thresholds, its attributes and,
        of a subclass, its methods. No constructor runs. A subclass whose own `compute_loss` would be lost is refused.
        """
        check_assigner(assigner)
        if not isinstance(model, cls.torchvision_class):
            raise TypeError(f"model must be a torchvision {cls.torchvision_class.__name__}, got {_what(model)}")
        detector = share(model, combined(cls, cls.torchvision_class, type(model)))
        detector.use_assigner(assigner, assignment_priors, assign_on)
        return detector

    def to_torchvision(self) -> nn.Module:
        """The plain model, its modules shared: of torchvision's class, or of its subclass that this was made from.

        What can be exported, and given to code that knows torchvision only. Of two heads it has the one that answers.
        """
        kinds = [kind for kind in type(self).__mro__ if issubclass(kind, self.torchvision_class)]
        model = share(self, next(kind for kind in kinds if not issubclass(kind, Assigning)))
        for name in OWN_ATTRIBUTES & vars(model).keys():
            delattr(model, name)
        model.anchor_generator = self.anchor_generator.generator
        if isinstance(self.head, TwoHeads):
            model.head = self.head.answering
        return model

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` asks for in place of this detector: a script has no use for an assigner."""
        return self.to_torchvision()

    @classmethod
    def check_arguments(cls, assigner: Any, options: Mapping[str, Any], *others: str) -> None:
        """TypeError for what is no assigner, for `options` of torchvision's that say who is positive beside it, and
        for those that neither torchvision's class nor its transform, which swallows everything, nor `others` know.
        """
        check_assigner(assigner)
        both = [name for name in cls.rule_arguments if options.get(name) is not None]
        if assigner is not None and both:
            raise TypeError(f"assigner and {both[0]} both say who is positive: give one of them")
        known = {*signature(cls.torchvision_class).parameters, *signature(GeneralizedRCNNTransform).parameters}
        for name in options:
            if name not in known | {"_skip_resize", *others}:
                raise TypeError(f"{cls.__name__} got an unexpected keyword argument {name!r}")

    @abstractmethod
    def own_rule(self) -> Callable:
        """The assigner that labels as torchvision's own model with these arguments does."""

    @abstractmethod
    def decode(self, numbers: Tensor, anchors: Tensor) -> Tensor:
        """Boxes `[..., P, 4]` in pixels of the network's input, from the head's numbers."""

    def nominal_strides(self) -> tuple[float, ...] | None:
        """Those that torchvision's rule knows, where they need not be the spacing of its anchors."""
        return None

    def use_assigner(
        self,
        assigner: Callable | None,
        assignment_priors: Callable[[Priors], Priors] | None = None,
        assign_on: str | None = None,
    ) -> None:
        """From now on this assigner, or for None torchvision's own rule.

        `assignment_priors` turns the detector's priors into those the assigner sees: as many, in their order. RFLA
        without it is a ValueError. `assign_on`: None for where the network computes, or "cpu", which is a ValueError
        for a rule, or for that of a second head, that needs predictions.
        """
        check_assigner(assigner)
        check_fields(assigner, assignment_priors)
        own = self.own_rule() if assigner is None else assigner
        check_place(assign_on, assigner=own, second_assigner=self.second_assigner)
        self.assigner, self.assign_on = own, assign_on
        self.loss_rule = LossRule.of(self.assigner)
        self.assignment_priors = assignment_priors
        self.last_assignment: Assignment | None = None
        known = self.anchor_generator
        generator = known.generator if isinstance(known, CachedAnchors) else known
        self.anchor_generator = CachedAnchors(generator, self.nominal_strides(), assign_on)
        self._converted: tuple[Priors, Priors] | None = None

    def use_second_head(self, assigner: Callable) -> None:
        """From now on a second head answers: a copy of the present one, on detached features, taught by `assigner`.

        The backbone learns from the first head alone. In training the losses of the second stand beside those of the
        first, their names with "second_" in front; their plain sum weighs both alike, see also
        `second_head.progressive_weights`. `nms_thresh` becomes 1.0, which is no suppression in torchvision's
        detectors: it is for boxes that overlap by more than it. The first head answers again where
        `detector.head.answers` is set to "first". A third branch learns in both heads what `loss_rule` says now.
        Where there are two heads already, only the assigner changes.
        """
        if assigner is None:
            raise TypeError("assigner must be an assigner, got None: torchvision has no rule for a second head")
        check_assigner(assigner)
        check_place(self.assign_on, second_assigner=assigner)
        check_fields(assigner, None, "another rule for the second head, whose priors are the detector's")
        if not isinstance(self.head, TwoHeads):
            self.head = TwoHeads(self.head)
        self.second_assigner = assigner
        self.second_loss_rule = LossRule.of(assigner).with_branch_of(self.loss_rule)
        self.last_second_assignment = None
        self.nms_thresh = 1.0

    def forward(self, images: list[Tensor], targets: list[dict[str, Any]] | None = None) -> Any:
        """torchvision's: the losses in training, the detections otherwise. What targets may be is said above."""
        if self.training and targets is not None:
            classes = self.head.classification_head.num_classes
            targets = check_targets(targets, len(images), classes, self.assign_on)
        return super().forward(images, targets)

    @torch.compiler.disable
    def compute_loss(
        self, targets: Targets, head_outputs: Outputs, anchors: list[Tensor], *_: Any
    ) -> dict[str, Tensor]:
        """The losses of the head, and those of the second under their own names, in float32."""
        with torch.autocast(anchors[0].device.type, enabled=False):
            outputs = {name: output.float() for name, output in head_outputs.items()}
            first = {name: output for name, output in outputs.items() if not name.startswith(SECOND)}
            losses = self._losses_of(targets, first, anchors[0], self.assign(targets, first), self.loss_rule)
            if self.second_assigner is not None:
                second = {name.removeprefix(SECOND): outputs[name] for name in outputs.keys() - first.keys()}
                assignment = self._ask(
                    self.second_assigner, self.anchor_generator.priors, targets, second, self.second_loss_rule
                )
                self.last_second_assignment = assignment
                of_second = self._losses_of(targets, second, anchors[0], assignment, self.second_loss_rule)
                losses |= {SECOND + name: loss for name, loss in of_second.items()}
            return losses

    def _losses_of(
        self, targets: Targets, outputs: Outputs, anchors: Tensor, assignment: Assignment, rule: LossRule
    ) -> dict[str, Tensor]:
        """The losses of one head. Who the positives are is found out where the assignment is: on the CPU no device is
        waited for to say how many."""
        matched = Matched(assignment, targets).to(anchors.device)
        return self._head_losses(outputs, anchors, sent_whole(assignment, anchors.device), matched, rule)

    @abstractmethod
    def _head_losses(
        self, outputs: Outputs, anchors: Tensor, assignment: Assignment, matched: Matched, rule: LossRule
    ) -> dict[str, Tensor]:
        """The losses of one head on its assignment and its positives, all of it where the outputs are."""

    @torch.no_grad()
    def predictions_of(self, images: list[Tensor]) -> Predictions:
        """What the network says of every prior of these images, as an assigner is told: boxes in pixels of its input.

        In evaluation mode, without a target; modes are left as they were. Of two heads the one that answers is asked.
        """
        with evaluating(self):
            batch, _ = self.transform(images)
            features = self.backbone(batch.tensors)
            maps = [features] if isinstance(features, Tensor) else list(features.values())
            self.anchor_generator(batch, maps)
            outputs = {name: output.float() for name, output in self.head(maps).items()}
        return self._predictions(outputs, self.loss_rule)

    @torch.compiler.disable
    def assign(self, targets: Targets, head_outputs: Outputs) -> Assignment:
        """The batch's assignment in float32 and without gradient; also kept as `last_assignment`."""
        # With assign_on="cpu" this is the moment for it: the kernels of backbone and head were launched and run by
        # themselves, a launch waits for nothing, so no thread is needed. Before the backbone the GPU would have nothing
        # to do meanwhile. What lasts longer than the rest of the queue is not hidden, as with a very small network.
        priors = self._priors_for_assigner()
        self.last_assignment = self._ask(self.assigner, priors, targets, head_outputs, self.loss_rule)
        return self.last_assignment

    @torch.no_grad()
    def _ask(
        self, assigner: Callable, priors: Priors, targets: Targets, outputs: Outputs, rule: LossRule
    ) -> Assignment:
        predictions = None
        if getattr(assigner, "needs_predictions", True):
            predictions = self._predictions(outputs, rule)
        asked = [{key: target[key] for key in ASKED_OF_TARGETS if key in target} for target in targets]
        return assigner(priors, asked, predictions)

    def _predictions(self, outputs: Outputs, rule: LossRule) -> Predictions:
        boxes = self.decode(outputs["bbox_regression"], self.anchor_generator.priors.boxes)
        return Predictions(boxes=boxes, scores=self._scores(outputs, rule))

    def _scores(self, outputs: Outputs, rule: LossRule) -> Tensor:
        """The class probabilities `[B, P, C]` that an assigner sees."""
        return outputs["cls_logits"].sigmoid()

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


def check_assigner(assigner: Any) -> None:
    """TypeError for a class, a name or anything else that can't be asked; None stands for torchvision's own rule."""
    if isinstance(assigner, type):
        raise TypeError(f"assigner must be an assigner, got the class {assigner.__name__}: call it with its arguments")
    if assigner is not None and not callable(assigner):
        known = f": take labelkit.assigners.ASSIGNERS[{assigner!r}](...)" if assigner in [*ASSIGNERS] else ""
        raise TypeError(f"assigner must be an assigner, got {assigner!r}{known}")


def _what(model: Any) -> str:
    return f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
