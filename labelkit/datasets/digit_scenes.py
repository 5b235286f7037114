"""The course's unlimited data: handwritten digits at 4 to 48 pixels in photographs, made in memory from a seed.

A composite, and the text that shows it should say so: the digits and the photographs are real, the scene is not, and
the boxes are exact by construction. Sources and licences: data/README.md.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from labelkit.datasets.base import DetectionDataset, Target, Transform, make_target
from labelkit.extras import explained

BACKGROUNDS = {  # names in skimage.data; only photographs that its docstrings call CC0, public domain or unrestricted
    "train": (
        "astronaut", "brick", "camera", "chelsea", "coins", "grass", "hubble_deep_field", "immunohistochemistry",
    ),
    "test": ("cell", "coffee", "gravel", "retina", "rocket"),
}  # fmt: skip
DEFAULTS = {"train": (1500, 0), "test": (150, 77)}  # number of images, seed
FIRST_TEST_DIGIT = 1297  # of 1797; no scan, and hardly a writer, is in both splits
INK = 0.15  # a pixel of the 8 x 8 scan above this share of full ink belongs to the digit
SIZE_RANGE = (4.0, 48.0)  # px, sqrt(width * height)
CONTRAST = (0.12, 0.5)  # of the full scale, against the mean of the background under the digit
NOISE = 8.0  # grey levels, standard deviation
MAX_OVERLAP = 0.05  # intersection over the smaller box
TRIES = 20  # positions tried before a digit is left out


def digits(
    split: str = "train",
    n: int | None = None,
    seed: int | None = None,
    *,
    image_size: int = 128,
    objects: float = 12.0,
    mean_size: float = 12.8,
    sd_size: float = 5.9,
    transforms: Transform | None = None,
) -> DetectionDataset:
    """`n` square images with a Poisson number of digits (mean `objects`), one class; `split` is "train" or "test".

    Without `n` and `seed`: 1500 training images of seed 0, 150 test images of seed 77. A digit's size, the square
    root of width times height, is lognormal with the given mean and standard deviation in pixels (AI-TOD's are 12.8
    and 5.9), cut to 4..48. Image i depends on seed and i only: a smaller set is the beginning of a larger one.
    """
    if split not in BACKGROUNDS:
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    n, seed = (DEFAULTS[split][k] if value is None else value for k, value in enumerate((n, seed)))
    if n < 0 or image_size < 2 * SIZE_RANGE[1] or objects < 0 or mean_size <= 0 or sd_size <= 0:
        raise ValueError(
            f"n and objects must not be negative, image_size at least {2 * SIZE_RANGE[1]:.0f}, mean_size and sd_size "
            f"positive, got n={n}, objects={objects}, image_size={image_size}, {mean_size=}, {sd_size=}"
        )
    images = np.empty((n, image_size, image_size, 3), dtype=np.uint8)
    targets: list[Target] = []
    variance = np.log1p((sd_size / mean_size) ** 2)
    for index in range(n):
        rng = np.random.default_rng((seed, list(BACKGROUNDS).index(split), index))
        scene = _background(split, image_size, rng)
        sizes = np.exp(rng.normal(np.log(mean_size) - variance / 2, np.sqrt(variance), rng.poisson(objects)))
        boxes = _paste_digits(scene, np.clip(sizes, *SIZE_RANGE), _scans(split), rng)
        scene += NOISE * rng.standard_normal(scene.shape, dtype=np.float32)
        images[index] = np.rint(scene, out=scene).clip(0, 255, out=scene)
        box_tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        targets.append(make_target(box_tensor, labels, index, (image_size, image_size)))
    return DetectionDataset(torch.from_numpy(images).permute(0, 3, 1, 2), targets, ("digit",), transforms)


@lru_cache
def _photographs(split: str) -> tuple[Image.Image, ...]:
    with explained():
        from skimage import data

    return tuple(Image.fromarray(getattr(data, name)()).convert("RGB") for name in BACKGROUNDS[split])


@lru_cache
def _scans(split: str) -> tuple[Image.Image, ...]:
    """The digits of one split as grey images 0..255, cut to their ink."""
    with explained():
        from sklearn.datasets import load_digits

    scans = load_digits().images / 16
    cut = []
    for scan in scans[:FIRST_TEST_DIGIT] if split == "train" else scans[FIRST_TEST_DIGIT:]:
        rows, columns = np.nonzero(scan > INK)
        ink = scan[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        cut.append(Image.fromarray((255 * ink).round().astype(np.uint8)))
    return tuple(cut)


def _background(split: str, size: int, rng: np.random.Generator) -> Float32[np.ndarray, "size size 3"]:
    """A window of a photograph of the split, shrunk by a factor of 1 to 2, in one of the 8 symmetries."""
    photographs = _photographs(split)
    photo = photographs[rng.integers(len(photographs))]
    side = min(size * rng.uniform(1, 2), *photo.size)
    x, y = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    window = photo.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))
    turned = np.rot90(np.asarray(window, dtype=np.float32), int(rng.integers(4)))
    return np.ascontiguousarray(turned if rng.integers(2) else turned[:, ::-1])


def _paste_digits(
    scene: Float32[np.ndarray, "H W 3"],
    sizes: np.ndarray,
    scans: tuple[Image.Image, ...],
    rng: np.random.Generator,
) -> list[tuple[int, int, int, int]]:
    """Draw one digit a size into `scene`, in place, where it hardly overlaps the earlier ones; return the boxes."""
    boxes: list[tuple[int, int, int, int]] = []
    for size in sizes:
        scan = scans[rng.integers(len(scans))]
        stretch = (scan.width / scan.height) ** 0.5
        width, height = max(1, round(size * stretch)), max(1, round(size / stretch))
        box = _free_box(width, height, scene.shape, boxes, rng)
        if box is None:
            continue
        x1, y1, x2, y2 = box
        under = scene[y1:y2, x1:x2]
        shift = 255 * rng.uniform(*CONTRAST)
        colour = under.mean(axis=(0, 1), dtype=np.float64)  # exact for whole numbers: the same on every processor
        mean = float(colour.sum()) / 3
        lighter = rng.random() < 0.5 if shift <= mean <= 255 - shift else mean < 127.5
        colour += shift if lighter else -shift
        ink = np.asarray(scan.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)[..., None] / 255
        under += ink * (colour - under)
        boxes.append(box)
    return boxes


def _free_box(
    width: int,
    height: int,
    shape: tuple[int, ...],
    boxes: list[tuple[int, int, int, int]],
    rng: np.random.Generator,
) -> tuple[int, int, int, int] | None:
    """A random place inside the image that overlaps no earlier box by more than `MAX_OVERLAP`, or None."""
    for _ in range(TRIES):
        x, y = int(rng.integers(shape[1] - width + 1)), int(rng.integers(shape[0] - height + 1))
        for x1, y1, x2, y2 in boxes:
            overlap = max(0, min(x2, x + width) - max(x1, x)) * max(0, min(y2, y + height) - max(y1, y))
            if overlap >= MAX_OVERLAP * min((x2 - x1) * (y2 - y1), width * height):
                break
        else:
            return x, y, x + width, y + height
    return None
