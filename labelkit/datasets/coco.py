"""COCO-format annotations, checked: every fault is found, named by file, id and value, and nothing is lost silently."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

TOLERANCE = 0.1  # px by which a box may pass the border: rounding in the file, cut without a word


@dataclass(frozen=True)
class Problem:
    """One fault: in which file, of which record, what is wrong, and what was done about it ("dropped", "clipped")."""

    file: str
    record: str
    message: str
    kind: str
    action: str = "dropped"

    def __str__(self) -> str:
        return f"{self.file}: {self.record}: {self.message} [{self.action}]"


@dataclass
class Report:
    """What the check found. `images` and `annotations` count (kept, in the file)."""

    problems: list[Problem] = field(default_factory=list)
    images: tuple[int, int] = (0, 0)
    annotations: tuple[int, int] = (0, 0)

    def counts(self) -> dict[str, int]:
        """How often each kind of fault occurred, most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def summary(self, first: int = 20) -> str:
        """The counts and the first faults, for printing."""
        lines = [
            f"kept {self.images[0]} of {self.images[1]} images, "
            f"{self.annotations[0]} of {self.annotations[1]} annotations, {len(self.problems)} problems"
        ]
        lines += [f"  {count} x {kind}" for kind, count in self.counts().items()]
        lines += [f"  {problem}" for problem in self.problems[:first]]
        if len(self.problems) > first:
            lines.append(f"  ... and {len(self.problems) - first} more in .problems")
        return "\n".join(lines)

    __str__ = summary


class InvalidAnnotations(ValueError):
    """Raised by the strict check; the message lists every problem and `report` holds them."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.summary(first=len(report.problems)))
        self.report = report


def load_coco(path: str | os.PathLike) -> dict:
    """Read the JSON of an annotation file; a file that is not JSON is a `ValueError` with name and line."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}; was the file cut short?") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from error


def check_coco(
    coco: dict,
    images: str | os.PathLike | None = None,
    *,
    file: str = "annotations",
    strict: bool = False,
    decode: bool = False,
) -> tuple[dict, Report]:
    """A clean copy of a COCO dict, with the report of what was wrong; `strict` raises `InvalidAnnotations` instead.

    Found: records of the wrong form, missing or wrong types, NaN and infinity, duplicate ids, a zero-size box, a box
    outside its image, an unknown category or image, and, where `images` names the folder, an image file that is
    missing, unreadable or of another size than stated. A faulty record is dropped, a dropped image takes its
    annotations with it (each is counted), and a box that passes the border is clipped.
    Image files are opened, which reads their header; `decode=True` reads every pixel and also finds files cut short.
    The copy's annotations hold id, image_id, category_id, bbox, area and iscrowd; a missing area is width times
    height, a missing iscrowd 0, and `ignore: 1` becomes iscrowd 1.
    """
    if not isinstance(coco, dict):
        raise ValueError(f"{file}: must hold an object with images, categories, annotations, got {type(coco).__name__}")
    for key in ("images", "categories", "annotations"):
        if not isinstance(coco.get(key), list):
            raise ValueError(f'{file}: "{key}" must be a list, got {type(coco.get(key)).__name__}')
    check = _Check(file, Path(images) if images is not None else None, decode)
    categories = check.records("category", coco["categories"], check.category)
    entries = check.records("image", coco["images"], check.image)
    check.known_categories = {record["id"] for record in categories}
    check.known_images = {record["id"]: record for record in entries}
    check.listed_images = {r.get("id") for r in coco["images"] if isinstance(r, dict) and _is_int(r.get("id"))}
    annotations = check.records("annotation", coco["annotations"], check.annotation)
    report = Report(check.problems, (len(entries), len(coco["images"])), (len(annotations), len(coco["annotations"])))
    if strict and report.problems:
        raise InvalidAnnotations(report)
    return {"images": entries, "categories": categories, "annotations": annotations}, report


