"""The board's entries: one training each, in a JSON file; for the stage also its weights, in half precision.

An entry holds data, budget, variant and seed; the recipe; the versions of all software and the commit of labelkit; the
scores as the detector answers (`scores`) and without NMS (`scores_no_nms`); the positives by size; the seconds. Those
of the stage (`Cell.on_stage`) also hold `detections`, see `stage_detections`, and have a file in `weights/`.
An entry is good as long as its row, its data and the training loop stay what they were.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from labelkit.datasets import BoxDataset, DetectionDataset
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet
from labelkit.training import load_detector, runs, train
from labelkit.training.devices import trainer_device
from labelkit.training.measuring import Detections, detect, detect_without_nms, score
from labelkit.training.recipe import Recipe
from labelkit.training.weights import load_weights
from labelkit_course import paths
from labelkit_course.rows import DATA, STAGE, Cell

Entry = dict[str, Any]
LEAST_SCORE = 0.1  # of a detection that is kept for the stage


def fill(
    wanted: Sequence[Cell], results: Path, work: Path, progress: bool = True, device: str = "auto"
) -> Iterator[tuple[Cell, Entry]]:
    """Train what is not there yet, an entry at a time, and yield each with its content.

    A stopped board goes on where it was: finished entries are read, and the one in the middle resumes from its
    checkpoint below `work`, where runs are kept until their entry is written.
    """
    for cell in wanted:
        path = results / f"{cell.name}.json"
        if not path.is_file():
            content, detector = train_cell(cell, work / cell.name, progress, device)
            if cell.on_stage:
                runs.save_checkpoint(halved(detector), weights_file(results, cell.name))
            write_entry(path, content)
            shutil.rmtree(work / cell.name, ignore_errors=True)
        yield cell, runs.read_json(path)


def train_cell(cell: Cell, work: Path, progress: bool = True, device: str = "auto") -> tuple[Entry, nn.Module]:
    """Train every part of the data, pool the detections, measure: the entry, and the detector of the last part."""
    options = trainer_device(device) | {"progress": progress}
    detections: Detections = []
    without_nms: Detections = []
    targets: list[dict[str, Any]] = []
    parts = []
    for data in DATA[cell.data].parts:
        recipe = cell.recipe(data)
        train_set, test_set = _train_set(recipe), _test_set(data)
        folder = work / data.replace(":", "-")
        parts.append(train(recipe, folder, resume=True, data=(train_set, test_set), **options))
        detector = load_detector(folder, "last")[0]
        detections += detect(detector, test_set)
        without_nms += detect_without_nms(detector, test_set)
        targets += test_set.targets
    config = runs.read_json(folder / runs.CONFIG)
    entry = {
        **cell._asdict(),
        "recipe": config["recipe"] | {"data": cell.data},
        "software": config["software"] | {"commit": _commit()},
        "scores": score(detections, targets),
        "scores_no_nms": score(without_nms, targets),
        "positives": parts[0]["positives"],
        "seconds": {key: round(sum(part["seconds"][key] for part in parts), 1) for key in parts[0]["seconds"]},
    }
    if cell.on_stage:
        load_weights(detector, whole(halved(detector)))  # what is shown is what the kept weights say
        entry["detections"] = stage_detections(detector, cell.data)
    return entry, detector


def stage_pictures(data: str) -> DetectionDataset:
    """The test images of the data on which every row is shown."""
    test_set = cast(DetectionDataset, _test_set(data))
    indices = list(STAGE[data])
    return DetectionDataset(test_set.images[indices], [test_set.targets[i] for i in indices], test_set.classes)


def stage_detections(detector: nn.Module, data: str) -> list[dict[str, Any]]:
    """For every picture of the stage, best first: boxes `[D, 4]`, to a hundredth of a pixel, and scores `[D]`."""
    shown = []
    for found in detect(detector, stage_pictures(data)):
        keep = found["scores"] >= LEAST_SCORE
        boxes = [[round(value, 2) for value in box] for box in found["boxes"][keep].tolist()]
        shown.append({"boxes": boxes, "scores": [round(value, 4) for value in found["scores"][keep].tolist()]})
    return shown


def halved(detector: nn.Module) -> dict[str, Tensor]:
    """The state of a detector, its floating-point numbers in half precision."""
    return {name: value.half() if value.is_floating_point() else value for name, value in detector.state_dict().items()}


def whole(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Halved weights as a detector takes them."""
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def weights_file(results: Path, name: str) -> Path:
    return results / "weights" / f"{name}.pt"


def trained_detector(results: Path, name: str) -> AssignedRetinaNet | AssignedFCOS:
    """The detector of an entry of the stage, in evaluation mode: one class, on the CPU."""
    recipe = Recipe.from_dict(runs.read_json(results / f"{name}.json")["recipe"])
    detector = recipe.build(1)
    load_weights(detector, whole(runs.load_checkpoint(weights_file(results, name))))
    return detector.eval()


def write_entry(path: Path, content: Entry) -> None:
    """JSON with one line a key, written whole."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    runs.write_whole(path, lambda file: file.write(text.encode()))


@lru_cache(maxsize=3)
def _generated(data: str, images: int, seed: int, flip: bool) -> BoxDataset:
    return Recipe(data=data, images=images, seed=seed, flip=flip).train_set()


def _train_set(recipe: Recipe) -> BoxDataset:
    return _generated(recipe.data, recipe.images, recipe.seed, recipe.flip)


@lru_cache(maxsize=3)
def _test_set(data: str) -> BoxDataset:
    return Recipe(data=data).val_set()


def _commit() -> str | None:
    """labelkit's, with "-dirty" after it where files differ from it; None outside a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
