"""The images of a run: which ones a recipe names, and what training refuses."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torchvision.transforms import v2

from labelkit.datasets import (
    BoxDataset,
    CocoFolder,
    Tiles,
    check_trainable,
    deep_field,
    digits,
    find_layout,
    neon_trees,
    open_split,
)
from labelkit.datasets.layouts import Layout

if TYPE_CHECKING:
    from labelkit.training.recipe import Recipe

Told = TypeVar("Told", CocoFolder, Tiles)


def train_set(recipe: Recipe) -> BoxDataset:
    """The images to train on: generated ones, a fold of the aerial ones, the sky's, or those of a folder.

    Regions to ignore stay in the targets, flagged: the assigner has to know where nothing may be learned.
    """
    if recipe.data == "digits":
        return digits("train", recipe.images, recipe.seed)
    mirror = v2.RandomHorizontalFlip() if recipe.flip else None
    if recipe.data == "sky":
        return deep_field("train", transforms=mirror)
    if recipe.of_course:
        return neon_trees("train", _fold(recipe.data), recipe.images, recipe.seed)
    layout = _layout(recipe.data, "data")
    if recipe.tiling is not None:
        return _told(Tiles(open_split(layout, "train", strict=recipe.strict), recipe.tiling, transforms=mirror))
    return _told(open_split(layout, "train", strict=recipe.strict, transforms=mirror))


def val_set(recipe: Recipe) -> BoxDataset:
    """The images to measure on: those of `val`, a folder of its own or one with such a part, or of `data`; whole."""
    if recipe.data == "digits":
        return digits("test")
    if recipe.data == "sky":
        return deep_field("test")
    if recipe.of_course:
        return neon_trees("test", _fold(recipe.data))
    name = "data" if recipe.val is None else "val"
    layout = _layout(recipe.data if recipe.val is None else recipe.val, name)
    part = next((part for part in ("val", "test") if part in layout.splits), "train" if recipe.val is None else "val")
    if part == "train":
        warnings.warn(f"{recipe.data} has no val images: measuring on the training images flatters", stacklevel=2)
    return _told(open_split(layout, part, strict=recipe.strict))


def load(recipe: Recipe) -> tuple[BoxDataset, BoxDataset]:
    """The images to train on and those to measure on, of the same classes."""
    to_train, to_measure = recipe.train_set(), recipe.val_set()
    check_trainable(to_train)
    check_same_classes(to_train, to_measure)
    return to_train, to_measure


def check_same_classes(to_train: BoxDataset, to_measure: BoxDataset) -> None:
    """A `ValueError` where the same label would mean two things."""
    if tuple(to_train.classes) != tuple(to_measure.classes):
        raise ValueError(f"val must have the categories {to_train.classes}, got {to_measure.classes}")


def _fold(data: str) -> int:
    fold = data.partition(":")[2]
    if data != "trees" and fold not in ("0", "1", "2"):
        raise ValueError(f"data must be trees, trees:0, trees:1 or trees:2, got {data!r}")
    return int(fold or 0)


def _layout(root: str, name: str) -> Layout:
    if not Path(root).exists():
        own = "digits, trees, trees:K, sky or a folder" if name == "data" else "a folder"
        raise ValueError(f"{name} must be {own}, and there is no folder {root!r}")
    return find_layout(root)


def _told(dataset: Told) -> Told:
    """With a warning where the check of the files found something to say."""
    if dataset.report.problems or dataset.report.notes:
        warnings.warn(str(dataset.report), stacklevel=3)
    return dataset
