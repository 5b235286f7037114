"""The course's sky: some 2,000 objects in one real photograph, most of them a few pixels wide; boxes by computation.

The Hubble eXtreme Deep Field (NASA, public domain), 1000 x 872 pixels, as scikit-image carries it. Nobody drew its
boxes: they are what a threshold and a watershed find. Consistent, but no expert's truth; where two galaxies touch, the
watershed decides. One picture has one split: three seeds say how much training varies, and nothing of another sky.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from scipy import ndimage

from labelkit.datasets.base import DetectionDataset, Target, Transform, make_target
from labelkit.datasets.tree_crowns import window_boxes
from labelkit.extras import explained

BORDER = 600  # px: left of this column the picture trains, from it on it tests
BACKGROUND = 41  # px, side of the square whose median is the background
SMOOTHING = 1.0  # px, standard deviation
ABOVE = 14  # grey levels over the background: an object's pixel
RISE = 8  # grey levels that a maximum stands out by: one object each
LEAST_AREA, LEAST_SIDE = 9, 3  # px; smaller is noise
STEPS = 16  # parts of a grey level that the smoothed signal is rounded to, so that every processor sees the same


def deep_field(split: str = "train", *, tile: int = 200, transforms: Transform | None = None) -> DetectionDataset:
    """`tile` x `tile` windows of the Hubble eXtreme Deep Field, one class "galaxy" (a few are stars).

    "whole": the picture as it is. "train": left of column 600, columns of tiles from the upper to the lower edge, where
    the last overlaps the one above it: 15 tiles. "test": right of it, tiles side by side, so that each object counts
    once: 8 tiles.
    A box cut by a tile's border keeps its visible part if that is at least half of it, and is dropped otherwise.

    The boxes: the brightest colour of a pixel, less the median of the 41 px around it, smoothed by 1 px. Where that is
    above 14 grey levels there is an object; every maximum that rises by 8 is the seed of one, and a watershed divides
    what touches. Regions of at least 9 px whose box has sides of at least 3 px are kept: 2,023, half of them 5.5 px
    (root of width times height) or less.
    """
    if split not in ("train", "test", "whole"):
        raise ValueError(f'split must be "train", "test" or "whole", got {split!r}')
    pixels, boxes = _picture()
    height, width = pixels.shape[:2]
    targets: list[Target] = []
    if split == "whole":
        targets = [make_target(torch.from_numpy(boxes), torch.zeros(len(boxes)), 0, (height, width))]
        return DetectionDataset(torch.from_numpy(pixels).permute(2, 0, 1)[None], targets, ("galaxy",), transforms)
    if not 1 <= tile <= width - BORDER:
        raise ValueError(f"tile must lie in [1, {width - BORDER}], the width of the smaller part, got {tile}")
    begin, end = (0, BORDER) if split == "train" else (BORDER, width)
    rows = list(range(0, height - tile + 1, tile))
    if split == "train" and rows[-1] + tile < height:
        rows.append(height - tile)
    windows: list[np.ndarray] = []
    for y in rows:
        for x in range(begin, end - tile + 1, tile):
            inside = torch.from_numpy(window_boxes(boxes, (x, y, x + tile, y + tile)))
            targets.append(make_target(inside, torch.zeros(len(inside)), len(windows), (tile, tile)))
            windows.append(pixels[y : y + tile, x : x + tile])
    images = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)
    return DetectionDataset(images, targets, ("galaxy",), transforms)


@lru_cache
def _picture() -> tuple[UInt8[np.ndarray, "H W 3"], Int64[np.ndarray, "G 4"]]:
    """The photograph, and the boxes of all its objects, xyxy."""
    with explained():
        from skimage.data import hubble_deep_field
        from skimage.filters.rank import median
        from skimage.morphology import h_maxima
        from skimage.segmentation import watershed

    pixels = hubble_deep_field()
    brightest = pixels.max(axis=-1)
    over = brightest - median(brightest, np.ones((BACKGROUND, BACKGROUND), dtype=bool)).astype(np.float64)
    signal = np.rint(STEPS * ndimage.gaussian_filter(over, SMOOTHING)).astype(np.int32)
    bright = signal > STEPS * ABOVE
    seeds, _ = ndimage.label(h_maxima(signal, STEPS * RISE) & bright, np.ones((3, 3)))
    regions = watershed(-signal, seeds, mask=bright)
    found = [(across.start, down.start, across.stop, down.stop) for down, across in ndimage.find_objects(regions)]
    boxes = np.array(found, dtype=np.int64)
    area = np.bincount(regions.ravel(), minlength=len(boxes) + 1)[1:]
    sides = boxes[:, 2:] - boxes[:, :2]
    return pixels, boxes[(area >= LEAST_AREA) & (sides.min(axis=1) >= LEAST_SIDE)]
