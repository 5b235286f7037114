"""The folder of a run: whose it is, what configuration it holds, and how the trained detector comes out of it."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

import labelkit
from labelkit.datasets import BoxDataset
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet
from labelkit.training import runs
from labelkit.training.ceiling import LIMITS
from labelkit.training.recipe import Recipe
from labelkit.training.weights import load_weights


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
    return Recipe.from_dict(runs.read_json(path)["recipe"])


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


def load_trained(folder: str | os.PathLike, which: str = "best") -> Trained:
    """As `load_detector`, with what the run keeps beside the weights."""
    if which not in ("best", "last"):
        raise ValueError(f"which must be 'best' or 'last', got {which!r}")
    best = Path(folder) / runs.BEST
    path = best if which == "best" and best.is_file() else Path(folder) / runs.LAST
    checkpoint: dict[str, Any] = runs.load_checkpoint(path)
    ours = checkpoint["labelkit"]
    recipe = Recipe.from_dict(ours["recipe"])
    detector = replace(recipe, weights=None).build(len(ours["classes"]))
    load_weights(detector, {name.removeprefix("detector."): v for name, v in checkpoint["state_dict"].items()})
    detector.eval()
    ids = ours.get("category_ids")
    return Trained(detector, recipe, tuple(ours["classes"]), None if ids is None else tuple(ids), ours.get("white"))
