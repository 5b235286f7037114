"""COCO-format annotations, checked: every fault is found, named by file, id and value, and nothing is lost silently."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.datasets.image_files import ImageFiles
from labelkit.datasets.report import Fault, InvalidAnnotations, Problem, Report

LONGEST = 10**6  # px that a picture's side may be said to have: far beyond what is taken in tiles
TOLERANCE = 0.1  # px by which a box may pass the border: rounding in the file, cut without a word
_SAME = {"category": ("name",), "image": ("file_name", "width", "height")}  # records that agree in these are one


def load_coco(path: str | os.PathLike) -> dict:
    """Read the JSON of an annotation file; one that is no JSON object is a `ValueError` with name and line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # -sig: with or without a byte order mark
        coco = json.loads(text, object_pairs_hook=of_pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}; was the file cut short?") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in lists without end
        raise ValueError(f"{path}: cannot be read: {error}") from error
    return _object(coco, str(path))


def of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that stands there twice is a `ValueError`, for `json` itself takes the last in silence."""
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} stands twice in the object that begins {str(record)[:80]}")
    return record


def check_coco(
    coco: Any,
    images: str | os.PathLike | None = None,
    *,
    file: str = "annotations",
    strict: bool = False,
    decode: bool = False,
    white: float | None = None,
) -> tuple[dict, Report]:
    """A clean copy of a COCO dict, with the report of what was wrong; `strict` raises `InvalidAnnotations` instead.

    **Dropped**: a record without usable references (ids that are no integers, two images or two categories of one id,
    an unknown or dropped category or image), a box that is not finite, of no size (after the cast to float32, which
    is what a detector gets) or outside its image, and, where `images` names the folder, an image whose file is
    missing, unreadable or of another size than stated. A dropped image takes its annotations with it; each is counted.
    **Repaired**: what no detector needs costs no object its life. An annotation's id that is missing, no integer or
    used before is renumbered; an area that is no number becomes width times height; an `iscrowd` that is neither 0
    nor 1 becomes 0; a category without name is called by its id; an image without size has that of its file.
    **Clipped**: a box that passes the border.

    Image files are opened, which reads their header; `decode=True` reads every pixel and also finds files cut short.
    `white` is `read_picture`'s. The copy's annotations hold id, image_id, category_id, bbox, area and iscrowd; a
    missing area is width times height, a missing iscrowd 0, and `ignore: 1` becomes iscrowd 1.
    """
    _object(coco, file)
    for key in ("images", "categories", "annotations"):
        if not isinstance(coco.get(key), list):
            raise ValueError(f'{file}: "{key}" must be a list, got {type(coco.get(key)).__name__}')
    report = Report()
    files = None if images is None else ImageFiles(Path(images), file, report, decode=decode, white=white)
    check = Check(file, files, report)
    check.records(coco["categories"], coco["images"])
    highest = max((number for number in map(id_of, coco["annotations"]) if number is not None), default=0)
    annotations = list(check.annotations(coco["annotations"], highest))
    report.annotations = len(annotations), len(coco["annotations"])
    if strict and report.problems:
        raise InvalidAnnotations(report)
    clean = {"images": list(check.images.values()), "categories": list(check.categories.values())}
    return clean | {"annotations": annotations}, report


def _object(coco: Any, file: str) -> dict:
    if not isinstance(coco, dict):
        raise ValueError(f"{file}: must hold an object with images, categories, annotations, got {type(coco).__name__}")
    return coco


def corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """x, y, width, height as the x1, y1, x2, y2 that a detector gets: added in float64, rounded to float32 once."""
    x, y, width, height = bbox
    x1, y1, x2, y2 = (float(np.float32(value)) for value in (x, y, x + width, y + height))
    return x1, y1, x2, y2


def whole(value: Any) -> int | None:
    """An integer, also when it is written 64.0; None for anything else, truth values and texts too."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _flag(value: Any) -> int | None:
    """0 or 1, also when it is written true, 1.0 or "1"; None for anything else."""
    return next((flag for flag in (0, 1) if value == flag or value == str(flag)), None)


def id_of(record: Any) -> int | None:
    return whole(record.get("id")) if isinstance(record, dict) else None


