"""The layouts that users have: which one lies in a folder, its splits, and each split opened as a `CocoFolder`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from labelkit.counts import counted
from labelkit.datasets.base import Transform
from labelkit.datasets.coco import load_coco
from labelkit.datasets.folder import CocoFolder
from labelkit.datasets.formats import read_visdrone, read_wider_face
from labelkit.datasets.report import Problem
from labelkit.datasets.text_files import files_in
from labelkit.datasets.yolo import read_description, read_yolo

ALL = "all"  # the name of a split in a folder that is not split
LAYOUTS = {
    "labelkit": "annotations.json, or train/annotations.json and val/annotations.json, images below each",
    "roboflow": "train/_annotations.coco.json, valid/ and test/ likewise, images beside them",
    "coco": "annotations/instances_train2017.json and train2017/, val likewise; or the only JSON file and its images",
    "yolo": "data.yaml with train, val and names; images/ and labels/",
    "visdrone": "images/ and annotations/*.txt, also in ...-train/ and ...-val/",
    "wider": "wider_face_split/wider_face_train_bbx_gt.txt and WIDER_train/images, val likewise",
}
_FOLDERS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SPLIT = "|".join(_FOLDERS)
_TRIED = 20  # images of a file that are looked for, to tell which folder is theirs


@dataclass(frozen=True)
class Split:
    """Where one split lies: a JSON file, a data.yaml or text files; and the folders that may hold its images."""

    annotations: Path
    images: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What was found below `root`: the layout's name, and its splits by "train", "val", "test" (or only "all")."""

    kind: str
    root: Path
    splits: dict[str, Split] = field(default_factory=dict)

    def __str__(self) -> str:
        splits = ", ".join(f"{name} ({split.annotations})" for name, split in self.splits.items())
        return f"{self.kind} layout in {self.root}: {splits}"

    def choose(self, split: str | None) -> str:
        """The split of that name, or the only one of a folder that is not split; a `ValueError` names what there is."""
        if split in self.splits:
            return str(split)
        if ALL in self.splits and split in (None, "train", "val", "test"):
            return ALL
        if split is None and len(self.splits) == 1:
            return next(iter(self.splits))
        raise ValueError(f"{'which split?' if split is None else f'there is no {split!r} split in'} {self}")


def find_layout(root: str | os.PathLike, images: str | os.PathLike | None = None, *, kind: str = "auto") -> Layout:
    """Which layout lies in the folder `root`; `root` may also be a COCO JSON file, a data.yaml or a WIDER text file.

    Args:
        images: the folder of the images, where it is not the one that the layout has.
        kind: one of `LAYOUTS`, instead of the first that fits.

    Raises:
        ValueError: nothing fits; the message says what was looked for and what is there.
    """
    root = Path(root)
    if kind not in ("auto", *LAYOUTS):
        raise ValueError(f"kind must be auto, {', '.join(LAYOUTS)}, got {kind!r}")
    if images is not None and not Path(images).is_dir():
        raise ValueError(f"there is no folder of images {os.fspath(images)!r}")
    if not root.exists():
        raise ValueError(f"there is no folder {os.fspath(root)!r}")
    kinds = [kind] if kind != "auto" else list(LAYOUTS)
    found = next(((name, splits) for name in kinds if (splits := _FINDERS[name](root))), None)
    if found is None:
        looked_for = "\n".join(f"  {name}: {LAYOUTS[name]}" for name in kinds)
        there = sorted(path.name for path in root.iterdir())[:10] if root.is_dir() else [root.name]
        raise ValueError(
            f"no known layout in {root}. Looked for\n{looked_for}\nand found {', '.join(there) or 'nothing'}"
        )
    name, splits = found
    if images is not None:
        if name == "yolo":
            raise ValueError(f"{root}: the images of a YOLO data set are those that its YAML names, not {images}")
        splits = {key: Split(split.annotations, _below(Path(images), split, key)) for key, split in splits.items()}
    return Layout(name, root, splits)


