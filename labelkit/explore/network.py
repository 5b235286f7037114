"""A detector that has seen the explorer's picture: its own priors, and what it predicts of each of them.

The objects are no part of what a network sees, so it is asked once, however often they are dragged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from labelkit.assigners import RFLA, Assigner, MaxIoU
from labelkit.assignment import Predictions
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet, SmallPyramid, receptive_field_view
from labelkit.explore.checks import LARGEST, MOST_PRIORS
from labelkit.explore.presets import laid_out
from labelkit.network_input import NetworkInput, size_of
from labelkit.priors import Priors
from labelkit.receptive_field import receptive_fields, resnet_stages
from labelkit.similarity import iou


@dataclass(frozen=True, eq=False)
class Network:
    """All in pixels of the network's input, on the CPU.

    seen: the picture there. priors: the detector's own, and how they are laid out in `levels`. predictions: of each, as
    a rule is told them in training. fields: the priors as RFLA sees them, None where nobody knows them.
    known: objects whose class is known, [K, 4], and their `labels`, [K].
    """

    seen: NetworkInput
    priors: Priors
    levels: list[dict[str, Any]]
    predictions: Predictions
    fields: Priors | None
    known: Float[Tensor, "K 4"]
    labels: Int[Tensor, "K"]

    @classmethod
    def of(cls, detector: Any, pixels: Tensor, boxes: Float[Tensor, "K 4"], labels: Int[Tensor, "K"]) -> Network:
        """Ask a detector for a picture, [3, H, W] uint8 or floats in 0..1.

        detector: torchvision's RetinaNet or FCOS, labelkit's, or a subclass. boxes, labels: objects of a known class,
        in pixels of the picture. A ValueError says why a picture cannot be shown, or which label is no class.
        """
        asked = _assigning(detector)
        seen = NetworkInput.of(asked, size_of(pixels))
        shown = f"at the network's input the picture has {seen.size[1]} x {seen.size[0]} px"
        if max(seen.size) > LARGEST:
            raise ValueError(f"{shown}, and the explorer shows at most {LARGEST} px a side: take a part of it")
        priors = Priors.from_detector(asked, seen.image_size, seen=seen)
        if len(priors) > MOST_PRIORS:
            raise ValueError(
                f"{shown} and {len(priors)} priors, and the explorer shows {MOST_PRIORS}: take a part of it"
            )
        device = next(asked.parameters()).device
        told = asked.predictions_of([F.to_dtype(pixels.as_subclass(Tensor), torch.float32, scale=True).to(device)])
        predictions = Predictions(told.boxes[0].cpu(), told.scores[0].cpu())
        _check_classes(labels, predictions.scores.shape[1])
        levels = laid_out(priors, _offsets(priors))
        return cls(seen, priors, levels, predictions, _fields(asked, priors), seen.at_input(boxes), labels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture."""
        return self.seen.size

    def seen_by(self, rule: Assigner) -> Priors:
        """The priors as a rule sees them: RFLA sees the receptive fields in their place."""
        if not isinstance(rule, RFLA):
            return self.priors
        if self.fields is None:
            raise ValueError(
                "rfla assigns receptive fields, and nobody knows those of this detector: take another rule"
            )
        return self.fields

    def told(self, pictures: int | None) -> Predictions:
        """The predictions, so many times in a batch; None: without a batch."""
        if pictures is None:
            return self.predictions
        boxes, scores = self.predictions.boxes, self.predictions.scores
        return Predictions(boxes.expand(pictures, -1, -1), scores.expand(pictures, -1, -1))

    def classes_of(self, boxes: Float[Tensor, "G 4"]) -> Int[Tensor, "G"]:
        """The class of the known object that each box overlaps most; where it overlaps none, what the network sees."""
        classes = torch.zeros(len(boxes), dtype=torch.int64)
        if self.predictions.scores.shape[1] == 1:
            return classes
        for index, box in enumerate(boxes):
            overlap = iou(box, self.known)
            named = len(overlap) > 0 and bool(overlap.max() > 0)
            classes[index] = self.labels[overlap.argmax()] if named else self._highest(box)
        return classes

    def _highest(self, box: Float[Tensor, "4"]) -> Int[Tensor, ""]:
        """The class of the highest score of all priors whose centre is in the box, or of the one that is nearest."""
        centers = self.priors.centers
        inside = ((centers >= box[:2]) & (centers <= box[2:])).all(dim=1).nonzero().squeeze(1)
        if not len(inside):
            inside = (centers - (box[:2] + box[2:]) / 2).square().sum(dim=1).argmin()[None]
        return self.predictions.scores[inside].amax(dim=0).argmax()


def _assigning(detector: Any) -> AssignedRetinaNet | AssignedFCOS:
    """The detector as one of labelkit's, its modules shared."""
    for kind in (AssignedRetinaNet, AssignedFCOS):
        if isinstance(detector, kind):
            return detector
        if isinstance(detector, kind.torchvision_class):
            return kind.from_torchvision(detector, MaxIoU())
    raise TypeError(
        f"detector must be a RetinaNet or an FCOS, torchvision's or labelkit's, got a {type(detector).__name__}"
    )


def _check_classes(labels: Tensor, classes: int) -> None:
    for index in ((labels < 0) | (labels >= classes)).nonzero()[:1, 0].tolist():
        raise ValueError(f"labels[{index}] must be one of the detector's {classes} classes, got {int(labels[index])}")


def _offsets(priors: Priors) -> list[float]:
    """Where in its cell each level's priors stand, in strides."""
    grid, offsets = priors.known_grid(), []
    for level, stride in enumerate(priors.known_strides()):
        own = grid.level == level
        places = torch.cat((grid.x[own], grid.y[own])) / stride
        if float(places.max() - places.min()) > 1e-3:
            raise ValueError(f"a cell's anchors must stand around one place to be drawn, those of level {level} do not")
        offsets.append(float(places[0]))
    return offsets


def _fields(detector: AssignedRetinaNet | AssignedFCOS, priors: Priors) -> Priors | None:
    """Receptive fields in the place of the priors: those that the detector's RFLA has, or the backbone's."""
    if isinstance(detector.assigner, RFLA) and detector.assignment_priors is not None:
        return detector.assignment_priors(priors)
    if isinstance(detector.backbone, SmallPyramid):
        fields = receptive_fields(SmallPyramid.layers)
    else:
        try:
            fields = receptive_fields(resnet_stages(detector.backbone.body))[1:]
        except AttributeError:  # no ResNet
            return None
    return receptive_field_view(fields)(priors) if len(fields) == len(priors.level_sizes) else None
