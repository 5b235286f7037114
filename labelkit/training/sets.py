"""The images of a run: what training asks of a data set, and which ones a recipe names."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor
from torchvision.transforms import v2

from labelkit.datasets import CocoFolder, digits, neon_trees
from labelkit.training.recipe import Recipe

ANNOTATIONS = "annotations.json"


@runtime_checkable
class LabelledImages(Protocol):
    """What `labelkit.datasets` gives: items `(image, target)`, the classes' names, all targets without the images."""

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def targets(self) -> Sequence[dict[str, Any]]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, dict[str, Any]]: ...


def train_set(recipe: Recipe) -> LabelledImages:
    """The images to train on: generated ones, a fold of the aerial ones, or `data/train`, or `data` itself.

    Regions to ignore stay in the targets, flagged: the assigner has to know where nothing may be learned.
    """
    if recipe.data == "digits":
        return digits("train", recipe.images, recipe.seed)
    if recipe.of_course:
        return neon_trees("train", _fold(recipe.data), recipe.images, recipe.seed)
    mirror = v2.RandomHorizontalFlip() if recipe.flip else None
    return _open(_find(Path(recipe.data), "data", "train"), recipe.strict, mirror)


def val_set(recipe: Recipe) -> LabelledImages:
    """The images to measure on: `val`, which may be such a folder or hold one, or `data/val`."""
    if recipe.data == "digits":
        return digits("test")
    if recipe.of_course:
        return neon_trees("test", _fold(recipe.data))
    if recipe.val is not None:
        return _open(_find(Path(recipe.val), "val", "val"), recipe.strict, None)
    folder = Path(recipe.data) / "val"
    if not (folder / ANNOTATIONS).is_file():
        folder = _find(Path(recipe.data), "data", "train")
        warnings.warn(f"{recipe.data} has no val folder: measuring on the training images flatters", stacklevel=2)
    return _open(folder, recipe.strict, None)


def load(recipe: Recipe) -> tuple[LabelledImages, LabelledImages]:
    """The images to train on and those to measure on, of the same classes."""
    to_train, to_measure = recipe.train_set(), recipe.val_set()
    check_training_set(to_train, recipe.data)
    if tuple(to_train.classes) != tuple(to_measure.classes):
        raise ValueError(f"val must have the categories {to_train.classes}, got {to_measure.classes}")
    return to_train, to_measure


def check_training_set(dataset: LabelledImages, name: str) -> None:
    """Refuse what nothing can be learned from: every run's training images pass here before its folder is made."""
    if len(dataset) == 0:
        raise ValueError(f"{name} holds no usable image: the training set is empty")


def flagged(target: Mapping[str, Any]) -> Bool[Tensor, "G"]:
    """Which boxes of a target are regions to ignore, by `iscrowd` or `ignore`, and no objects."""
    marks = target.get("iscrowd", target.get("ignore"))
    return (
        torch.zeros(len(target["boxes"]), dtype=torch.bool, device=target["boxes"].device)
        if marks is None
        else marks.bool()
    )


def _fold(data: str) -> int:
    fold = data.partition(":")[2]
    if data != "trees" and fold not in ("0", "1", "2"):
        raise ValueError(f"data must be trees, trees:0, trees:1 or trees:2, got {data!r}")
    return int(fold or 0)


def _find(root: Path, name: str, part: str) -> Path:
    """The folder with the annotations: `root` itself or its `part`."""
    if not root.is_dir():
        own = "digits, trees, trees:K or a folder" if name == "data" else "a folder"
        raise ValueError(f"{name} must be {own}, and there is no folder {str(root)!r}")
    for folder in (root / part, root):
        if (folder / ANNOTATIONS).is_file():
            return folder
    raise ValueError(f"{root} must hold {ANNOTATIONS}, or {part}/{ANNOTATIONS}")


def _open(folder: Path, strict: bool, transforms: Callable | None) -> CocoFolder:
    dataset = CocoFolder(folder, strict=strict, transforms=transforms)
    if dataset.report.problems:
        warnings.warn(f"{folder}: {dataset.report.summary()}", stacklevel=3)
    return dataset
