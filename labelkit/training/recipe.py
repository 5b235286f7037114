"""What a training run is made of, as plain values: which rule, which detector, which data, how long.

The values stand here without torch, so that the command line can show them at once; what they build is in `rules`,
`building` and `sets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from labelkit.counts import at_least_one
from labelkit.place import PLACES, check_place
from labelkit.tiling import Tiling

if TYPE_CHECKING:
    from labelkit.datasets import BoxDataset
    from labelkit.detectors import AssignedFCOS, AssignedRetinaNet

DETECTORS = ("retinanet", "fcos")
COURSE_DATA = ("digits", "trees", "sky")
BOX_LOSSES = ("l1", "smooth_l1", "giou", "diou", "ciou")
LOSSES = (None, "focal", "qfl", "vfl", "mal", "ia_bce")
QUALITIES = (None, "centerness", "iou", "objectness", "none")
SECOND_WEIGHTS = ("equal", "progressive")
ARGUMENTS_OF = {"assigner": "assigner_args", "second_assigner": "second_args", "warmup_assigner": "warmup_args"}
FULL_STEPS, FAST_STEPS = 750, 200

_ONE_OF: dict[str, tuple[str | None, ...]] = {
    "detector": DETECTORS,
    "box_loss": BOX_LOSSES,
    "loss": LOSSES,
    "quality": QUALITIES,
    "second_weights": SECOND_WEIGHTS,
    "assign_on": PLACES,
}
_AT_LEAST_ONE = ("steps", "batch_size", "checkpoint_every", "images", "detections", "topk_candidates", "min_size")
_NOT_NEGATIVE = ("weight_decay", "clip", "box_weight", "workers", "evaluate_every")
_POSITIVE = ("lr", "anchor_scale")
_HIGHEST_SEED = 2**32 - 1  # what every generator of a run takes
_TYPES: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "dict": dict, "None": type(None)}


def of_course(data: str) -> bool:
    """Whether data of this name are the course's own."""
    return data.partition(":")[0] in COURSE_DATA


