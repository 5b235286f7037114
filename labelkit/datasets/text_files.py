"""What the readers of text formats share: pictures by name, lines of numbers with every complaint, the COCO dict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from labelkit.datasets.pixels import SUFFIXES, read_header


class Lines:
    """Parses lines of numbers and collects every complaint, so that one run shows all."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def integers(self, path: Path, number: int, line: str, separator: str | None, count: int) -> list[int] | None:
        """The first `count` of at least as many integers, or None after a complaint."""
        try:
            values = [int(value) for value in line.strip().rstrip(",").split(separator)]
        except ValueError:
            values = []
        if len(values) < count:
            self.complain(path, number, f"expected {count} integers, got {line.strip()!r}")
            return None
        return values[:count]

    def complain(self, path: Path, number: int, message: str) -> None:
        self.errors.append(f"{path}:{number}: {message}")

    def raise_if_any(self) -> None:
        if self.errors:
            raise ValueError("\n".join(self.errors))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from error


def pictures_in(folder: Path) -> list[Path]:
    """The picture files directly in `folder`, by name; also one that is a link to nothing, which is found out later."""
    return [path for path in files_in(folder, "*") if path.suffix.lower() in SUFFIXES and not path.is_dir()]


def files_in(folder: Path, *patterns: str) -> list[Path]:
    """What matches, by name, without what is hidden: a Mac leaves `._a.jpg` and `._a.txt` beside `a.jpg`."""
    return [path for pattern in patterns for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]


def folders_below(folder: Path) -> list[Path]:
    """`folder` and those below it, by name, behind links too, each once; hidden ones, such as notebooks', are not."""
    found: dict[str, Path] = {}
    for here, below, _ in os.walk(folder, onerror=_fail, followlinks=True):
        known = found.setdefault(os.path.realpath(here), Path(here))
        below[:] = sorted(name for name in below if not name.startswith(".")) if known == Path(here) else []
    return sorted(found.values())


def _fail(error: OSError) -> None:
    raise error


def refuse_shared_labels(pairs: Iterable[tuple[Path, Path]]) -> None:
    """A `ValueError` that names all pictures which share one text file, as `0.jpg` and `0.png` share `0.txt`."""
    by_text: dict[Path, list[Path]] = {}
    for picture, text in pairs:
        by_text.setdefault(text, []).append(picture)
    shared = [
        f"{', '.join(str(picture) for picture in pictures)} share {text}"
        for text, pictures in by_text.items()
        if len(pictures) > 1
    ]
    if shared:
        raise ValueError("nobody knows whose boxes these are:\n" + "\n".join(shared))


def image_entry(image_id: int, path: Path, file_name: str) -> dict:
    """A COCO image record with the size that the picture has as it is shown, turned by its EXIF orientation.

    Without a size where the picture can't be read: the check says why, and drops this one alone.
    """
    entry = {"id": image_id, "file_name": file_name}
    try:
        width, height = read_header(path).shown
    except OSError:
        return entry
    return entry | {"width": width, "height": height}


def refuse_unreadable(coco: dict, folder: Path) -> None:
    """A `ValueError` where not one picture can be read: then it is the place that is wrong."""
    if coco["images"] and not any("width" in entry for entry in coco["images"]):
        try:
            read_header(folder / coco["images"][0]["file_name"])
        except OSError as error:
            raise ValueError(f"not one of {len(coco['images'])} pictures can be read, such as {error}") from error


def add_box(coco: dict, image_id: int, category_id: int, bbox: Sequence[float], iscrowd: int) -> None:
    """Append an annotation; `bbox` is x, y, width, height."""
    record = {"id": len(coco["annotations"]) + 1, "image_id": image_id, "category_id": category_id}
    coco["annotations"].append(record | {"bbox": list(bbox), "area": bbox[2] * bbox[3], "iscrowd": iscrowd})