class _Fault(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


class _Check:
    """One pass over the three lists. A method checks one record: it returns the clean record or raises `_Fault`."""

    def __init__(self, file: str, folder: Path | None, decode: bool) -> None:
        self.file, self.folder, self.decode = file, folder, decode
        self.problems: list[Problem] = []
        self.known_categories: set[int] = set()
        self.known_images: dict[int, dict] = {}
        self.listed_images: set[int] = set()

    def records(self, what: str, records: list, check: Callable[[dict, str], dict]) -> list[dict]:
        clean, seen = [], set()
        for index, record in enumerate(records):
            name = f"{what} #{index}"
            try:
                if not isinstance(record, dict):
                    raise _Fault("wrong type", f"must be an object, got {record!r}")
                if not _is_int(record.get("id")):
                    raise _Fault("wrong type", f"id must be an integer, got {record.get('id')!r}")
                name = f"{what} id {record['id']}"
                if record["id"] in seen:
                    raise _Fault("duplicate id", f"id {record['id']} was used before")
                seen.add(record["id"])
                clean.append(check(record, name))
            except _Fault as fault:
                self.problems.append(Problem(self.file, name, str(fault), f"{what}: {fault.kind}"))
        return clean

    def category(self, record: dict, _: str) -> dict:
        if not isinstance(record.get("name"), str) or not record["name"]:
            raise _Fault("wrong type", f"name must be a text, got {record.get('name')!r}")
        return {"id": record["id"], "name": record["name"]}

    def image(self, record: dict, _: str) -> dict:
        if not isinstance(record.get("file_name"), str) or not record["file_name"]:
            raise _Fault("wrong type", f"file_name must be a text, got {record.get('file_name')!r}")
        for key in ("width", "height"):
            if not _is_int(record.get(key)) or record[key] <= 0:
                raise _Fault("wrong type", f"{key} must be a positive integer, got {record.get(key)!r}")
        clean = {key: record[key] for key in ("id", "file_name", "width", "height")}
        if self.folder is not None:
            self._image_file(clean)
        return clean

    def _image_file(self, record: dict) -> None:
        path = self.folder / record["file_name"]
        if not path.is_file():
            raise _Fault("missing file", f"there is no file {path}")
        try:
            with Image.open(path) as image:
                size = image.size
                if self.decode:
                    image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise _Fault("unreadable file", f"{path} cannot be read: {error}") from error
        if size != (record["width"], record["height"]):
            stated = f"{record['width']} x {record['height']}"
            raise _Fault("wrong size", f"{path} has {size[0]} x {size[1]} pixels, the annotation says {stated}")

    def annotation(self, record: dict, name: str) -> dict:
        image_id, category_id = record.get("image_id"), record.get("category_id")
        if not _is_int(image_id) or not _is_int(category_id):
            raise _Fault("wrong type", f"image_id and category_id must be integers, got {image_id!r}, {category_id!r}")
        if image_id not in self.known_images:
            dropped = image_id in self.listed_images
            raise _Fault(
                "dropped image" if dropped else "unknown image",
                f"image_id {image_id} is {'an image that was dropped' if dropped else 'no image of the file'}",
            )
        if category_id not in self.known_categories:
            raise _Fault("unknown category", f"category_id {category_id} is no category of the file")
        crowd = record.get("iscrowd", 0), record.get("ignore", 0)
        if any(value not in (0, 1) for value in crowd):
            raise _Fault("wrong type", f"iscrowd and ignore must be 0 or 1, got {crowd[0]!r}, {crowd[1]!r}")
        bbox = self._bbox(record.get("bbox"), self.known_images[image_id], name)
        area = record.get("area", bbox[2] * bbox[3])
        if not _is_number(area) or not _is_finite(area) or area < 0:
            raise _Fault("wrong type", f"area must be a finite number, not negative, got {area!r}")
        clean = {"id": record["id"], "image_id": image_id, "category_id": category_id}
        return clean | {"bbox": bbox, "area": float(area), "iscrowd": int(any(crowd))}

    def _bbox(self, bbox: object, image: dict, name: str) -> list[float]:
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
            raise _Fault("wrong type", f"bbox must be four numbers x, y, width, height, got {bbox!r}")
        if not all(map(_is_finite, bbox)):
            raise _Fault("not finite", f"bbox must be finite, got {bbox}")
        x, y, width, height = map(float, bbox)
        if width <= 0 or height <= 0:
            raise _Fault("zero-size box", f"bbox must have a positive width and height, got {bbox}")
        x1, y1 = max(x, 0.0), max(y, 0.0)
        x2, y2 = min(x + width, float(image["width"])), min(y + height, float(image["height"]))
        size = f"the image has {image['width']} x {image['height']} pixels"
        if x2 <= x1 or y2 <= y1:
            raise _Fault("box outside", f"bbox {bbox} lies outside the image; {size}")
        if (x1, y1, x2, y2) == (x, y, x + width, y + height):
            return [x, y, width, height]
        if max(x1 - x, y1 - y, x + width - x2, y + height - y2) > TOLERANCE:
            message = f"bbox {bbox} passes the image's border; {size}"
            self.problems.append(Problem(self.file, name, message, "annotation: box passes border", "clipped"))
        return [x1, y1, x2 - x1, y2 - y1]
