"""The folder of a chapter's training: made once, and found again by whatever runs the same training later.

A chapter that is run anew, or in its other form, takes the finished run in place of training again. What a training
depends on is in the folder's name: configuration, data, the library's source, torch, and the processor's instructions.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock

import labelkit
from labelkit.datasets import BoxDataset
from labelkit.training import Recipe
from labelkit_course import paths


@contextmanager
def run_folder(recipe: Recipe, data: tuple[BoxDataset, BoxDataset]) -> Iterator[Path]:
    """The folder for `train(recipe, folder, data=data, resume=True)`, in the learner's work/.labelkit/runs.

    With `resume=True` a finished run is not trained again, and one that was interrupted goes on. While one process is
    inside, another with the same training waits. Random numbers drawn inside change nothing outside, so that what
    follows is the same after a training and after none.
    """
    runs = Path(os.environ.get("LABELKIT_RUNS") or paths.kept() / "runs")
    folder = runs / f"{recipe.assigner}-{_digest(recipe, data)}"
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"), torch.random.fork_rng(devices=()):
        yield folder


def _digest(recipe: Recipe, data: tuple[BoxDataset, BoxDataset]) -> str:
    """Of everything that a training depends on."""
    instructions = torch.backends.cpu.get_cpu_capability()
    found = hashlib.sha256(json.dumps([recipe.as_dict(), torch.__version__, instructions]).encode())
    for path in sorted(Path(labelkit.__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    for part in data:
        for index in range(len(part)):
            image, target = part[index]
            found.update(image.numpy().tobytes())
            found.update(target["boxes"].numpy().tobytes() + target["labels"].numpy().tobytes())
    return found.hexdigest()[:16]
