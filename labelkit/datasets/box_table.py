"""All boxes of a data set in a few arrays: what a look at millions of them needs, and no more than that in memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.assigners.ground_truths import FLAGS
from labelkit.boxes import TOO_LONG
from labelkit.datasets.coco import Check, id_of
from labelkit.datasets.folder import CocoFolder
from labelkit.datasets.image_files import ImageFiles
from labelkit.datasets.layouts import Layout, find_layout, folder_of_images, open_split
from labelkit.datasets.record_stream import stream
from labelkit.datasets.report import Problem, Report

JSON_LAYOUTS = ("labelkit", "roboflow", "coco")
_LISTS = ("images", "categories", "annotations")


@dataclass(frozen=True, eq=False)
class BoxTable:
    """Pictures in the order of the data set, the boxes of each one after another; all arrays are numpy's.

    image_ids [I], sizes [I, 2] as (height, width), names (of the files; "" where the pictures are in memory), starts
    [I + 1]: the boxes of picture i are those from starts[i] to starts[i + 1].
    boxes [N, 4]: xyxy in pixels, float32. labels [N]. ids [N]: of the annotations in their file, -1 where none is
    known. index [N]: the place of the box in its target. ignored [N]: crowds and regions, which are no objects.
    report: what was wrong. file: of the annotations. folder: of the pictures, None where they were not found.
    """

    image_ids: np.ndarray
    sizes: np.ndarray
    names: Sequence[str]
    starts: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    index: np.ndarray
    ignored: np.ndarray
    classes: tuple[str, ...] = ()
    report: Report = field(default_factory=Report)
    file: str | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.image_ids)

    @property
    def image(self) -> np.ndarray:
        """The picture of every box, [N]."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))

    @classmethod
    def of(cls, dataset: Any) -> BoxTable:
        """Of a data set of labelkit's, anything with such `targets`, the targets themselves, or a path (see `read`).

        A box that is not finite or has no size is left out and stands in `report`.
        """
        if isinstance(dataset, cls):
            return dataset
        if isinstance(dataset, str | os.PathLike):
            return cls.read(dataset)
        if isinstance(dataset, CocoFolder):
            coco = dataset.coco()
            table = _filled(coco["images"], coco["categories"], coco["annotations"], dataset.report)
            return replace(table, file=dataset.file, folder=dataset.root)
        targets = getattr(dataset, "targets", dataset)
        found = _of_targets(targets, getattr(dataset, "report", None) or Report())
        return replace(found, classes=tuple(getattr(dataset, "classes", ())))

    @classmethod
    def read(
        cls, root: str | os.PathLike, images: str | os.PathLike | None = None, split: str | None = None
    ) -> BoxTable:
        """A folder or file in any layout that `open_folder` knows; of several splits the training data by default.

        JSON is read record by record. Of pictures only the headers are read. Where none of them is at hand, the sizes
        that the file states do, and `report.notes` says so; where the folder `images` is named, they must be there.
        """
        layout = find_layout(root, images)
        split = layout.choose(split if split or len(layout.splits) == 1 else "train")
        if layout.kind in JSON_LAYOUTS:
            return _streamed(layout, split, must_be_there=images is not None)
        return cls.of(open_split(layout, split))


def _streamed(layout: Layout, split: str, *, must_be_there: bool) -> BoxTable:
    """Twice through the file: annotations refer to images and categories, which may stand behind them."""
    place = layout.splits[split]
    file, report, folder = str(place.annotations), Report(), None
    lists, highest, count = _first_pass(file)
    try:
        folder = folder_of_images(place, lists)
    except ValueError as error:
        if must_be_there:
            raise
        text = f"{error}: the boxes are taken as they are, with the sizes that the file states"
        report.notes.append(Problem(file, layout.kind, text, "layout", "read"))
    files = None if folder is None else ImageFiles(folder, file, report, decode=False, white=None)
    check = Check(file, files, report)
    check.records(lists["categories"], lists["images"])
    again = (record for key, value in stream(file) if key == "annotations" for record in value)
    kept = check.annotations(again, highest)
    table = _filled(list(check.images.values()), list(check.categories.values()), kept, report)
    report.annotations = len(table.boxes), count
    return replace(table, file=file, folder=folder)


def _first_pass(file: str) -> tuple[dict[str, list], int, int]:
    """The images and categories, the highest id of an annotation, and how many annotations there are."""
    lists: dict[str, list] = {}
    highest, count = 0, -1
    for key, value in stream(file):
        if key in _LISTS and not isinstance(value, Iterator):
            raise ValueError(f'{file}: "{key}" must be a list, got {type(value).__name__}')
        if key == "annotations":
            count = 0
            for number in map(id_of, value):
                count += 1
                highest = max(highest, number or 0)
        elif key in _LISTS:
            lists[key] = list(value)
    for key in _LISTS:
        if key not in lists and not (key == "annotations" and count >= 0):
            raise ValueError(f'{file}: "{key}" must be a list, got NoneType')
    return lists, highest, count