@dataclass(frozen=True)
class Recipe:
    """A run's whole configuration; with the library's version it determines the result.

    Attributes:
        assigner, assigner_args: registry name, or package.module:Name of one's own, and arguments; a similarity is a
            name of either kind, or a dict with its constants: {"name": "nwd", "constant": 12.8}. Arguments left out are
            the course's where they belong (`rules.fill_in`), or the rule's defaults; `as_dict` writes them all.
        detector: "retinanet" or "fcos". backbone, box_loss, anchor_scale, min_size: see `labelkit.detectors`.
        weights: "imagenet", "coco", or a file: see `labelkit.training.weights`.
        loss: the classification loss, with the target and the divisors that go with it, of all rules of the run: see
            `labelkit.detectors.LOSSES`. None: what each rule's paper says.
        quality: for fcos, what the third branch learns, "none" for a head without it, see
            `labelkit.detectors.LossRule`. None: what the loss says.
        bins: for fcos, a distribution over so many bins for every side, with its loss. None: one number a side.
        plain_loss: the detector's own loss on the method's labels and weights, without what the method's paper says
            of the loss beside them.
        second_assigner, second_args: the rule of a second head, which reads detached features and answers in place of
            the first, without suppression. second_weights: of the two heads' losses, "equal", or "progressive" from
            the first to the second (`labelkit.detectors.progressive_weights`, a step for an epoch).
        warmup_assigner, warmup_args, warmup_share: the rule of the (first) head for that share of the steps; TOOD's
            code begins with "atss" for a third.
        assign_on: "cpu" for rules that never ask the network: they work there, on targets that stay there, while a GPU
            computes the network; the run is the same. None: they work where the network is.
        nms_thresh: detections that overlap a better one of their class by more are suppressed; 1.0 suppresses none.
            None: the detector's, or 1.0 for a second head and for one-to-one rules (poto, hungarian).
        detections, topk_candidates: how many detections an image may get, and how many candidates of a level NMS
            sees. None: enough for the image with the most objects (`labelkit.training.ceiling`).
        data: "digits", "trees" or "trees:K" (fold K of 3), "sky", or a COCO-format folder: `annotations.json` and
            its images, or `train` and `val` folders of that form. val: the folder to measure on, if it is elsewhere.
        images: how many training images are generated ("digits" and "trees").
        flip: mirror half of the training images of the sky or of a folder.
        tile, overlap: train on tiles of so many pixels, which share `overlap` (a quarter of `tile` for None): see
            `labelkit.datasets.Tiles`. Measured is in whole pictures, whose tiles' detections are merged.
        steps, batch_size: batches, and images in each, over all processes.
        lr, weight_decay, warmup: AdamW under OneCycle; `lr` is the highest, reached after that share of the steps.
        clip: largest norm of the gradient. box_weight: weight of the box loss in the sum of losses.
        seed: of generated images, initial weights and order. precision: Lightning's, such as "bf16-mixed".
        checkpoint_every, evaluate_every: in steps; evaluate_every 0 measures at the end only.
        strict: any fault in the annotations is an error instead of a report.
    """

    assigner: str = "max_iou"
    assigner_args: dict[str, Any] = field(default_factory=dict)
    detector: str = "retinanet"
    backbone: str = "small"
    weights: str | None = None
    box_loss: str = "giou"
    plain_loss: bool = False
    loss: str | None = None
    quality: str | None = None
    bins: int | None = None
    second_assigner: str | None = None
    second_args: dict[str, Any] = field(default_factory=dict)
    second_weights: str = "equal"
    warmup_assigner: str | None = None
    warmup_args: dict[str, Any] = field(default_factory=dict)
    warmup_share: float = 1 / 3
    assign_on: str | None = None
    nms_thresh: float | None = None
    anchor_scale: float = 4.0
    min_size: int | None = None
    detections: int | None = None
    topk_candidates: int | None = None
    data: str = "digits"
    val: str | None = None
    images: int = 1500
    flip: bool = False
    tile: int | None = None
    overlap: int | None = None
    strict: bool = False
    steps: int = FULL_STEPS
    batch_size: int = 8
    lr: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.15
    clip: float = 10.0
    box_weight: float = 2.0
    seed: int = 0
    precision: str = "32-true"
    workers: int = 0
    checkpoint_every: int = 50
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= _HIGHEST_SEED:
            raise ValueError(f"seed must lie in 0 ... {_HIGHEST_SEED}, got {self.seed}")
        for name, known in _ONE_OF.items():
            if getattr(self, name) not in known:
                names = ", ".join(value for value in known if value is not None)
                raise ValueError(f"{name} must be one of {names}, got {getattr(self, name)!r}")
        at_least_one(**{name: getattr(self, name) for name in _AT_LEAST_ONE})
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, and finite, got {getattr(self, name)}")
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup must lie in [0, 1], a share of the steps, got {self.warmup}")
        if not 0 < self.warmup_share < 1:
            raise ValueError(f"warmup_share must lie between 0 and 1, a share of the steps, got {self.warmup_share}")
        if self.nms_thresh is not None and not 0 <= self.nms_thresh <= 1:
            raise ValueError(f"nms_thresh must lie in [0, 1], an overlap, got {self.nms_thresh}")
        if self.bins is not None and self.bins < 2:
            raise ValueError(f"bins must be at least 2, got {self.bins}")
        for name in ("quality", "bins"):
            if self.detector != "fcos" and getattr(self, name) is not None:
                raise ValueError(f"{name} is for fcos, a {self.detector} has no such head, got {getattr(self, name)!r}")
        for name, arguments in ARGUMENTS_OF.items():
            if getattr(self, name) is None and getattr(self, arguments):
                raise ValueError(f"{arguments} are of a {name}, and there is none: got {getattr(self, arguments)}")
        if self.second_weights != "equal" and self.second_assigner is None:
            raise ValueError(f"second_weights is for a second_assigner, and there is none: got {self.second_weights!r}")
        if self.tiling is not None and self.of_course:
            raise ValueError(f"tile is for the pictures of a folder, those of {self.data} are small: got {self.tile}")
        if self.plain_loss and self.loss is not None:
            raise ValueError(f"plain_loss and loss both say which loss: give one of them, got loss={self.loss!r}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file, with every argument that the rules really have; `from_dict` builds the same ones."""
        from labelkit.training.rules import plain_arguments

        rules = {ARGUMENTS_OF[name]: plain_arguments(rule) for name, rule in self.rules().items()}
        return asdict(self) | {name: getattr(self, name) | arguments for name, arguments in rules.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Only known names, and values of their types: a configuration may be of another version, or edited by hand."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings in the recipe: {', '.join(unknown)}")
        for one in fields(cls):
            _check_type(one.name, str(one.type), values.get(one.name, getattr(cls, one.name, {})))
        return cls(**values)

    @property
    def of_course(self) -> bool:
        """Whether the data are the course's own."""
        return of_course(self.data)

    @property
    def tiling(self) -> Tiling | None:
        """How pictures are cut, None for whole ones."""
        return Tiling.of(self.tile, self.overlap)

    def rules(self) -> dict[str, Callable[..., Any]]:
        """The assigners of the run by their field, those that it names; what is wrong with one is a `ValueError`."""
        from labelkit.training.rules import build_assigner, fill_in

        found = {}
        data = self.data if self.of_course else None
        for field_, arguments in ARGUMENTS_OF.items():
            name = getattr(self, field_)
            if name is None:
                continue
            given = getattr(self, arguments)
            filled = fill_in(name, given, small=self.backbone == "small", data=data)
            try:
                found[field_] = build_assigner(name, filled)
            except ValueError as error:
                raise ValueError(str(error) if field_ == "assigner" else f"{field_}: {error}") from error
        check_place(self.assign_on, **found)
        return found

    def rule(self) -> Callable[..., Any]:
        """The assigner; a wrong name or argument is a `ValueError` that names it."""
        return self.rules()["assigner"]

    def warms_up(self, step: int) -> bool:
        """Whether this step, counted from 0, is still the warm-up rule's."""
        return self.warmup_assigner is not None and step < self.warmup_share * self.steps

    def build(self, num_classes: int) -> AssignedRetinaNet | AssignedFCOS:
        """The detector with fresh (or downloaded, or loaded) weights; seed torch before."""
        from labelkit.training.building import build_detector

        return build_detector(self, num_classes)

    def train_set(self) -> BoxDataset:
        """The images to train on."""
        from labelkit.training.sets import train_set

        return train_set(self)

    def val_set(self) -> BoxDataset:
        """The images to measure on; their classes are those of the training set."""
        from labelkit.training.sets import val_set

        return val_set(self)

    def load(self) -> tuple[BoxDataset, BoxDataset]:
        """The images to train on and those to measure on, checked."""
        from labelkit.training.sets import load

        return load(self)


def _check_type(name: str, types: str, value: Any) -> None:
    """types: as a field of the recipe has them, such as "int | None"."""
    kinds = [kind.partition("[")[0].strip() for kind in types.split("|")]
    fits = isinstance(value, tuple(_TYPES[kind] for kind in kinds)) and (not isinstance(value, bool) or "bool" in kinds)
    if not fits:
        raise ValueError(f"{name} must be of the type {types}, got {value!r}")
