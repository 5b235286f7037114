"""YOLO's text files: a data.yaml that names folders and classes, and a line for each box, as a COCO dict.

Sizes and positions are shares of the picture **as it is shown**, turned by its EXIF orientation, as in Ultralytics.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from labelkit.datasets.pixels import SUFFIXES
from labelkit.datasets.text_files import (
    Lines,
    add_box,
    files_in,
    folders_below,
    image_entry,
    pictures_in,
    read_lines,
    refuse_shared_labels,
    refuse_unreadable,
)

SPLITS = ("train", "val", "test")
BEYOND = 0.01  # by which a share may leave 0..1: rounding in the file; the box is clipped afterwards


class Description(NamedTuple):
    """What a data.yaml says. `splits` lists the pictures' folders, or text files that list pictures, by split.

    `missing` holds, by split, the sentence on a place that is named and not there.
    """

    path: Path
    names: dict[int, str]
    splits: dict[str, list[Path]]
    missing: dict[str, str]
    keypoints: bool


def read_description(path: str | os.PathLike) -> Description:
    """Read a data.yaml: `path` (optional), `train`, `val`, `test` (a path or a list), `names` (a list or a dict).

    Paths are looked for below `path`, below `path` beside the file, and beside the file; a leading `../` that leads
    nowhere is left out, as Ultralytics does for Roboflow's files.

    Raises:
        ValueError: no YAML, no usable names, or not one split whose folder is found; the places tried are named.
    """
    path = Path(path)
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold train, val and names, got {content!r}")
    stated = content.get("path")
    roots = [path.parent] if stated is None else [path.parent / str(stated), path.parent]
    splits: dict[str, list[Path]] = {}
    missing: dict[str, str] = {}
    for split in SPLITS:
        named = content.get(split) or (content.get("valid") if split == "val" else None) or []
        try:
            places = [_find(str(entry), roots) for entry in (named if isinstance(named, list) else [named])]
        except ValueError as error:
            missing[split] = f"{path}: {split}: {error}"
        else:
            if places:
                splits[split] = places
    if not splits:
        raise ValueError("\n".join(missing.values()) or f"{path}: names neither train, nor val, nor test")
    return Description(path, _names(path, content.get("names")), splits, missing, bool(content.get("kpt_shape")))


def _read_yaml(path: Path) -> Any:
    import yaml

    class Once(yaml.SafeLoader):
        """A key that stands there twice is an error, as YAML has it; PyYAML takes the last in silence."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value]
            if twice := next((key for key in keys if keys.count(key) > 1), None):
                raise ValueError(f"{twice!r} stands there twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Once)
    except (yaml.YAMLError, ValueError) as error:  # also of a date that is none
        raise ValueError(f"{path}: not YAML: {error}") from error


def read_yolo(description: str | os.PathLike | Description, split: str = "train") -> tuple[Path, dict]:
    """One split as (the folder that file names are relative to, COCO dict).

    A label file lies where `images` in the picture's path is replaced by `labels` (or beside the picture, where no
    folder is called so), named as the picture. Its lines are `class x y width height`, centre and size, or
    `class x1 y1 x2 y2 x3 y3 ...`, a polygon, whose bounding box is taken; where the YAML has `kpt_shape`, keypoints
    after the box are left out. A picture without label file shows no object, as YOLO has it; how many there are stands
    in `info["without_labels"]`, and in `info["without_picture"]` the label files beside which no picture is. Category
    ids are classes + 1. A picture that can't be read has no size: the check drops it.

    Raises:
        ValueError: malformed lines, each named by file and line; two pictures that share a label file; a split that
            the description doesn't have, without pictures, or without a single label file.
    """
    if not isinstance(description, Description):
        description = read_description(description)
    if split in description.missing:
        raise ValueError(description.missing[split])
    if split not in description.splits:
        raise ValueError(f"{description.path}: has no {split!r}, only {', '.join(description.splits) or 'no split'}")
    places = description.splits[split]
    pictures = list(dict.fromkeys(picture for entry in places for picture in _pictures(entry)))
    if not pictures:
        raise ValueError(f"{description.path}: {split}: no picture in {', '.join(map(str, places))}")
    texts = [_label_file(picture) for picture in pictures]
    refuse_shared_labels(zip(pictures, texts, strict=True))
    without = sum(not text.is_file() for text in texts)
    if without == len(texts):
        raise ValueError(
            f"{description.path}: {split}: not one of {len(texts)} pictures has a label file, such as {texts[0]}"
        )
    root = Path(os.path.commonpath([picture.parent for picture in pictures]))
    categories = [{"id": label + 1, "name": name} for label, name in sorted(description.names.items())]
    info: dict[str, Any] = {"without_labels": without}
    if alone := _without_picture(places, texts):
        info["without_picture"] = alone
    coco: dict = {"info": info, "images": [], "categories": categories, "annotations": []}
    lines = Lines()
    for image_id, (picture, text) in enumerate(zip(pictures, texts, strict=True), start=1):
        entry = image_entry(image_id, picture, picture.relative_to(root).as_posix())
        coco["images"].append(entry)
        for number, line in enumerate(read_lines(text) if text.is_file() else [], start=1):
            box = _box(line, text, number, description, lines) if line.strip() else None
            if box is not None:
                label, (x1, y1, x2, y2) = box
                width, height = entry.get("width", 1), entry.get("height", 1)
                bbox = (x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height)
                add_box(coco, image_id, label + 1, bbox, 0)
    lines.raise_if_any()
    refuse_unreadable(coco, root)
    return root, coco


def _names(path: Path, names: Any) -> dict[int, str]:
    pairs = (
        list(names.items()) if isinstance(names, dict) else list(enumerate(names)) if isinstance(names, list) else []
    )
    if not pairs or not all(isinstance(label, int) and label >= 0 for label, _ in pairs):
        raise ValueError(f"{path}: names must be a list of names, or class numbers with names, got {names!r}")
    return {label: str(name) for label, name in pairs}


def _find(entry: str, roots: list[Path]) -> Path:
    shorter = [entry.removeprefix("../")] if entry.startswith("../") else []
    tried = [root / name for root in roots for name in (entry, *shorter)]
    for place in tried:
        if place.exists():
            return Path(os.path.normpath(place))
    raise ValueError(f"{entry} is not found; looked for {', '.join(map(str, tried))}")


def _pictures(entry: Path) -> list[Path]:
    """The pictures of a folder, those of the folders below it too, or those that a text file lists."""
    if entry.is_dir():
        return [picture for folder in folders_below(entry) for picture in pictures_in(folder)]
    if entry.suffix.lower() in SUFFIXES:
        return [entry]
    listed = [line.strip() for line in read_lines(entry) if line.strip()]
    return [Path(os.path.normpath(entry.parent / name)) for name in listed]


def _without_picture(places: list[Path], texts: list[Path]) -> list[str]:
    """The label files in folders of labels beside which no picture is, or none that labelkit reads."""
    folders = [folder for place in places if place.is_dir() for folder in folders_below(place)]
    apart = dict.fromkeys(_label_file(folder / "x").parent for folder in folders)
    there = [text for folder in apart if folder not in folders for text in files_in(folder, "*.txt")]
    known = {*texts, *(text.with_name("classes.txt") for text in there)}  # that one lists the names
    return [str(text) for text in there if text not in known]


def _label_file(picture: Path) -> Path:
    """Where `labels` stands for the last `images` of the path, unless there is only one beside the picture."""
    beside = picture.with_suffix(".txt")
    parts = list(beside.parts)
    at = next((index for index in range(len(parts) - 2, -1, -1) if parts[index] == "images"), None)
    if at is None:
        return beside
    apart = Path(*parts[:at], "labels", *parts[at + 1 :])
    return beside if beside.is_file() and not apart.is_file() else apart


def _box(
    line: str, path: Path, number: int, description: Description, lines: Lines
) -> tuple[int, tuple[float, float, float, float]] | None:
    """The class and x1, y1, x2, y2 as shares of the picture; None after a complaint."""
    try:
        label, *values = map(float, line.split())
    except ValueError:
        label, values = -1.0, []
    if description.keypoints:
        values = values[:4]
    problem = None
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        problem = f"expected class x y width height, or class and the points of a polygon, got {line.strip()!r}"
    elif label not in description.names:
        problem = f"class must be one of {', '.join(map(str, description.names))}, got {label:g}"
    elif not all(-BEYOND <= value <= 1 + BEYOND for value in values):
        problem = f"positions and sizes must be shares of the picture, 0..1, got {line.strip()!r}"
    if problem:
        lines.complain(path, number, problem)
        return None
    if len(values) == 4:
        x, y, width, height = values
        return int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return int(label), (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