def _filled(
    images: Iterable[dict], categories: Iterable[dict], annotations: Iterable[dict], report: Report
) -> BoxTable:
    """From checked records; see `CocoFolder` for the order of pictures and labels."""
    entries = sorted(images, key=lambda entry: entry["id"])
    named = sorted(categories, key=lambda category: category["id"])
    place = {entry["id"]: number for number, entry in enumerate(entries)}
    label = {category["id"]: number for number, category in enumerate(named)}
    at, labels, ids, crowd, boxes = array("i"), array("i"), array("q"), array("b"), array("d")
    for record in annotations:
        at.append(place[record["image_id"]])
        labels.append(label[record["category_id"]])
        ids.append(_in_64_bits(record["id"]))
        crowd.append(record["iscrowd"])
        boxes.extend(record["bbox"])
    picture, corners = np.asarray(at), np.asarray(boxes).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]  # in float64, rounded to float32 once, as everywhere
    order = np.argsort(picture, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(picture, minlength=len(entries)))))
    return BoxTable(
        np.array([_in_64_bits(entry["id"]) for entry in entries], dtype=np.int64),
        np.array([(entry["height"], entry["width"]) for entry in entries], dtype=np.int32).reshape(-1, 2),
        [entry["file_name"] for entry in entries],
        starts,
        corners.astype(np.float32)[order],
        np.asarray(labels)[order],
        np.asarray(ids)[order],
        (np.arange(len(order)) - np.repeat(starts[:-1], np.diff(starts))).astype(np.int32),
        np.asarray(crowd)[order] != 0,
        tuple(category["name"] for category in named),
        report,
    )


def _in_64_bits(number: int) -> int:
    return number if -(2**63) <= number < 2**63 else -1


def _of_targets(targets: Sequence[Mapping[str, Any]], report: Report) -> BoxTable:
    nothing = np.zeros(0, dtype=np.int64)
    boxes, labels, ignored, ids, sizes = [np.zeros((0, 4), np.float32)], [nothing], [nothing != 0], [], []
    for number, target in enumerate(targets):
        size = getattr(target.get("boxes"), "canvas_size", None)
        if size is None:
            raise ValueError(
                f"targets[{number}]['boxes'] must be tv_tensors.BoundingBoxes, which know their picture's size"
            )
        sizes.append((int(size[0]), int(size[1])))
        ids.append(int(target.get("image_id", number)))
        boxes.append(np.asarray(target["boxes"], dtype=np.float32).reshape(-1, 4))
        _check_lengths(target, number, len(boxes[-1]))
        flags = [np.asarray(target[flag]).reshape(-1) != 0 for flag in FLAGS if flag in target]
        ignored.append(np.logical_or.reduce([np.zeros(len(boxes[-1]), dtype=bool), *flags]))
        labels.append(np.asarray(target.get("labels", np.zeros(len(boxes[-1])))).astype(np.int64).reshape(-1))
    counts = [len(one) for one in boxes[1:]]
    index = np.concatenate([nothing, *(np.arange(count) for count in counts)]).astype(np.int32)
    image, corners = np.repeat(np.arange(len(counts)), counts), np.concatenate(boxes)
    sound, problems = _sound(corners, image, index)
    return BoxTable(
        np.array(ids, dtype=np.int64),
        np.array(sizes, dtype=np.int32).reshape(-1, 2),
        [""] * len(ids),
        np.concatenate(([0], np.cumsum(np.bincount(image[sound], minlength=len(counts))))),
        corners[sound],
        np.concatenate(labels)[sound].astype(np.int32),
        np.full(int(sound.sum()), -1, dtype=np.int64),
        index[sound],
        np.concatenate(ignored)[sound],
        report=replace(report, problems=[*report.problems, *problems]),
    )


def _check_lengths(target: Mapping[str, Any], number: int, count: int) -> None:
    for name in ("labels", *FLAGS):
        length = np.asarray(target.get(name, np.zeros(count))).size
        if length != count:
            raise ValueError(f"targets[{number}][{name!r}] must have one value for each of {count} boxes, got {length}")


def _sound(corners: np.ndarray, image: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, list[Problem]]:
    """Which boxes are finite and have a size, and a problem for each that is not or has none."""
    with np.errstate(invalid="ignore", over="ignore"):
        side = corners[:, 2:] - corners[:, :2]
        finite = np.isfinite(corners).all(axis=1) & (np.abs(side) < TOO_LONG).all(axis=1)
        sound = finite & (side > 0).all(axis=1)
    problems = []
    for place in np.flatnonzero(~sound).tolist():
        kind, rule = ("zero-size box", "have x1 < x2 and y1 < y2") if finite[place] else ("not finite", "be finite")
        name = f"targets[{image[place]}]['boxes'][{index[place]}]"
        problems.append(
            Problem("targets", name, f"a box must {rule}, got {corners[place].tolist()}", f"annotation: {kind}")
        )
    return sound, problems
