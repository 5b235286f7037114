"""The course's real data: tree crowns in two aerial pictures, boxes drawn by hand, split by space into three folds.

Neighbouring windows of one picture are nearly the same window, so a random split would test on training pixels. Fold k
tests band k of the first picture (rows) and strip k of the second (columns); training windows never touch those pixels.
Each fold alone has too few boxes to compare methods: train three detectors and pool their detections.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from labelkit.datasets.base import DetectionDataset, Target, Transform, make_target

FOLDS = 3
NATIVE = 2.0  # the committed pictures are already shrunk by 2 from 10 cm a pixel
RESAMPLED = (0.85, 1.0, 1.18)  # further scales of a training window
MIN_BOXES = 3  # in a training window
KEPT = 0.5  # a box belongs to a window that shows at least this share of it
SPLIT_AXIS = (1, 0)  # picture 0 is cut along y, picture 1 along x


class Picture(NamedTuple):
    image: Image.Image
    boxes: np.ndarray  # float64 [G, 4], xyxy in pixels of `image`


def data_dir() -> Path:
    """The repository's `data` folder, or the folder that the environment variable LABELKIT_DATA names."""
    folder = Path(os.environ.get("LABELKIT_DATA") or Path(__file__).resolve().parents[2] / "data")
    if not (folder / "neon_trees" / "annotations.json").is_file():
        raise FileNotFoundError(
            f"no neon_trees/annotations.json below {folder}: the pictures are part of labelkit's repository, not of "
            "the package. Install from a clone with `pip install -e .`, or set LABELKIT_DATA to its data folder"
        )
    return folder


