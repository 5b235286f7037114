"""The folder of a run: whose it is, what configuration it holds, and how the trained detector comes out of it."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

import labelkit
from labelkit.assigners.ground_truths import FLAGS
from labelkit.datasets import BoxDataset
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet
from labelkit.training import runs
from labelkit.training.ceiling import LIMITS
from labelkit.training.recipe import Recipe
from labelkit.training.weights import load_weights

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PATIENCE = 10.0  # seconds


def holds_run(folder: str | os.PathLike) -> bool:
    """Whether there is anything to go on with, or to lose: a checkpoint or a result. A configuration alone is free."""
    return any((Path(folder) / name).is_file() for name in (runs.LAST, runs.BEST, runs.RESULT))


def check_goes_on(folder: Path, recipe: Recipe, resume: bool) -> None:
    """A `ValueError` if the folder holds another run, or holds one and `resume` is False. Nothing is written.

    Limits on the output that either side leaves to the data are not compared.
    """
    if not holds_run(folder):
        return
    if not resume:
        raise ValueError(f"{folder} already holds a run: resume it, or choose another folder")
    there, wanted = read_recipe(folder).as_dict(), recipe.as_dict()
    open_limits = [name for name in LIMITS if None in (there[name], wanted[name])]
    differ = [f"{name}={there[name]!r}" for name in wanted if there[name] != wanted[name] and name not in open_limits]
    if differ:
        raise ValueError(f"{folder} holds a run with another configuration: {', '.join(differ)}")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else trains in the folder meanwhile: two runs would write over each other's checkpoints.

    A lock of the system's on the folder, which ends with the process, however that ends. Where the file system or
    Windows has none, nobody is held back. What a killed run left half written is removed.

    Raises:
        ValueError: another process trains there, still so after `PATIENCE` seconds: for so long the workers of a run
            that was killed may hold its lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        if _locked(held, folder):
            for unfinished in folder.glob(".*.part"):
                unfinished.unlink()
        yield
    finally:
        os.close(held)


def _locked(held: int, folder: Path) -> bool:
    """Lock; False where there are no such locks."""
    last = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > last:
                raise ValueError(f"another process trains in {folder}: let it end, or choose another folder") from None
            time.sleep(0.2)
        except OSError:  # a network's file system may have no locks
            return False


@rank_zero_only
def claim(folder: Path, recipe: Recipe) -> None:
    """Write the configuration, unless a run that goes on has written its own. One of several processes does it."""
    if holds_run(folder):
        return
    software = {"labelkit": labelkit.__version__, "torch": torch.__version__, "lightning": L.__version__}
    runs.write_json(folder / runs.CONFIG, {"recipe": recipe.as_dict(), "software": software})


def read_recipe(folder: str | os.PathLike) -> Recipe:
    """The configuration of the run in `folder`, with every argument that its rule had."""
    path = Path(folder) / runs.CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} holds no run: there is no {path}")
    values = runs.read_json(path, "recipe")["recipe"]
    if not isinstance(values, dict):
        raise ValueError(f"{path}: recipe must be an object, got {values!r}")
    try:
        return Recipe.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_detector(folder: str | os.PathLike, which: str = "best") -> tuple[AssignedRetinaNet | AssignedFCOS, list[str]]:
    """The trained detector of a run in evaluation mode, on the CPU, and its classes' names.

    which: "best" (the last where none was measured on the way) or "last".
    """
    trained = load_trained(folder, which)
    return trained.detector, list(trained.classes)


@dataclass(frozen=True)
class Trained:
    """The detector of a run in evaluation mode, on the CPU, and what the run keeps of its data.

    category_ids: the data's own, by label; None in a run of a version that did not keep them. white: of pictures with
    more than 8 bits, see `labelkit.datasets.read_picture`.
    """

    detector: AssignedRetinaNet | AssignedFCOS
    recipe: Recipe
    classes: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    white: float | None


def kept_of_data(dataset: BoxDataset) -> dict[str, Any]:
    """What a checkpoint keeps of the training set: `classes`, `category_ids` and `white`; see `Trained`.

    The ids of a data set that has none are 1, 2, ... by label, as `DetectionDataset.coco` writes them.
    """
    ids = getattr(dataset, "category_ids", None) or range(1, len(dataset.classes) + 1)
    return {"classes": list(dataset.classes), "category_ids": list(ids), "white": getattr(dataset, "white", None)}


def fingerprint(dataset: BoxDataset) -> dict[str, Any]:
    """Of data to train on: how many images and objects, the classes, and a digest of all boxes and labels."""
    digest, objects = hashlib.sha256(), 0
    targets = dataset.targets
    for target in targets:
        for name in ("boxes", "labels", *FLAGS):
            if name in target:
                values = np.asarray(torch.as_tensor(target[name]).cpu())
                digest.update(f"{name} {values.shape}".encode() + values.tobytes())
        objects += len(target["boxes"])
    counts = {"images": len(targets), "objects": objects, "classes": list(dataset.classes)}
    return counts | {"sha256": digest.hexdigest()}


def check_same_data(folder: Path | None, there: dict[str, Any], here: dict[str, Any]) -> None:
    """A `ValueError` where a run would go on with other data than it began with."""
    if there != here:
        told = [f"{one['images']} images, {one['objects']} boxes, classes {one['classes']}" for one in (there, here)]
        words = f"{told[0]}; now {told[1]}" if told[0] != told[1] else f"{told[0]}, but other boxes or labels"
        raise ValueError(
            f"{folder} was begun with other training data: {words}. Put them back to go on, or begin in another folder"
        )


def load_trained(folder: str | os.PathLike, which: str = "best") -> Trained:
    """As `load_detector`, with what the run keeps beside the weights."""
    if which not in ("best", "last"):
        raise ValueError(f"which must be 'best' or 'last', got {which!r}")
    best = Path(folder) / runs.BEST
    path = best if which == "best" and best.is_file() else Path(folder) / runs.LAST
    checkpoint: dict[str, Any] = runs.load_run(path)
    ours = checkpoint["labelkit"]
    recipe = Recipe.from_dict(ours["recipe"])
    detector = replace(recipe, weights=None).build(len(ours["classes"]))
    load_weights(detector, {name.removeprefix("detector."): v for name, v in checkpoint["state_dict"].items()})
    detector.eval()
    ids = ours.get("category_ids")
    return Trained(detector, recipe, tuple(ours["classes"]), None if ids is None else tuple(ids), ours.get("white"))
