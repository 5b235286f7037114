"""Which pictures are meant by folders and files, and what an annotation file says of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from labelkit.datasets import load_coco
from labelkit.datasets.coco import id_of, whole
from labelkit.datasets.pixels import SUFFIXES
from labelkit.datasets.text_files import folders_below, pictures_in


class Picture(NamedTuple):
    """A file, and its name below the folder that all of them share, with forward slashes."""

    path: Path
    name: str


def find_pictures(places: Sequence[str | os.PathLike], leave_out: Path | None = None) -> list[Picture]:
    """The pictures of folders and of those below them, by name, and files as they are given; each once.

    leave_out: a folder that is being written into, whose pictures are no input.

    Raises:
        ValueError: a folder without pictures, nothing at all, or a file that lies in `leave_out`.
    """
    within = None if leave_out is None else leave_out.absolute()
    paths: list[Path] = []
    roots: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir():
            if within is not None and within in place.absolute().parents:
                raise ValueError(f"{place} would be written over: name another folder to write into")
            paths.append(place)
            roots.append(place.absolute().parent)
            continue
        inside = sorted(path for folder in folders_below(place) for path in pictures_in(folder))
        inside = [path for path in inside if within is None or within not in path.absolute().parents]
        if not inside:
            raise ValueError(f"{place} holds no picture ({', '.join(SUFFIXES)})")
        paths += inside
        roots.append(place.absolute())
    if not paths:
        raise ValueError("no picture is named")
    root = os.path.commonpath(roots)
    names = {path.absolute(): path for path in reversed(paths)}  # of one that is named twice the first
    once = [path for path in paths if names[path.absolute()] is path]
    return [Picture(path, Path(os.path.relpath(path.absolute(), root)).as_posix()) for path in once]


@dataclass(frozen=True)
class Listing:
    """What a COCO file says of images and categories; its boxes are not looked at."""

    file: str
    images: dict[str, list[dict[str, Any]]]  # by the last part of the file name
    categories: tuple[tuple[int, str], ...]

    @classmethod
    def read(cls, path: str | os.PathLike) -> Listing:
        """A `ValueError` names a file that is no such JSON, or a record of another form."""
        coco = load_coco(path)
        images: dict[str, list[dict[str, Any]]] = {}
        for number, called, record in _by_id(path, coco, "images", "file_name"):
            name = called.replace("\\", "/")
            sides = {side: whole(record.get(side)) for side in ("width", "height")}
            entry = {"id": number, "file_name": name} | (sides if all(sides.values()) else {})
            images.setdefault(name.rpartition("/")[2], []).append(entry)
        categories = tuple((number, name) for number, name, _ in _by_id(path, coco, "categories", "name"))
        return cls(os.fspath(path), images, categories)

    def entry(self, picture: Picture) -> dict[str, Any]:
        """Id, name and stated size of the image: the record whose name the picture's path ends in, or the only one of
        this file name. A `ValueError` where there is none, or several."""
        called = self.images.get(picture.path.name, [])
        path = f"/{picture.path.absolute().as_posix()}"
        exact = [record for record in called if path.endswith(f"/{record['file_name']}")]
        longest = max((len(record["file_name"]) for record in exact), default=0)
        exact = [record for record in exact if len(record["file_name"]) == longest]
        meant = exact or called
        if len(meant) != 1:
            several = ", ".join(f"{record['file_name']} (id {record['id']})" for record in meant)
            raise ValueError(f"{picture.path}: {self.file} lists {several or 'no image of this name'}")
        return dict(meant[0])

    def category_ids(self, classes: Sequence[str], own: Sequence[int]) -> list[int]:
        """The file's id of every class, or the class's `own` where the file does not name it."""
        of_name: dict[str, list[int]] = {}
        for number, name in self.categories:
            of_name.setdefault(name, []).append(number)
        ids = []
        for name, kept in zip(classes, own, strict=True):
            there = of_name.get(name, [kept])
            ids.append(kept if kept in there else there[0])
        for number, name in zip(ids, classes, strict=True):
            taken = [other for known, other in self.categories if known == number and other != name]
            if taken or ids.count(number) > 1:
                raise ValueError(
                    f"{self.file}: category id {number} is {taken[:1] or classes}, and {name!r} in the run"
                )
        return ids


def _by_id(path: str | os.PathLike, coco: dict, key: str, name: str) -> Iterator[tuple[int, str, dict]]:
    """(id, name, record) of a list of the file, each once; an id that two share is a `ValueError`."""
    records = coco.get(key)
    if not isinstance(records, list):
        raise ValueError(f'{path}: "{key}" must be a list, got {type(records).__name__}')
    known: dict[int, str] = {}
    for index, record in enumerate(records):
        number, called = id_of(record), record.get(name) if isinstance(record, dict) else None
        if number is None or not isinstance(called, str):
            raise ValueError(f"{path}: {key}[{index}] must have id and {name}, got {record!r}")
        if known.get(number, called) != called:
            raise ValueError(f"{path}: {number} is the id of {known[number]!r} and of {called!r}")
        if number not in known:
            known[number] = called
            yield number, called, record