def neon_trees(
    split: str = "train",
    fold: int | None = 0,
    n: int = 1500,
    seed: int = 0,
    *,
    tile: int = 128,
    shrink: float = 2.99,
    transforms: Transform | None = None,
) -> DetectionDataset:
    """`tile` x `tile` windows of the two pictures, one class "tree".

    "train": `n` random windows outside the fold's tested pixels, resampled at 0.85, 1 or 1.18, in one of the 8
    symmetries, with contrast x 0.75..1.25, brightness +-25 and colour +-10, at least 3 boxes each.
    "test": the fold's tiles side by side (`n` and `seed` play no part); with `fold=None` those of all three folds,
    in order, so that pooled detections line up. `image_id` counts through all folds.
    `shrink` is the scale against 10 cm a pixel: 2.99 makes the crowns 13.3 px on average.
    A box cut by the border keeps its visible part if that is at least half of it, and is dropped otherwise.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    if fold not in (None, 0, 1, 2) or (fold is None and split == "train"):
        raise ValueError(f'fold must be 0, 1 or 2 (or None for all test tiles), got {fold!r} for split "{split}"')
    if shrink < NATIVE or n < 0:
        raise ValueError(f"shrink must be at least {NATIVE}, n not negative, got {shrink=}, {n=}")
    pictures = [_shrunk(picture, shrink / NATIVE) for picture in _pictures(data_dir())]
    bands = [_bands(picture.image.size[axis], tile) for picture, axis in zip(pictures, SPLIT_AXIS, strict=True)]
    if split == "test" or fold is None:
        windows, targets = _test_tiles(pictures, bands, tile, fold)
    else:
        tested = [band[fold] for band in bands]
        windows, targets = _train_windows(pictures, tested, tile, n, np.random.default_rng((seed, fold)))
    images = torch.from_numpy(np.stack(windows)) if windows else torch.empty((0, tile, tile, 3), dtype=torch.uint8)
    return DetectionDataset(images.permute(0, 3, 1, 2), targets, ("tree",), transforms)


@lru_cache
def _pictures(folder: Path) -> tuple[Picture, ...]:
    coco = json.loads((folder / "neon_trees" / "annotations.json").read_text())
    pictures = []
    for entry in coco["images"]:
        with Image.open(folder / "neon_trees" / entry["file_name"]) as image:
            pixels = image.convert("RGB")
        xywh = np.array([a["bbox"] for a in coco["annotations"] if a["image_id"] == entry["id"]], dtype=np.float64)
        pictures.append(Picture(pixels, np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1)))
    return tuple(pictures)


def _shrunk(picture: Picture, factor: float) -> Picture:
    width, height = picture.image.size
    size = round(width / factor), round(height / factor)
    scale = np.array((size[0] / width, size[1] / height) * 2)
    return Picture(picture.image.resize(size, Image.Resampling.BICUBIC), picture.boxes * scale)


def _bands(length: int, tile: int) -> list[tuple[int, int]]:
    """Three neighbouring intervals, each the largest whole number of tiles that fits a third of `length`."""
    thickness = length // FOLDS // tile * tile
    if thickness == 0:
        raise ValueError(f"tile = {tile} px does not fit three times into a picture of {length} px; shrink less")
    return [(k * thickness, (k + 1) * thickness) for k in range(FOLDS)]


def window_boxes(boxes: np.ndarray, window: tuple[float, float, float, float]) -> np.ndarray:
    """The boxes of which at least half is inside, cut to the window and relative to its corner."""
    x1, y1, x2, y2 = window
    cut = boxes.clip((x1, y1, x1, y1), (x2, y2, x2, y2))
    visible, whole = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (cut, boxes))
    return cut[visible >= KEPT * whole] - (x1, y1, x1, y1)


def _target(boxes: np.ndarray, image_id: int, tile: int) -> Target:
    return make_target(torch.from_numpy(boxes), torch.zeros(len(boxes)), image_id, (tile, tile))


def _test_tiles(
    pictures: list[Picture], bands: list[list[tuple[int, int]]], tile: int, fold: int | None
) -> tuple[list[np.ndarray], list[Target]]:
    tiles, targets, image_id = [], [], 0
    for k in range(FOLDS):
        for picture, axis, band in zip(pictures, SPLIT_AXIS, bands, strict=True):
            across = range(0, picture.image.size[1 - axis] - tile + 1, tile)
            for along in range(*band[k], tile):
                for other in across:
                    if fold is None or fold == k:
                        x, y = (other, along) if axis == 1 else (along, other)
                        window = (x, y, x + tile, y + tile)
                        tiles.append(np.asarray(picture.image.crop(window)))
                        targets.append(_target(window_boxes(picture.boxes, window), image_id, tile))
                    image_id += 1
    return tiles, targets


def _train_windows(
    pictures: list[Picture], tested: list[tuple[int, int]], tile: int, n: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[Target]]:
    areas = np.array([picture.image.width * picture.image.height for picture in pictures])
    windows: list[np.ndarray] = []
    targets: list[Target] = []
    while len(windows) < n:
        which = int(rng.choice(len(pictures), p=areas / areas.sum()))
        picture, axis = pictures[which], SPLIT_AXIS[which]
        scale = float(rng.choice(RESAMPLED))
        side = tile / scale
        x, y = (rng.uniform(0, length - side) for length in picture.image.size)
        begin, end = tested[which]
        if (x, y)[axis] < end and (x, y)[axis] + side > begin:
            continue  # it would show tested pixels
        window = (x, y, x + side, y + side)
        boxes = window_boxes(picture.boxes, window) * scale
        if len(boxes) < MIN_BOXES:
            continue
        resampled = picture.image.resize((tile, tile), Image.Resampling.BICUBIC, box=window)
        pixels, boxes = _jitter(np.asarray(resampled, dtype=np.float32), boxes, rng)
        targets.append(_target(boxes, len(windows), tile))
        windows.append(pixels)
    return windows, targets


def _jitter(pixels: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One of the 8 symmetries of the square, and another exposure, as uint8."""
    size = pixels.shape[0]
    for _ in range(rng.integers(4)):  # a quarter turn to the left takes (x, y) to (y, size - x)
        pixels = np.rot90(pixels)
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack((y1, size - x2, y2, size - x1), axis=1)
    if rng.integers(2):
        pixels = pixels[:, ::-1]
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack((size - x2, y1, size - x1, y2), axis=1)
    mean = pixels.mean(dtype=np.float64)
    light = rng.uniform(-25, 25) + rng.uniform(-10, 10, 3)
    pixels = (pixels - mean) * rng.uniform(0.75, 1.25) + mean + light
    return np.rint(pixels).clip(0, 255).astype(np.uint8), boxes
