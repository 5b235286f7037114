"""A COCO-format folder as a data set: the check, then torchvision's own reader and its tv_tensors wrapper."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, VisionDataset, wrap_dataset_for_transforms_v2
from torchvision.transforms.v2 import functional as F

from labelkit.datasets.base import Target, Transform, finish_item, make_target
from labelkit.datasets.coco import check_coco, load_coco

FIELDS = ("image_id", "boxes", "labels", "area", "iscrowd")


class CocoFolder(Dataset):
    """Images in a folder and their COCO-format boxes, checked when it is made.

    `CocoFolder(folder)` reads `folder/annotations.json`, with file names relative to `folder`, as
    `DetectionDataset.to_coco` writes it. `CocoFolder(images, annotations)` takes the folder of the images and a JSON
    file, or a COCO dict such as `read_visdrone` returns. Labels are 0, 1, ... in the order of the category ids;
    `classes` holds their names, `category_ids` the file's own ids. `report` says what the check dropped or clipped;
    with `strict=True` any problem raises `InvalidAnnotations`, which lists all. `decode=True` also reads every pixel.
    """

    def __init__(
        self,
        images: str | os.PathLike,
        annotations: str | os.PathLike | dict | None = None,
        *,
        strict: bool = False,
        decode: bool = False,
        transforms: Transform | None = None,
    ) -> None:
        root = Path(images)
        if annotations is None:
            annotations = root / "annotations.json"
        coco, file = (annotations, "annotations") if isinstance(annotations, dict) else (None, os.fspath(annotations))
        if coco is None:
            coco = load_coco(file)
        self._coco, self.report = check_coco(coco, root, file=file, strict=strict, decode=decode)
        categories = sorted(self._coco["categories"], key=lambda category: category["id"])
        self.classes = tuple(category["name"] for category in categories)
        self.category_ids = tuple(category["id"] for category in categories)
        self._label = {category_id: label for label, category_id in enumerate(self.category_ids)}
        self.transforms = transforms
        self._wrapped = wrap_dataset_for_transforms_v2(_Reader(root, self._coco), target_keys=FIELDS)

    def __len__(self) -> int:
        return len(self._wrapped)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        index = range(len(self))[index]
        try:
            image, found = self._wrapped[index]
        except OSError as error:
            entry = self._wrapped.coco.imgs[self._wrapped.ids[index]]
            raise OSError(f"image id {entry['id']}, {entry['file_name']}: {error}") from error
        image = tv_tensors.Image(F.pil_to_tensor(image))
        # The wrapper leaves all but the id of an image without boxes away.
        target = make_target(
            torch.as_tensor(found.get("boxes", torch.empty(0, 4))),
            self._labels(found.get("labels", torch.empty(0)).tolist()),
            found["image_id"],
            (image.shape[-2], image.shape[-1]),
            torch.tensor(found.get("area", [])),
            torch.tensor(found.get("iscrowd", [])),
        )
        return finish_item(image, target, self.transforms)

    @property
    def targets(self) -> list[Target]:
        """All targets as they are before `transforms`, without opening an image."""
        reader = self._wrapped
        return [self._target(reader.coco.imgs[image_id], reader.coco.imgToAnns[image_id]) for image_id in reader.ids]

    def coco(self) -> dict:
        """The checked annotations, as a COCO dict with the file's own category ids."""
        return self._coco

    def _labels(self, category_ids: list[int]) -> Tensor:
        return torch.tensor([self._label[category_id] for category_id in category_ids], dtype=torch.int64)

    def _target(self, entry: dict, annotations: list[dict]) -> Target:
        xywh = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(-1, 4)
        return make_target(
            torch.cat((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), dim=1),
            self._labels([a["category_id"] for a in annotations]),
            entry["id"],
            (entry["height"], entry["width"]),
            torch.tensor([a["area"] for a in annotations]),
            torch.tensor([a["iscrowd"] for a in annotations]),
        )


class _Reader(CocoDetection):
    """torchvision's reader on annotations that are already in memory and checked."""

    def __init__(self, root: Path, coco: dict) -> None:
        from faster_coco_eval import COCO  # pycocotools' class without its printing

        VisionDataset.__init__(self, root)
        self.coco = COCO(coco, use_deepcopy=True)
        self.ids = sorted(self.coco.imgs)
