"""The front of a detector: what a picture is at its input, the priors that stand there, and the rule it came with."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.ssd import SSD

from labelkit.assigners import MaxIoU
from labelkit.audit.tiles import Tiles
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet
from labelkit.network_input import NetworkInput, Size, feature_sizes
from labelkit.priors import Priors

_KEPT = 1 << 22  # priors that are remembered, about 60 bytes each
_SIZES = 1 << 14  # sizes of pictures that are


@dataclass(frozen=True)
class Anchors:
    """One's own in place of a detector's. strides: of every level, None for the detector's. sizes: for every level the
    roots of the areas in pixels of the input, None for the detector's. ratios: height over width."""

    strides: Sequence[float] | None = None
    sizes: Sequence[Sequence[float]] | None = None
    ratios: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        numbers = [*(self.strides or ()), *self.ratios, *(side for level in self.sizes or () for side in level)]
        positive = all(0 < number < math.inf for number in numbers)
        if not numbers or not positive or self.sizes is not None and not all(self.sizes):
            raise ValueError(f"strides, sizes and ratios must be positive and finite, got {self}")


@dataclass(frozen=True)
class Front:
    """A detector as its assigner sees it, and what it would be with another setting.

    model: torchvision's RetinaNet, FCOS, Faster R-CNN (its proposal network) or SSD, labelkit's, or a subclass.
    enlarge: the picture that many times larger at the input. smaller: the anchors' sides divided by it. finer: the
    strides divided by it. All three are 1 for the detector as it is; only the first is known for an SSD.
    anchors: others than the model's own. tiles: how a picture is cut, each tile an input; None: the whole picture.
    """

    model: nn.Module
    enlarge: int = 1
    smaller: int = 1
    finer: int = 1
    anchors: Anchors | None = None
    tiles: Tiles | None = None
    _maps: dict[Size, tuple[Size, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _own_maps: dict[Size, tuple[Size, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _inputs: dict[Size, NetworkInput] = field(default_factory=dict, init=False, repr=False, compare=False)
    _priors: OrderedDict[Size, Priors] = field(default_factory=OrderedDict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.anchors is None:
            return
        if not self.can_change:
            raise ValueError(f"the boxes of a {type(self.model).__name__} hang on its input's size: leave anchors out")
        if not self.has_anchors and self.anchors.sizes is not None:
            raise ValueError(f"a {type(self.model).__name__} begins from points: strides are its only setting")
        levels = {len(self.strides), len(self.sizes)}
        if len(levels) > 1:
            raise ValueError(
                f"sizes must have one entry for each level, got {len(self.sizes)} for {len(self.strides)} strides"
            )

    def changed(self, *, enlarge: int = 1, smaller: int = 1, finer: int = 1, tiles: Tiles | None = None) -> Front:
        """The same detector with a larger input, smaller anchors, finer strides, pictures in tiles."""
        return replace(
            self,
            enlarge=self.enlarge * enlarge,
            smaller=self.smaller * smaller,
            finer=self.finer * finer,
            tiles=tiles or self.tiles,
        )

    def see(self, image_size: Size) -> tuple[NetworkInput, Priors]:
        """A picture (or tile) of (height, width) at the network's input, and the priors that stand on it."""
        seen = self.at_input(image_size)
        return seen, self.priors(seen)

    def at_input(self, image_size: Size) -> NetworkInput:
        """A picture (or tile) of (height, width) at the network's input."""
        if image_size not in self._inputs:
            if len(self._inputs) >= _SIZES:
                self._inputs.clear()
            own = self.anchors is not None and self.anchors.strides is not None
            seen = NetworkInput.of(
                self.model, image_size, enlarge=self.enlarge, finer=1 if own else self.finer, known=self._maps
            )
            if own:  # of a level ceil(side / stride) rows and columns
                maps = [tuple(-int(-side // stride) for side in seen.padded) for stride in self.strides]
                seen = replace(seen, feature_sizes=tuple((rows, columns) for rows, columns in maps))
            self._inputs[image_size] = seen
        return self._inputs[image_size]

    def priors(self, seen: NetworkInput) -> Priors:
        """Those of an input: they hang on its padded size alone."""
        if seen.padded not in self._priors:
            made = self._make(seen)
            while self._priors and sum(map(len, self._priors.values())) + len(made) > _KEPT:
                self._priors.popitem(last=False)
            self._priors[seen.padded] = made
        self._priors.move_to_end(seen.padded)
        return self._priors[seen.padded]

    def _make(self, seen: NetworkInput) -> Priors:
        if self.anchors is None and self.enlarge == self.smaller == self.finer == 1:
            return Priors.from_detector(self.model, seen.image_size, seen=seen)
        if not self.can_change:
            raise ValueError(
                f"the boxes of a {type(self.model).__name__} hang on its input's size: none can be changed"
            )
        strides: Sequence[float] = self.strides
        if self.anchors is None or self.anchors.strides is None:  # as wide as they are on this input
            as_it_is = NetworkInput.of(self.model, seen.image_size, known=self._own_maps)
            own = Priors.from_detector(self.model, seen.image_size, seen=as_it_is).known_strides()
            strides = [stride / self.finer for stride in own]
        return Priors.from_torchvision(self._generator(), seen.padded, seen.feature_sizes, strides)

    def _generator(self) -> AnchorGenerator:
        """Anchors of these sizes, at the place in their cells where the detector's own stand in theirs."""
        known = _generator_of(self.model)
        changed = AnchorGenerator(self.sizes, (self.ratios,) * len(self.sizes))
        first = known.cell_anchors[0][0]
        offset = (first[:2] + first[2:]) / 2 / self._model_strides[0]  # 0 at the corner, 0.5 in the middle
        changed.cell_anchors = [
            base + (offset * stride).repeat(2).to(base)
            for base, stride in zip(changed.cell_anchors, self.strides, strict=True)
        ]
        return changed

    @cached_property
    def _model_strides(self) -> tuple[float, ...]:
        """The model's own: an input of 1,024 px tells them, of which no level has a part of a cell."""
        model: Any = self.model
        maps = feature_sizes(model.backbone, torch.empty(1, 3, 1024, 1024, device="meta"))
        return tuple(1024 / rows for rows, _ in maps)

    @property
    def strides(self) -> list[float]:
        """Those of every level, in pixels of the input."""
        given = self.anchors.strides if self.anchors is not None else None
        return [stride / self.finer for stride in given or self._model_strides]

    @property
    def sizes(self) -> tuple[tuple[float, ...], ...]:
        """The anchors' sides on every level; of a detector of points the strides."""
        if not self.has_anchors and self.anchors is not None:
            return tuple((stride,) for stride in self.strides)
        given = self.anchors.sizes if self.anchors is not None else None
        sizes = _generator_of(self.model).sizes if given is None else given
        return tuple(tuple(side / self.smaller for side in level) for level in sizes)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Height over width of the anchors of one size: those of the first level stand for all."""
        if self.anchors is not None and self.anchors.sizes is not None:
            return tuple(self.anchors.ratios)
        return tuple(_generator_of(self.model).aspect_ratios[0])

    @property
    def can_change(self) -> bool:
        """Whether its anchors are of a torchvision AnchorGenerator with the same shapes on every level."""
        known = _generator_of(self.model)
        return isinstance(known, AnchorGenerator) and len(set(map(tuple, known.aspect_ratios))) == 1

    @property
    def has_anchors(self) -> bool:
        """Whether the network begins from boxes; FCOS begins from points, and IoU says nothing about these."""
        return not isinstance(self.model, FCOS)

    @property
    def anchor_sides(self) -> tuple[float, ...]:
        """The sides (roots of the areas) that its anchors have, in pixels of the input, in order; none of points."""
        if not self.has_anchors or not self.can_change:
            return ()
        return tuple(sorted({side for level in self.sizes for side in level}))

    @property
    def finest_stride(self) -> float:
        """That of the finest level."""
        return min(self.strides)

    @property
    def detections(self) -> int:
        """The most detections that the detector returns for an input."""
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