def open_split(
    layout: Layout,
    split: str | None = None,
    *,
    strict: bool = False,
    decode: bool = False,
    transforms: Transform | None = None,
    white: float | None = None,
) -> CocoFolder:
    """One split of a layout as a data set, checked. See `CocoFolder` for the options, `Layout.choose` for `split`."""
    chosen = layout.splits[layout.choose(split)]
    said: list[str] = []
    if layout.kind == "yolo":
        images, coco = read_yolo(chosen.annotations, layout.choose(split))
        if without := coco["info"]["without_labels"]:
            of_all = f"of {counted(len(coco['images']), 'picture')}"
            one, many = f"{of_all} has no label file: it shows", f"{of_all} have no label file: they show"
            said.append(f"{counted(without, one, many)} no object")
        if alone := coco["info"].get("without_picture"):
            whose = counted(len(alone), "label file is", "label files are")
            said.append(f"{whose} of no picture that is read, such as {alone[0]}: left out")
    elif layout.kind == "visdrone":
        images, coco = chosen.images[0], read_visdrone(chosen.images[0], chosen.annotations)
        if others := coco["info"]["left_out"]["others"]:
            what = 'of the category "others"'
            said.append(f"{counted(others, f'box {what} is', f'boxes {what} are')} left out, as in the benchmark")
    elif layout.kind == "wider":
        images = next((folder for folder in chosen.images if folder.is_dir()), chosen.images[0])
        coco = read_wider_face(images, chosen.annotations)
    else:
        coco = load_coco(chosen.annotations)
        images = folder_of_images(chosen, coco)
    dataset = CocoFolder(
        images, coco, strict=strict, decode=decode, transforms=transforms, white=white, file=str(chosen.annotations)
    )
    dataset.report.notes += [Problem(str(chosen.annotations), layout.kind, text, "layout", "read") for text in said]
    return dataset


def open_folder(
    root: str | os.PathLike,
    split: str | None = None,
    images: str | os.PathLike | None = None,
    *,
    kind: str = "auto",
    strict: bool = False,
    decode: bool = False,
    transforms: Transform | None = None,
    white: float | None = None,
) -> CocoFolder:
    """`find_layout`, then `open_split`: a data set from a folder or file in any layout.

    `split` is "train", "val" or "test"; a folder that is not split, such as the `val` folder of one that is, gives
    what it has under any of these names.
    """
    layout = find_layout(root, images, kind=kind)
    return open_split(layout, split, strict=strict, decode=decode, transforms=transforms, white=white)


def _below(images: Path, split: Split, name: str) -> tuple[Path, ...]:
    """The stated folder, or the one below it that is called as the layout's own."""
    return (*(images / folder.name for folder in split.images), images / name, images)


def folder_of_images(split: Split, coco: dict) -> Path:
    """The folder that holds most of the first images listed; a `ValueError` where none holds any."""
    entries = coco.get("images")
    records = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    names = [str(entry.get("file_name")).replace("\\", "/") for entry in records[:_TRIED]]
    found = [sum(os.path.isfile(folder / name) for name in names) for folder in split.images]
    if names and not max(found):
        places = ", ".join(dict.fromkeys(str(folder) for folder in split.images))
        raise ValueError(
            f"{split.annotations}: of {len(records)} images, such as {names[0]}, none of the first {len(names)} is "
            f"found; looked in {places}. Name their folder (--images DIR)"
        )
    return split.images[found.index(max(found))]


def _json_splits(root: Path, name: str) -> dict[str, Split]:
    """`name` in the folders of the splits, or in `root` itself, which is the training data where there is no train."""
    splits: dict[str, Split] = {}
    for folder, split in _FOLDERS.items():
        if (root / folder / name).is_file():
            _add(splits, split, _beside(root / folder / name))
    if "train" not in splits and (root / name).is_file():
        splits[ALL] = _beside(root / name)
    return splits


