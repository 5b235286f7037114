"""Tree crowns whose annotations have been spoilt on purpose, for exercise 19.5, and what was done to them.

Four faults, as they happen to real files: the boxes of one tile belong to the picture at half its size, those of
another hold corners where sizes belong, some crowns were annotated twice, and some boxes are specks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from labelkit import datasets

TILE = 128
DUPLICATES, SPECKS, NEIGHBOURS = 12, 8, 10
SHAKEN = 0.6  # px by which each side of a crown that was annotated twice may be off
APART = 0.4  # widths from a crown to a neighbour that stands half under it
SMALLEST_TWICE, SMALLEST_ABOVE = 6, 10  # px: two annotations of one crown overlap by 0.64 or more, two crowns by 0.43
SPOILT = (8, 30)  # crowns on a tile that is spoilt as a whole
LARGEST = 16  # px, their median side: at half scale they are smaller than others

Boxes = dict[int, np.ndarray]  # image id -> [G, 4], xyxy


@dataclass(frozen=True)
class Broken:
    """coco: the data set. crowns: the true boxes of each image. kinds: annotation id -> fault, where there is one; of
    two annotations of one crown, the one that was added. twins: that one's id -> the id of the other."""

    coco: dict[str, Any]
    crowns: Boxes
    kinds: dict[int, str]
    twins: dict[int, int]


def broken_dataset(seed: int) -> dict[str, Any]:
    """The crowns of the 42 test tiles as a COCO dict with faults in it; another seed spoils others.

    Ten crowns that are no fault have been added: each stands 0.4 of its width beside another, and half under it.
    Boxes are [x, y, width, height] in pixels, or should be. Which ones are not is for you to find.
    """
    return broken(seed).coco


def broken(seed: int) -> Broken:
    """The data set of a seed together with what is wrong with it."""
    draw = np.random.default_rng((seed, 195))
    crowns = _crowns(draw)
    fit = [image for image, boxes in crowns.items() if SPOILT[0] <= len(boxes) <= SPOILT[1] and _shows(boxes)]
    half, corners = draw.choice(fit, 2, replace=False).tolist()
    others = [place for place in _at_least(crowns, SMALLEST_TWICE) if place[0] not in (half, corners)]
    rows = []  # (image, box as it is written, fault, the row it doubles)
    for image, boxes in crowns.items():
        for box in boxes:
            written = box.tolist() if image == corners else _written(box / 2 if image == half else box)
            rows.append((image, written, {half: "half", corners: "corners"}.get(image, ""), None))
    first: dict[int, int] = {}
    for index, (image, *_) in enumerate(rows):
        first.setdefault(image, index)
    for which in draw.choice(len(others), DUPLICATES, replace=False):
        image, k = others[which]
        shaken = (crowns[image][k] + draw.uniform(-SHAKEN, SHAKEN, 4)).clip(0, TILE)
        rows.append((image, _written(shaken), "duplicate", first[image] + k))
    for which in draw.choice(len(others), SPECKS, replace=False):
        image, k = others[which]
        x1, y1, x2, y2 = crowns[image][k]
        corner = [draw.uniform(x1, (x1 + x2) / 2), draw.uniform(y1, (y1 + y2) / 2)]
        rows.append((image, [*corner, *draw.uniform(0.2, 0.9, 2)], "speck", None))
    return _as_coco(rows, crowns, draw)


def clean(corner_of: tuple[int, ...] = ()) -> Broken:
    """The same crowns with nothing wrong; of the tiles `corner_of` only those in the upper left quarter, as if the
    forest ended there."""
    draw = np.random.default_rng(195)
    crowns = _crowns(draw)
    for image in corner_of:
        crowns[image] = crowns[image][(crowns[image][:, 2:] <= TILE / 2).all(axis=1)]
    return _as_coco([(image, _written(box), "", None) for image in crowns for box in crowns[image]], crowns, draw)


def _crowns(draw: np.random.Generator) -> Boxes:
    """The true boxes, with the neighbours that stand half under another."""
    targets = datasets.neon_trees("test", fold=None).targets
    crowns = {target["image_id"]: target["boxes"].double().numpy().round(2) for target in targets}
    above = _at_least(crowns, SMALLEST_ABOVE)
    for which in draw.choice(len(above), NEIGHBOURS, replace=False):
        image, k = above[which]
        x1, y1, x2, y2 = crowns[image][k]
        aside = round(APART * (x2 - x1), 2) * (1 if x2 + APART * (x2 - x1) <= TILE else -1)
        crowns[image] = np.concatenate((crowns[image], [[x1 + aside, y1, x2 + aside, y2]]))
    return crowns


def _at_least(crowns: Boxes, side: float) -> list[tuple[int, int]]:
    """(image id, index) of the crowns whose sides are that long or longer."""
    sizes = {image: boxes[:, 2:] - boxes[:, :2] for image, boxes in crowns.items()}
    return [(image, k) for image, size in sizes.items() for k in np.flatnonzero(size.min(axis=1) >= side).tolist()]


def _shows(boxes: np.ndarray) -> bool:
    """Whether a tile, spoilt as a whole, can be told from one that is not: crowns in all four quarters, none of which
    is so large that they would pass for others at half the size."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 > TILE / 2
    side = np.median((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) ** 0.5)
    return len(np.unique(middle, axis=0)) == 4 and bool(side <= LARGEST)


def _written(box: np.ndarray) -> list[float]:
    """Corners as COCO writes a box."""
    return [*box[:2], *(box[2:] - box[:2])]


def _as_coco(rows: list[tuple], crowns: Boxes, draw: np.random.Generator) -> Broken:
    """The rows in a random order within each image, so that neither place nor id says which was added."""
    order = sorted(draw.permutation(len(rows)).tolist(), key=lambda index: rows[index][0])
    ids = {index: number for number, index in enumerate(order, 1)}
    annotations = []
    for index in order:
        image, box, _, _ = rows[index]
        bbox = [round(float(value), 2) for value in box]
        area = round(bbox[2] * bbox[3], 2)
        record = {"id": ids[index], "image_id": image, "category_id": 1, "bbox": bbox, "area": area, "iscrowd": 0}
        annotations.append(record)
    images = [{"id": image, "file_name": f"tile_{image:02}.png", "width": TILE, "height": TILE} for image in crowns]
    coco = {"images": images, "categories": [{"id": 1, "name": "tree"}], "annotations": annotations}
    return Broken(
        coco,
        crowns,
        {ids[index]: fault for index, (_, _, fault, _) in enumerate(rows) if fault},
        {ids[index]: ids[other] for index, (_, _, _, other) in enumerate(rows) if other is not None},
    )