class Check:
    """One pass over the three lists. A method checks one record: it returns the clean record or raises `Fault`."""

    def __init__(self, file: str, files: ImageFiles | None, report: Report) -> None:
        self.file, self.files, self.report = file, files, report
        self.categories: dict[int, dict] = {}
        self.images: dict[int, dict] = {}
        self.listed: dict[str, set[int]] = {}  # ids of the file, kept or not

    def records(self, categories: list, images: list) -> None:
        """The categories and images first: annotations refer to them."""
        self.categories = self.by_id("category", categories, self.category)
        self.images = self.by_id("image", images, self.image)
        if self.files is not None:
            self.files.darkness()
        self.report.images = len(self.images), len(images)

    def by_id(self, what: str, records: list, check: Callable[[int, dict, str], dict]) -> dict[int, dict]:
        """The clean records by id. Of two that share an id nobody knows which one is meant: both are dropped."""
        groups: dict[int, list[tuple[int, dict]]] = {}
        for index, record in enumerate(records):
            if not isinstance(record, dict):
                self._problem(f"{what} #{index}", "wrong type", f"must be an object, got {record!r}")
            elif (number := whole(record.get("id"))) is None:
                self._problem(f"{what} #{index}", "wrong type", f"id must be an integer, got {record.get('id')!r}")
            else:
                groups.setdefault(number, []).append((index, record))
        self.listed[what] = set(groups)
        clean = {}
        for number, group in groups.items():
            if self._ambiguous(what, number, group):
                continue
            name = f"{what} id {number}"
            try:
                clean[number] = check(number, group[0][1], name)
            except Fault as fault:
                self._problem(name, fault.kind, str(fault))
        return clean

    def _ambiguous(self, what: str, number: int, group: list[tuple[int, dict]]) -> bool:
        contents = [tuple(record.get(key) for key in _SAME[what]) for _, record in group]
        if all(content == contents[0] for content in contents):
            for index, _ in group[1:]:
                message = "the same record stands in the file twice: taken once"
                self._problem(f"{what} id {number} (#{index})", "listed twice", message, "repaired")
            return False
        names = " and ".join(repr(content[0]) for content in contents)
        for index, _ in group:
            message = f"{number} is the id of {names}: nobody knows which one its annotations mean"
            self._problem(f"{what} id {number} (#{index})", "duplicate id", message)
        return True

    def category(self, number: int, record: dict, name: str) -> dict:
        called = record.get("name")
        if not isinstance(called, str) or not called:
            self._problem(
                name, "name repaired", f"name must be a text, got {called!r}; called {str(number)!r}", "repaired"
            )
            called = str(number)
        return {"id": number, "name": called}

    def image(self, number: int, record: dict, name: str) -> dict:
        file_name = record.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            raise Fault("wrong type", f"file_name must be a text, got {file_name!r}")
        width, height = whole(record.get("width")), whole(record.get("height"))
        size = (width, height) if width and height and 0 < width <= LONGEST and 0 < height <= LONGEST else None
        found = f"{record.get('width')!r}, {record.get('height')!r}"
        said = f"width and height must be positive integers, {LONGEST} at most, got {found}"
        if self.files is not None:
            file_name, size = self.files.check(name, file_name, size, said)
        if size is None:
            raise Fault("wrong type", said)
        return {"id": number, "file_name": file_name, "width": size[0], "height": size[1]}

    def annotations(self, records: Iterable, highest: int) -> Iterator[dict]:
        """The clean records, one after another. An id that has to be replaced is counted on from `highest`."""
        fresh = count(highest + 1)
        used: set[int] = set()
        for index, record in enumerate(records):
            number = id_of(record)
            usable = number is not None and number not in used
            name = f"annotation id {number}" if usable else f"annotation #{index}"
            try:
                fields = self._annotation(record, name)
            except Fault as fault:
                self._problem(name, fault.kind, str(fault))
                self.report.became_background += self._was_seen(record, fault)
                continue
            if number is None or not usable:
                reason = "is no integer" if number is None else "was used before"
                number = next(fresh)
                message = f"id {record.get('id')!r} {reason}; it is {number} now"
                self._problem(name, "id repaired", message, "repaired")
            used.add(number)
            yield {"id": number} | fields

    def _annotation(self, record: Any, name: str) -> dict:
        if not isinstance(record, dict):
            raise Fault("wrong type", f"must be an object, got {record!r}")
        image_id, category_id = whole(record.get("image_id")), whole(record.get("category_id"))
        if image_id is None or category_id is None:
            found = f"{record.get('image_id')!r}, {record.get('category_id')!r}"
            raise Fault("wrong type", f"image_id and category_id must be integers, got {found}")
        for what, number, known in (("image", image_id, self.images), ("category", category_id, self.categories)):
            if number not in known:
                dropped = number in self.listed[what]
                reason = (
                    f"is {'an' if what == 'image' else 'a'} {what} that was dropped" if dropped else "is not listed"
                )
                raise Fault(f"{'dropped' if dropped else 'unknown'} {what}", f"{what}_id {number} {reason}")
        bbox = self._bbox(record.get("bbox"), self.images[image_id], name)
        fields = {"image_id": image_id, "category_id": category_id, "bbox": bbox}
        return fields | {"area": self._area(record, bbox, name), "iscrowd": self._crowd(record, name)}

    def _area(self, record: dict, bbox: list[float], name: str) -> float:
        area = record.get("area", bbox[2] * bbox[3])
        if _is_finite(area) and area >= 0:
            return float(area)
        message = f"area must be a finite number, not negative, got {area!r}; it is width times height now"
        self._problem(name, "area repaired", message, "repaired")
        return bbox[2] * bbox[3]

    def _crowd(self, record: dict, name: str) -> int:
        flags = []
        for key in ("iscrowd", "ignore"):
            flag = _flag(record.get(key, 0))
            if flag is None:
                message = f"{key} must be 0 or 1, got {record[key]!r}; it is 0 now"
                self._problem(name, "iscrowd repaired", message, "repaired")
            flags.append(flag)
        return int(any(flags))

    def _bbox(self, bbox: Any, image: dict, name: str) -> list[float]:
        numbers = isinstance(bbox, list | tuple) and len(bbox) == 4
        if not numbers or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in bbox):
            raise Fault("wrong type", f"bbox must be four numbers x, y, width, height, got {bbox!r}")
        if not all(map(_is_finite, bbox)):
            raise Fault("not finite", f"bbox must be finite, got {bbox}")
        x, y, width, height = map(float, bbox)
        if width <= 0 or height <= 0:
            raise Fault("zero-size box", f"bbox must have a positive width and height, got {bbox}")
        x1, y1 = max(x, 0.0), max(y, 0.0)
        x2, y2 = min(x + width, float(image["width"])), min(y + height, float(image["height"]))
        size = f"the image has {image['width']} x {image['height']} pixels"
        if x >= image["width"] or y >= image["height"] or x2 <= 0 or y2 <= 0:
            raise Fault("box outside", f"bbox {bbox} lies outside the image; {size}")
        whole = (x1, y1, x2, y2) == (x, y, x + width, y + height)
        clipped = [x, y, width, height] if whole else [x1, y1, x2 - x1, y2 - y1]
        left, top, right, bottom = corners(clipped)
        if right <= left or bottom <= top:
            raise Fault("zero-size box", f"what the image shows of bbox {bbox} has no size in float32; {size}")
        if max(x1 - x, y1 - y, x + width - x2, y + height - y2) > TOLERANCE:
            message = f"bbox {bbox} passes the image's border; {size}"
            self._problem(name, "box passes border", message, "clipped")
        return clipped

    def _was_seen(self, record: Any, fault: Fault) -> bool:
        """Is something of the dropped object in an image that is kept? A crowd is no object."""
        if not isinstance(record, dict) or fault.kind == "box outside":
            return False
        crowd = any(_flag(record.get(key, 0)) for key in ("iscrowd", "ignore"))
        return whole(record.get("image_id")) in self.images and not crowd

    def _problem(self, name: str, kind: str, message: str, action: str = "dropped") -> None:
        what = name.split()[0]
        self.report.problems.append(Problem(self.file, name, message, f"{what}: {kind}", action))
