"""VisDrone-DET's and WIDER FACE's own text files, read into a COCO dict that `CocoFolder` and `check_coco` take.

A malformed line is a `ValueError` that names file and line, all of them at once. Boxes are not judged here (both sets
contain some of zero size): `check_coco` reports those.
"""

from __future__ import annotations

import os
from pathlib import Path

from labelkit.datasets.pixels import SUFFIXES
from labelkit.datasets.text_files import (
    Lines,
    add_box,
    files_in,
    image_entry,
    pictures_in,
    read_lines,
    refuse_shared_labels,
    refuse_unreadable,
)

VISDRONE_CLASSES = (
    "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor",
)  # fmt: skip
_REGION, _OTHERS = 0, 11  # VisDrone's categories that are no class: ignored regions, and "others"


def read_visdrone(images: str | os.PathLike, annotations: str | os.PathLike) -> dict:
    """VisDrone-DET: one `NAME.txt` beside each image `NAME.jpg`, a line for each box, as a COCO dict.

    A line is `x,y,width,height,score,category,truncation,occlusion`. Categories 1..10 keep their ids. Score 0 means
    ignored: iscrowd 1. An ignored region (category 0) counts for every class, so it becomes one crowd box in each of
    the ten. "Others" (category 11) belong to no class of the benchmark: left out, and counted in
    `info["left_out"]`. An image without text file, the other way round, or two images of one name (`0.jpg` and
    `0.png`) are an error that names them.
    """
    images, annotations = Path(images), Path(annotations)
    found = pictures_in(images)
    refuse_shared_labels((path, annotations / f"{path.stem}.txt") for path in found)
    pictures = {path.stem: path for path in found}
    texts = {path.stem: path for path in files_in(annotations, "*.txt")}
    if alone := sorted(pictures.keys() ^ texts.keys()):
        missing = [f"{name}: {'no text file' if name in pictures else 'no image'}" for name in alone]
        raise ValueError(f"{images} and {annotations} do not pair up:\n" + "\n".join(missing))
    categories = [{"id": label, "name": name} for label, name in enumerate(VISDRONE_CLASSES, start=1)]
    left_out = {"others": 0}
    coco: dict = {"info": {"left_out": left_out}, "images": [], "categories": categories, "annotations": []}
    lines = Lines()
    for image_id, (name, picture) in enumerate(pictures.items(), start=1):
        coco["images"].append(image_entry(image_id, picture, picture.name))
        for number, line in enumerate(read_lines(texts[name]), start=1):
            if not line.strip():
                continue
            values = lines.integers(texts[name], number, line, ",", 6)
            if values is None:
                continue
            bbox, score, category = values[:4], values[4], values[5]
            if category == _REGION:
                for label in range(1, len(VISDRONE_CLASSES) + 1):
                    add_box(coco, image_id, label, bbox, 1)
            elif category == _OTHERS:
                left_out["others"] += 1
            elif 1 <= category <= len(VISDRONE_CLASSES) and score in (0, 1):
                add_box(coco, image_id, category, bbox, 1 - score)
            else:
                lines.complain(texts[name], number, f"category must be 0..11 and score 0 or 1, got {category}, {score}")
    lines.raise_if_any()
    refuse_unreadable(coco, images)
    return coco


def read_wider_face(images: str | os.PathLike, annotations: str | os.PathLike) -> dict:
    """WIDER FACE: `wider_face_train_bbx_gt.txt` and the like, as a COCO dict with one category, "face".

    For each image: its path below `images`, the number of faces, then a line for each face,
    `x y width height blur expression illumination invalid occlusion pose`. `invalid` 1 means ignored: iscrowd 1.
    An image with 0 faces is followed by one line of zeros.
    """
    images, path = Path(images), Path(annotations)
    text = read_lines(path)
    coco: dict = {"images": [], "categories": [{"id": 1, "name": "face"}], "annotations": []}
    lines = Lines()
    at = 0
    while at < len(text):
        file_name = text[at].strip()
        if not file_name:
            at += 1
            continue
        if Path(file_name).suffix.lower() not in SUFFIXES:
            lines.complain(path, at + 1, f"expected the path of an image, got {file_name!r}")
            break  # out of step: what follows would be complaints about nothing
        counted = lines.integers(path, at + 2, text[at + 1] if at + 1 < len(text) else "", None, 1)
        if counted is None:
            break
        count = counted[0]
        rows = text[at + 2 : at + 2 + max(count, 1)]
        if count < 0 or len(rows) < count:
            lines.complain(path, at + 2, f"{count} faces announced, {len(rows)} lines follow")
            break
        image_id = len(coco["images"]) + 1
        coco["images"].append(image_entry(image_id, images / file_name, file_name))
        for number, row in enumerate(rows[:count], start=at + 3):
            values = lines.integers(path, number, row, None, 8)
            if values is not None:
                add_box(coco, image_id, 1, values[:4], int(values[7] != 0))
        zeros = count == 0 and bool(rows) and not any(value != "0" for value in rows[0].split())
        at += 2 + (count or int(zeros))
    lines.raise_if_any()
    refuse_unreadable(coco, images)
    return coco