def _add(splits: dict[str, Split], name: str, split: Split) -> None:
    """A `ValueError` for a second split of one name, such as `val` and `valid`: nobody knows which one is meant."""
    if name in splits:
        places = f"{splits[name].annotations} or {split.annotations}"
        raise ValueError(f"{name} may be {places}: rename one of the folders, or name the one that is meant")
    splits[name] = split


def _beside(file: Path) -> Split:
    folder = file.parent
    return Split(file, (folder, folder / "images", folder.parent, folder.parent / "images"))


def _coco(root: Path) -> dict[str, Split]:
    if root.is_file():
        return {ALL: _beside(root)} if root.suffix.lower() == ".json" else {}
    files = sorted(files_in(root, "annotations/*.json", "*.json"))
    by_split: dict[str, list[Split]] = {}
    for file in files:
        if match := re.fullmatch(rf"(?:instances_)?((?:{_SPLIT}))(\d{{4}})?", file.stem.lower()):
            word, year = match[1], match[2] or ""
            names = dict.fromkeys((word + year, f"images/{word}{year}", word, f"images/{word}", "images", ""))
            by_split.setdefault(_FOLDERS[word], []).append(Split(file, tuple(root / name for name in names)))
    if not by_split and len(files) == 1:
        return {ALL: _beside(files[0])}
    return {split: _only(root, split, choices) for split, choices in by_split.items()}


def _only(root: Path, split: str, choices: list[Split]) -> Split:
    """Of several years' files the one whose folder of images is there."""
    at_hand = [
        choice for choice in choices if len(choices) == 1 or choice.images[0].is_dir() or choice.images[1].is_dir()
    ]
    if len(at_hand) != 1:
        names = ", ".join(str(choice.annotations) for choice in choices)
        raise ValueError(f"{root}: {split} may be any of {names}: name the file itself")
    return at_hand[0]


def _yolo(root: Path) -> dict[str, Split]:
    files = [root] if root.is_file() else sorted(files_in(root, "*.yaml", "*.yml"))
    named = [file for file in files if file.stem in ("data", "dataset")]
    files = [file for file in named or files if file.suffix.lower() in (".yaml", ".yml")]
    if len(files) != 1 or not re.search(rb"(?m)^names\s*:", files[0].read_bytes()):
        return {}
    return {split: Split(files[0]) for split in read_description(files[0]).splits}


def _visdrone(root: Path) -> dict[str, Split]:
    def split_in(folder: Path) -> Split | None:
        texts = folder / "annotations"
        there = (folder / "images").is_dir() and texts.is_dir() and files_in(texts, "*.txt")
        return Split(texts, (folder / "images",)) if there else None

    if not root.is_dir():
        return {}
    if whole := split_in(root):
        return {ALL: whole}
    splits: dict[str, Split] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        match = re.fullmatch(rf"(?:.*[-_])?({_SPLIT})(?:[-_]dev)?", folder.name.lower())
        if match and (found := split_in(folder)):
            _add(splits, _FOLDERS[match[1]], found)
    return splits


def _wider(root: Path) -> dict[str, Split]:
    files = [root] if root.is_file() else sorted(files_in(root, "wider_face_split/*.txt", "*.txt"))
    splits = {}
    for file in files:
        if match := re.fullmatch(r"wider_face_(train|val)_bbx_gt", file.stem):
            tops = (file.parent.parent, file.parent)
            folders = [top / f"WIDER_{match[1]}" / "images" for top in tops] + [top / "images" for top in tops]
            splits[match[1]] = Split(file, (*folders, file.parent))
    return splits


_FINDERS: dict[str, Callable[[Path], dict[str, Split]]] = {
    "labelkit": lambda root: _json_splits(root, "annotations.json"),
    "roboflow": lambda root: _json_splits(root, "_annotations.coco.json"),
    "coco": _coco,
    "yolo": _yolo,
    "visdrone": _visdrone,
    "wider": _wider,
}
