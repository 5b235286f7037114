"""A trained detector on pictures: COCO results under the data's own category ids, and the boxes drawn.

Into the folder `out` go `predictions.json`, a list as COCO's results are; `images.json`, which names picture and class
of every id, so that both together can be loaded by COCO's tools; and `pictures`, the pictures with their boxes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from labelkit.counts import at_least_one
from labelkit.datasets import read_picture
from labelkit.devices import out_of_memory
from labelkit.tiling import Tiling
from labelkit.training import runs
from labelkit.training.ceiling import candidates_for
from labelkit.training.devices import find_device
from labelkit.training.drawing import write_drawn
from labelkit.training.folder import Trained, load_trained, read_recipe
from labelkit.training.picture_files import Listing, Picture, find_pictures
from labelkit.training.recipe import Recipe
from labelkit.training.tiled import Detection, detect_in_tiles

RESULTS, IMAGES, DRAWN = "predictions.json", "images.json", "pictures"
DRAWN_FROM = 0.5  # the score from which boxes are drawn, where nobody names one

Progress = Callable[[Sequence[Picture]], Iterable[Picture]]


@dataclass
class Predicted:
    """What `predict` found.

    results: COCO's: image_id, category_id, bbox (x, y, width, height), score, by falling score in each picture.
    images: id, file_name, width and height of every picture that was done. categories: id and name.
    failed: why, by picture, for each that was not done, or not drawn.
    full: how many pictures have as many detections as the detector may return. cut: how many detections end at the
    border of a tile and are seen whole in no other.
    """

    categories: list[dict[str, Any]]
    results: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    full: int = 0
    cut: int = 0


@torch.no_grad()
def predict(
    run: str | os.PathLike,
    pictures: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    *,
    which: str = "best",
    annotations: str | os.PathLike | None = None,
    score: float | None = None,
    detections: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int = 8,
    device: str = "auto",
    draw: bool = True,
    progress: Progress = lambda pictures: pictures,
) -> Predicted:
    """Find objects with the detector of `run` in pictures, and write them into the folder `out`, if it is named.

    Pictures are read as the training set's were, and go through the network one by one: what is found in one does not
    depend on its neighbours. One that can't be read, or that `annotations` do not list, is in `failed`; the others are
    done; so is one for which the memory does not suffice. What `out` holds under the same names is written over.

    Args:
        pictures: a folder, with those below it, or files, or several of both.
        which: the checkpoint, "best" or "last".
        annotations: a COCO file: it says the ids of images (by file name) and of categories (by name). Without it
            image ids are 1, 2, ... in the order of `images.json`, category ids those of the run's training set; a
            class that the file lacks keeps that id, too.
        score: the lowest that is returned and drawn. None: all that the detector returns, of which those from 0.5
            are drawn.
        detections: most in a picture; None: the run's.
        tile, overlap: see `labelkit.tiling` and `labelkit.training.tiled`. None: as the run was trained; tile 0:
            whole pictures.
        batch_size: tiles at a time.
        progress: is given the pictures and hands them out one by one.

    Raises:
        ValueError: there is no run, no picture, or an argument is at fault. Nothing is written before.
        OSError: nothing can be written into `out`; this, too, is said before any work.
    """
    _check(score, detections, batch_size)
    tiling = _tiling(read_recipe(run), tile, overlap)
    place = find_device(device)
    drawn = None if out is None or not draw else Path(out) / DRAWN
    files = find_pictures([pictures] if isinstance(pictures, str | os.PathLike) else pictures, leave_out=drawn)
    trained = load_trained(run, which)
    listing = None if annotations is None else Listing.read(annotations)
    ids = _category_ids(trained, listing, run)
    found = Predicted([{"id": number, "name": name} for number, name in zip(ids, trained.classes, strict=True)])
    detector: Any = _limited(trained.detector.to(place), score, detections)
    if out is not None:
        runs.check_writable(out)
    for file in progress(files):
        try:
            entry = _entry(file, listing, len(found.images) + 1)
            stated = (entry["width"], entry["height"]) if "width" in entry else None
            pixels = read_picture(file.path, stated, white=trained.white)
        except (OSError, ValueError) as error:
            found.failed[str(file.path)] = str(error)
            continue
        image = F.to_dtype(pixels, torch.float32, scale=True).as_subclass(Tensor)
        try:
            here = _detect(detector, image, tiling, batch_size)
        except (MemoryError, RuntimeError) as error:
            if (sentence := out_of_memory(error)) is None:
                raise
            found.failed[str(file.path)] = f"{file.path}: {sentence}"
            continue
        height, width = image.shape[-2:]
        found.images.append(entry | {"width": width, "height": height})
        found.results += _records(here, entry["id"], ids)
        found.full += len(here["scores"]) >= detector.detections_per_img
        found.cut += int(here["cut"].sum()) if "cut" in here else 0
        if drawn is not None:
            seen = here["scores"] >= (DRAWN_FROM if score is None else score)
            shown = {name: value[seen] for name, value in here.items()}
            try:
                write_drawn(image, shown, trained.classes, drawn / file.name)
            except OSError as error:
                found.failed[str(file.path)] = f"{file.path}: found, not drawn: {error}"
    if out is not None:
        runs.write_json(Path(out) / IMAGES, {"images": found.images, "categories": found.categories})
        runs.write_json(Path(out) / RESULTS, found.results)
    return found


def _check(score: float | None, detections: int | None, batch_size: int) -> None:
    """What can be said before any work."""
    if score is not None and not 0 <= score <= 1:
        raise ValueError(f"score must lie in [0, 1], got {score}")
    at_least_one(detections=detections, batch_size=batch_size)


def _tiling(recipe: Recipe, tile: int | None, overlap: int | None) -> Tiling | None:
    """As asked for, or as the run was trained."""
    if tile is None and recipe.tile is not None:
        return Tiling.of(recipe.tile, recipe.overlap if overlap is None else overlap)
    return Tiling.of(tile or None, overlap)


def _category_ids(trained: Trained, listing: Listing | None, run: str | os.PathLike) -> list[int]:
    """By label: the annotation file's for classes that it names, those of the run for the others."""
    if trained.category_ids is None and listing is None:
        warnings.warn(
            f"{run} was saved before runs kept the category ids of their data: they are 1, 2, ... here, in the order "
            "of its classes; annotations give those of a file",
            stacklevel=3,
        )
    own = trained.category_ids or tuple(range(1, len(trained.classes) + 1))
    return list(own) if listing is None else listing.category_ids(trained.classes, own)


def _limited(detector: Any, score: float | None, detections: int | None) -> Any:
    if score is not None:
        detector.score_thresh = score
    if detections is not None:
        detector.detections_per_img = detections
        detector.topk_candidates = max(detector.topk_candidates, candidates_for(detections))
    return detector


def _entry(file: Picture, listing: Listing | None, number: int) -> dict[str, Any]:
    return {"id": number, "file_name": file.name} if listing is None else listing.entry(file)


def _detect(detector: Any, image: Tensor, tiling: Tiling | None, batch_size: int) -> Detection:
    if tiling is not None:
        return detect_in_tiles(detector, image, tiling, batch_size)
    (found,) = detector([image.to(next(detector.parameters()).device)])
    return {name: value.cpu() for name, value in found.items()}


def _records(found: Detection, image_id: int, ids: Sequence[int]) -> list[dict[str, Any]]:
    """One picture's detections as COCO's results: thousandths of a pixel, millionths of a score."""
    rows = zip(found["boxes"].double().tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": ids[label],
            "bbox": [round(side, 3) for side in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(value, 6),
        }
        for (x1, y1, x2, y2), value, label in rows
    ]
