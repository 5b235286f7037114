"""What a training run is made of, as plain values: which rule, which detector, which data, how long."""

import difflib
import inspect
import warnings
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.models import resnet50
from torchvision.transforms import v2

from labelkit import similarity
from labelkit.assigners import ASSIGNERS, Assigner
from labelkit.datasets import CocoFolder, digits, drop_crowd, neon_trees
from labelkit.detectors import SmallPyramid, fcos, receptive_field_view, retinanet
from labelkit.detectors.loss_rule import LossRule
from labelkit.receptive_field import receptive_fields, resnet_stages

DETECTORS = {"retinanet": retinanet, "fcos": fcos}
SIMILARITIES = ("iou", "giou", "diou", "ciou", "nwd", "dotd", "rfd", "simd", "gcd")
# What the course's data ask of methods whose arguments have no default, or another one than the course's.
COURSE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "fcos": {"center_radius": 1.5},
    "hambox": {"k": 5, "decoded_thresh": 0.5},
    "noisy_anchors": {"n": 9},  # 30 are for nine anchors a cell
    "rka": {"similarity": {"name": "nwd", "constant": 12.8}},
}
FULL_STEPS, FAST_STEPS = 750, 200


@dataclass(frozen=True)
class Recipe:
    """A run's whole configuration; with the library's version it determines the result.

    Attributes:
        assigner, assigner_args: registry name and arguments; a similarity is a name, or a dict with its constants:
            {"name": "nwd", "constant": 12.8}. Arguments left out are the course's (`COURSE_ARGUMENTS`) or defaults.
        detector: "retinanet" or "fcos". backbone, weights, box_loss, anchor_scale, min_size: see `labelkit.detectors`.
        plain_loss: the detector's own loss on the method's labels and weights, without what the method's paper says
            of the loss beside them.
        data: "digits", "trees" or "trees:K" (fold K of 3), or a COCO-format folder: `annotations.json` and its
            images, or `train` and `val` folders of that form. val: the folder to measure on, if it is elsewhere.
        images: how many training images are generated ("digits" and "trees").
        flip: mirror half of the training images of a folder.
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
    anchor_scale: float = 4.0
    min_size: int | None = None
    data: str = "digits"
    val: str | None = None
    images: int = 1500
    flip: bool = False
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
        if self.detector not in DETECTORS:
            raise ValueError(f"detector must be one of {', '.join(DETECTORS)}, got {self.detector!r}")
        for name in ("steps", "batch_size", "checkpoint_every", "images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr must be positive, got {self.lr}")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Only known names: a configuration written by another version says what it does not share."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings in the recipe: {', '.join(unknown)}")
        return cls(**values)

    def rule(self) -> Assigner:
        return build_assigner(self.assigner, self.assigner_args)

    def build(self, num_classes: int) -> nn.Module:
        """The detector with fresh (or downloaded) weights; seed torch before."""
        options: dict[str, Any] = {"backbone": self.backbone, "weights": self.weights, "min_size": self.min_size}
        if self.detector == "retinanet":
            options |= {"box_loss": self.box_loss, "anchor_scale": self.anchor_scale}
        if self.assigner == "rfla":
            options["assignment_priors"] = receptive_field_view(_fields(self))
        detector = DETECTORS[self.detector](num_classes, assigner=self.rule(), **options)
        if self.plain_loss:
            detector.loss_rule = LossRule()
        return detector

    def train_set(self) -> Dataset:
        """The images to train on."""
        if self.data == "digits":
            return digits("train", self.images, self.seed)
        if (fold := self._fold()) is not None:
            return neon_trees("train", fold, self.images, self.seed)
        steps = [drop_crowd, v2.RandomHorizontalFlip()] if self.flip else [drop_crowd]
        dataset = _folder(_train_folder(Path(self.data)), self.strict, v2.Compose(steps))
        if len(dataset) == 0:
            raise ValueError(f"{self.data} holds no usable image to train on")
        return dataset

    def val_set(self) -> Dataset:
        """The images to measure on; their classes are those of the training set."""
        if self.data == "digits":
            return digits("test")
        if (fold := self._fold()) is not None:
            return neon_trees("test", fold)
        folder = Path(self.val) if self.val else Path(self.data) / "val"
        if not self.val and not (folder / "annotations.json").is_file():
            folder = _train_folder(Path(self.data))
            warnings.warn(f"{self.data} has no val folder: measuring on the training images flatters", stacklevel=2)
        return _folder(folder, self.strict, None)

    def load(self) -> tuple[Dataset, Dataset]:
        """The images to train on and those to measure on."""
        train_set, val_set = self.train_set(), self.val_set()
        if train_set.classes != val_set.classes:
            raise ValueError(f"val must have the categories {train_set.classes}, got {val_set.classes}")
        return train_set, val_set

    def _fold(self) -> int | None:
        kind, _, fold = self.data.partition(":")
        if kind != "trees":
            return None
        if fold not in ("", "0", "1", "2"):
            raise ValueError(f"data must be trees, trees:0, trees:1 or trees:2, got {self.data!r}")
        return int(fold or 0)


def build_assigner(name: str, arguments: dict[str, Any] | None = None) -> Assigner:
    """An assigner from plain values, as a configuration file holds them."""
    if name not in ASSIGNERS:
        known = ", ".join(ASSIGNERS)
        raise ValueError(f"assigner must be one of {known}, got {name!r}{_did_you_mean(name, ASSIGNERS)}")
    arguments = COURSE_ARGUMENTS.get(name, {}) | (arguments or {})
    if "similarity" in arguments:
        arguments["similarity"] = build_similarity(arguments["similarity"])
    try:
        return ASSIGNERS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"{name} takes {inspect.signature(ASSIGNERS[name])}: {error}") from error


def build_similarity(choice: str | dict[str, Any]):
    """A name, or {"name": ..., constant: value}: `nwd` and `dotd` take `constant`, `simd` m and n, `rfd` kind."""
    constants = dict(choice) if isinstance(choice, dict) else {"name": choice}
    name = constants.pop("name", None)
    if name not in SIMILARITIES:
        raise ValueError(
            f"similarity must be one of {', '.join(SIMILARITIES)}, got {name!r}{_did_you_mean(str(name), SIMILARITIES)}"
        )
    function = getattr(similarity, name)
    try:
        inspect.signature(function).bind(None, None, **constants)
    except TypeError as error:
        raise ValueError(f"similarity {name}{inspect.signature(function)}: {error}") from error
    return partial(function, **constants) if constants else function


def _did_you_mean(name: str, known) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _fields(recipe: Recipe) -> tuple[int, ...]:
    """Receptive fields of the levels that the detector reads."""
    if recipe.backbone == "small":
        return receptive_fields(SmallPyramid.layers)
    with torch.device("meta"):
        return receptive_fields(resnet_stages(resnet50()))[1:]


def _train_folder(root: Path) -> Path:
    if not root.is_dir():
        raise ValueError(f"data must be digits, trees, trees:K or a folder, and there is no folder {str(root)!r}")
    for folder in (root / "train", root):
        if (folder / "annotations.json").is_file():
            return folder
    raise ValueError(f"{root} must hold annotations.json, or train/annotations.json and val/annotations.json")


def _folder(folder: Path, strict: bool, transforms) -> CocoFolder:
    if not (folder / "annotations.json").is_file():
        raise ValueError(f"there is no {folder / 'annotations.json'}")
    dataset = CocoFolder(folder, strict=strict, transforms=transforms)
    if dataset.report.problems:
        warnings.warn(f"{folder}: {dataset.report.summary()}", stacklevel=3)
    return dataset
