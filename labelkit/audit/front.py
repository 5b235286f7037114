"""The front of a detector: what a picture is at its input, the priors that stand there, and the rule it came with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.ssd import SSD

from labelkit.assigners import MaxIoU
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet
from labelkit.network_input import NetworkInput, Size
from labelkit.priors import Priors

_KEPT = 8  # sizes of pictures whose priors are remembered


@dataclass(frozen=True)
class Front:
    """A detector as its assigner sees it, and what it would be with another setting.

    model: torchvision's RetinaNet, FCOS, Faster R-CNN (its proposal network) or SSD, labelkit's, or a subclass.
    enlarge: the picture that many times larger at the input. smaller: the anchors' sides divided by it. finer: the
    strides divided by it. All three are 1 for the detector as it is; only the first is known for an SSD.
    """

    model: nn.Module
    enlarge: int = 1
    smaller: int = 1
    finer: int = 1
    _seen: OrderedDict[Size, tuple[NetworkInput, Priors]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    def changed(self, *, enlarge: int = 1, smaller: int = 1, finer: int = 1) -> Front:
        """The same detector with a larger input, smaller anchors, finer strides."""
        return replace(self, enlarge=self.enlarge * enlarge, smaller=self.smaller * smaller, finer=self.finer * finer)

    def see(self, image_size: Size) -> tuple[NetworkInput, Priors]:
        """A picture of (height, width) at the network's input, and the priors that stand on it."""
        if image_size not in self._seen:
            if len(self._seen) >= _KEPT:
                self._seen.popitem(last=False)
            self._seen[image_size] = self._look(image_size)
        self._seen.move_to_end(image_size)
        return self._seen[image_size]

    def _look(self, image_size: Size) -> tuple[NetworkInput, Priors]:
        seen = NetworkInput.of(self.model, image_size, enlarge=self.enlarge, finer=self.finer)
        if self.enlarge == self.smaller == self.finer == 1:
            return seen, Priors.from_detector(self.model, image_size)
        if not self.can_change:
            raise ValueError(
                f"the boxes of a {type(self.model).__name__} hang on its input's size: none can be changed"
            )
        as_it_is = Priors.from_detector(self.model, image_size)
        strides = [stride / self.finer for stride in as_it_is.known_strides()]
        return seen, Priors.from_torchvision(self._generator(), seen.padded, seen.feature_sizes, strides)

    def _generator(self) -> AnchorGenerator:
        """Anchors of the changed sizes, where they stood in their cells."""
        known = _generator_of(self.model)
        sizes = tuple(tuple(size / self.smaller for size in level) for level in known.sizes)
        changed = AnchorGenerator(sizes, known.aspect_ratios)
        middles = [(old[0, :2] + old[0, 2:]) / 2 / self.finer for old in known.cell_anchors]
        moved = zip(changed.cell_anchors, middles, strict=True)
        changed.cell_anchors = [base + middle.repeat(2).to(base) for base, middle in moved]
        return changed

    @property
    def can_change(self) -> bool:
        return isinstance(_generator_of(self.model), AnchorGenerator)

    @property
    def has_anchors(self) -> bool:
        """Whether the network begins from boxes; FCOS begins from points, and IoU says nothing about these."""
        return not isinstance(self.model, FCOS)

    @property
    def smallest_anchor(self) -> float:
        """The smallest side (root of the area) that an anchor has, in pixels of the input."""
        return min(min(level) for level in _generator_of(self.model).sizes) / self.smaller

    @property
    def finest_stride(self) -> float:
        """That of the finest level, for a picture of any size: an input of 1,024 px tells it."""
        seen = NetworkInput.of(self.model, (1024, 1024), finer=self.finer)
        return seen.padded[0] / seen.feature_sizes[0][0]

    @property
    def detections(self) -> int:
        """The most detections that the detector returns for a picture."""
        model: Any = self.model
        return int(getattr(model, "roi_heads", model).detections_per_img)

    def own_rule(self) -> Callable:
        """The assigner that labels as the detector itself does."""
        model: Any = self.model
        if isinstance(model, AssignedRetinaNet | AssignedFCOS):
            return model.assigner
        if isinstance(model, RetinaNet):
            return AssignedRetinaNet.from_torchvision(model).assigner
        if isinstance(model, FCOS):
            return AssignedFCOS.from_torchvision(model).assigner
        if isinstance(model, FasterRCNN):
            matcher = model.rpn.proposal_matcher
            return MaxIoU(matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches)
        if isinstance(model, SSD):  # every object keeps its best box, the last object where several want one
            threshold = model.proposal_matcher.high_threshold
            return MaxIoU(threshold, threshold, low_quality_owner="gt", low_quality_ties="first")
        raise TypeError(f"model must be a torchvision RetinaNet, FCOS, FasterRCNN or SSD, got a {type(model).__name__}")


def _generator_of(model: Any) -> Any:
    known = getattr(model, "rpn", model).anchor_generator
    return getattr(known, "generator", known)
