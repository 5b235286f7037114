"""A COCO-format folder as a data set: its check, then its pictures one by one, with the boxes that were kept."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from labelkit.datasets.base import Target, Transform, finish_item, make_target
from labelkit.datasets.coco import check_coco, corners, load_coco
from labelkit.datasets.pixels import check_white, read_picture


class CocoFolder(Dataset[tuple[Tensor, Target]]):
    """Images in a folder and their COCO-format boxes, checked when it is made.

    `CocoFolder(folder)` reads `folder/annotations.json`, with file names relative to `folder`, as
    `DetectionDataset.to_coco` writes it. `CocoFolder(images, annotations)` takes the folder of the images and a JSON
    file, or a COCO dict such as `read_visdrone` returns; `open_folder` finds both in the layouts that others write.
    Labels are 0, 1, ... in the order of the category ids; `classes` holds their names, `category_ids` the file's own
    ids. `report` says what the check dropped, clipped and repaired; with `strict=True` any problem raises
    `InvalidAnnotations`, which lists all. `decode=True` also reads every pixel.
    `white` is the value that becomes 1 in pictures of more than 8 bits (`read_picture`); an annotation file may state
    it as `{"info": {"white": 4095}}`. `file` is what messages call annotations that come as a dict.

    An item whose picture can't be read is an `OSError` that names image id and file.
    """

    def __init__(
        self,
        images: str | os.PathLike,
        annotations: str | os.PathLike | dict | None = None,
        *,
        strict: bool = False,
        decode: bool = False,
        transforms: Transform | None = None,
        white: float | None = None,
        file: str = "annotations",
    ) -> None:
        self.root = Path(images)
        if annotations is None:
            annotations = self.root / "annotations.json"
        if not isinstance(annotations, dict):
            file = os.fspath(annotations)
        self.file = file
        coco = annotations if isinstance(annotations, dict) else load_coco(file)
        check_white(white)
        self.white = _stated_white(coco, file) if white is None else white
        self._coco, self.report = check_coco(coco, self.root, file=file, strict=strict, decode=decode, white=self.white)
        categories = sorted(self._coco["categories"], key=lambda category: category["id"])
        self.classes: tuple[str, ...] = tuple(category["name"] for category in categories)
        self.category_ids: tuple[int, ...] = tuple(category["id"] for category in categories)
        self._label = {category_id: label for label, category_id in enumerate(self.category_ids)}
        self._entries: list[dict] = sorted(self._coco["images"], key=lambda entry: entry["id"])
        self._annotations: dict[int, list[dict]] = {entry["id"]: [] for entry in self._entries}
        for annotation in self._coco["annotations"]:
            self._annotations[annotation["image_id"]].append(annotation)
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        return finish_item(*self.picture(index), self.transforms)

    def picture(self, index: int) -> tuple[Tensor, Target]:
        """The image as the file holds it (`read_picture`) and its target: an item before `transforms`."""
        entry = self._entries[range(len(self))[index]]
        try:
            image = read_picture(self.root / entry["file_name"], (entry["width"], entry["height"]), white=self.white)
        except OSError as error:
            raise OSError(f"image id {entry['id']}, {entry['file_name']}: {error}") from error
        return image, self._target(entry)

    @property
    def folder(self) -> Path:
        """The deepest folder that holds all pictures."""
        parents = {(self.root / entry["file_name"]).parent for entry in self._entries}
        return Path(os.path.commonpath(parents)) if parents else self.root

    @property
    def targets(self) -> list[Target]:
        """All targets as they are before `transforms`, without opening an image."""
        return [self._target(entry) for entry in self._entries]

    def coco(self) -> dict:
        """The checked annotations, as a COCO dict with the file's own category ids."""
        return self._coco

    def _target(self, entry: dict) -> Target:
        annotations = self._annotations[entry["id"]]
        return make_target(
            [corners(annotation["bbox"]) for annotation in annotations],
            [self._label[annotation["category_id"]] for annotation in annotations],
            entry["id"],
            (entry["height"], entry["width"]),
            [annotation["area"] for annotation in annotations],
            [annotation["iscrowd"] for annotation in annotations],
        )


def _stated_white(coco: dict, file: str) -> float | None:
    info = coco.get("info")
    white = info.get("white") if isinstance(info, dict) else None
    check_white(white, f'{file}: "white" in "info"')
    return white
