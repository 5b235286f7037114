"""What every data set of labelkit gives: one item's form, the batch, and a data set that lives in memory.

An item is `(image, target)`: a float32 image `[3, H, W]` in 0..1, as torchvision's detectors expect it, and a dict with

    boxes     tv_tensors.BoundingBoxes, float32 [G, 4], xyxy in pixels of that image
    labels    int64 [G], 0 ... number of classes - 1
    image_id  int
    area      float32 [G], the annotation's area (after a transform: the box's)
    iscrowd   int64 [G], 1 for a region that is neither object nor background

A data set's `transforms(image, target)` sees the uint8 image, which is scaled afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from labelkit.boxes import area as box_area

Target = dict[str, Tensor | int]
Transform = Callable[[Tensor, Target], tuple[Tensor, Target]]


def make_target(
    boxes: Tensor,
    labels: Tensor,
    image_id: int,
    canvas_size: tuple[int, int],
    area: Tensor | None = None,
    iscrowd: Tensor | None = None,
) -> Target:
    """One image's target dict, in the types that the head of this file promises. `canvas_size` is (height, width)."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas_size)
    return {
        "boxes": wrapped,
        "labels": torch.as_tensor(labels, dtype=torch.int64).reshape(-1),
        "image_id": int(image_id),
        "area": box_area(boxes) if area is None else torch.as_tensor(area, dtype=torch.float32).reshape(-1),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.int64)
        if iscrowd is None
        else torch.as_tensor(iscrowd, dtype=torch.int64).reshape(-1),
    }


def finish_item(image: Tensor, target: Target, transforms: Transform | None) -> tuple[Tensor, Target]:
    """Apply `transforms`, recompute the areas that it may have changed, and scale the image to float32 in 0..1."""
    if transforms is not None:
        image, target = transforms(image, target)
        counts = {key: len(target[key]) for key in ("boxes", "labels", "iscrowd")}
        if len(set(counts.values())) > 1:
            raise ValueError(
                f"transforms left a target whose fields differ in length: {counts}; give SanitizeBoundingBoxes "
                "labels_getter=labelkit.datasets.box_fields, so that it filters them all"
            )
        target = target | {"area": box_area(torch.as_tensor(target["boxes"]))}
    return F.to_dtype(image, torch.float32, scale=True), target


def box_fields(inputs: tuple[Tensor, Target]) -> tuple[Tensor, ...]:
    """The per-box fields of a sample: the `labels_getter` that torchvision's SanitizeBoundingBoxes needs here."""
    return tuple(inputs[1][key] for key in ("labels", "area", "iscrowd"))


def drop_crowd(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """A transform that removes crowd regions, which a detector must not learn as objects. Evaluation needs them."""
    keep = target["iscrowd"] == 0
    boxes = tv_tensors.wrap(torch.as_tensor(target["boxes"])[keep], like=target["boxes"])
    return image, target | {"boxes": boxes} | {key: target[key][keep] for key in ("labels", "area", "iscrowd")}


def collate(batch: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """Lists, as torchvision's detectors take them: images of one batch may differ in size."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


class DetectionDataset(Dataset):
    """Images of one size and their targets, held in memory.

    `images` is uint8 `[N, 3, H, W]`, `targets` a list of N target dicts, `classes` the names by label.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "N 3 H W"],
        targets: Sequence[Target],
        classes: Sequence[str],
        transforms: Transform | None = None,
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be uint8 [N, 3, H, W], got {images.dtype} {list(images.shape)}")
        if len(images) != len(targets):
            raise ValueError(f"images and targets must have one length, got {len(images)} and {len(targets)}")
        self.images, self.targets = images, list(targets)
        self.classes, self.transforms = tuple(classes), transforms

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        return finish_item(tv_tensors.Image(self.images[index]), dict(self.targets[index]), self.transforms)

    def coco(self) -> dict:
        """The annotations as a COCO dict; category ids and annotation ids start at 1, file names at 000000."""
        height, width = self.images.shape[-2:]
        images, annotations = [], []
        for index, target in enumerate(self.targets):
            name = f"images/{index:06d}.png"
            images.append({"id": target["image_id"], "file_name": name, "width": width, "height": height})
            fields = (target[key].tolist() for key in ("boxes", "labels", "area", "iscrowd"))
            for (x1, y1, x2, y2), label, area, iscrowd in zip(*fields, strict=True):
                bbox = [x1, y1, x2 - x1, y2 - y1]
                record = {"id": len(annotations) + 1, "image_id": target["image_id"], "category_id": label + 1}
                annotations.append(record | {"bbox": bbox, "area": area, "iscrowd": iscrowd})
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.classes)]
        return {"images": images, "categories": categories, "annotations": annotations}

    def sha256(self) -> str:
        """Digest of all pixels, boxes and labels: equal digests mean equal data."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images.numpy()))
        for target in self.targets:
            digest.update(np.ascontiguousarray(target["boxes"].numpy()))
            digest.update(target["labels"].numpy())
        return digest.hexdigest()

    def to_coco(self, folder: str | os.PathLike) -> Path:
        """Write `images/*.png` and `annotations.json` below `folder`, readable by `CocoFolder`, and return it.

        The JSON is written last and moved into place, so that an interrupted call leaves no valid-looking folder.
        """
        folder = Path(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        coco = self.coco()
        for image, entry in zip(self.images, coco["images"], strict=True):
            Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(folder / entry["file_name"])
        unfinished = folder / "annotations.json.part"
        unfinished.write_text(json.dumps(coco))
        os.replace(unfinished, folder / "annotations.json")
        return folder
