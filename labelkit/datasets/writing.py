"""Writing a checked data set in labelkit's own layout: `annotations.json`, and the images as they are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from labelkit.datasets.folder import CocoFolder


def write_folder(dataset: CocoFolder, folder: str | os.PathLike, *, copy: bool = False) -> tuple[int, int]:
    """`write_folders` for one data set."""
    return write_folders({Path(folder): dataset}, copy=copy)[0]


def write_folders(datasets: Mapping[Path, CocoFolder], *, copy: bool = False) -> list[tuple[int, int]]:
    """Write what the checks kept below each folder; returns how many images were linked and how many copied there.

    Images keep their bytes, and their names below `images/`; one whose name leads out of its folder, or is taken, is
    called by its id. A link is a hard link, which takes no room and outlives the source; where the file system has
    none, or with `copy=True`, it is a copy. The annotations of all are written last, so that an interrupted call leaves
    no folder that looks whole, nor one split without the others.

    Raises:
        ValueError: a folder is not empty.
    """
    for folder in datasets:
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty: name a new folder")
    put = [_put_images(dataset, folder, copy) for folder, dataset in datasets.items()]
    for folder, (_, content) in zip(datasets, put, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "annotations.json.part").write_text(json.dumps(content), encoding="utf-8")
    for folder in datasets:
        os.replace(folder / "annotations.json.part", folder / "annotations.json")
    return [counts for counts, _ in put]


def _put_images(dataset: CocoFolder, folder: Path, copy: bool) -> tuple[tuple[int, int], dict]:
    """How many images were linked and copied; the annotations that go with them."""
    coco = dataset.coco()
    sources: dict[str, Path] = {}  # by the new name
    images = []
    for entry in coco["images"]:
        source, name = dataset.root / entry["file_name"], _name(entry)
        if sources.setdefault(name, source) != source:
            name = _numbered(entry)
            sources[name] = source
        images.append(entry | {"file_name": name})
    linked = sum(_put(source.resolve(), folder / name, copy) for name, source in sources.items())
    info = {} if dataset.white is None else {"info": {"white": dataset.white}}
    return (linked, len(sources) - linked), info | coco | {"images": images}


def _name(entry: dict) -> str:
    name = PurePosixPath(entry["file_name"])
    if name.is_absolute() or ".." in name.parts or ":" in entry["file_name"]:
        return _numbered(entry)
    return f"images/{name.relative_to('images') if name.parts[0] == 'images' else name}"


def _numbered(entry: dict) -> str:
    return f"images/id/{entry['id']}{PurePosixPath(entry['file_name']).suffix}"


def _put(source: Path, target: Path, copy: bool) -> bool:
    """True for a link, False for a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        try:
            os.link(source, target)
            return True
        except OSError:  # another file system, or one without links
            pass
    shutil.copy2(source, target)
    return False
