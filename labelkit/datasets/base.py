"""What every data set of labelkit gives: one item's form, the batch, what training asks of a set, one in memory.

An item is `(image, target)`: a float32 image `[3, H, W]` in 0..1, as torchvision's detectors expect it, and a dict with

    boxes     tv_tensors.BoundingBoxes, float32 [G, 4], xyxy in pixels of that image
    labels    int64 [G], 0 ... number of classes - 1
    image_id  int
    area      float32 [G], the annotation's area (after a transform: the box's)
    iscrowd   int64 [G], 1 for a region that is neither object nor background

A data set's `transforms(image, target)` sees the uint8 image, which is scaled afterwards; a picture whose file holds
more than 8 bits comes as float32 in 0..1.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from labelkit.assigners.ground_truths import flagged
from labelkit.boxes import area as box_area

Target = dict[str, Any]  # the fields above
Transform = Callable[[Tensor, Target], tuple[Tensor, Target]]

SMALLEST_SIDE = 2  # px; what is smaller on both sides is hardly an object
NEARLY_ALL = 0.95  # of the boxes of a training set


@runtime_checkable
class BoxDataset(Protocol):
    """What training, evaluation and the audit ask of a data set."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names by label."""

    @property
    def targets(self) -> list[Target]:
        """All targets as they are before any transform, without opening an image."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]: ...


def make_target(
    boxes: Tensor | Sequence[Sequence[float]],
    labels: Tensor | Sequence[int],
    image_id: int,
    canvas_size: tuple[int, int],
    area: Tensor | Sequence[float] | None = None,
    iscrowd: Tensor | Sequence[int] | None = None,
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
    """A transform that removes crowd regions, whose pixels a detector then learns as background.

    For models that know no ignored regions; labelkit's assigners and its evaluation leave them out by themselves.
    """
    keep = target["iscrowd"] == 0
    boxes = tv_tensors.wrap(torch.as_tensor(target["boxes"])[keep], like=target["boxes"])
    return image, target | {"boxes": boxes} | {key: target[key][keep] for key in ("labels", "area", "iscrowd")}


def collate(batch: Sequence[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """Lists, as torchvision's detectors take them: images of one batch may differ in size."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


class DetectionDataset(Dataset[tuple[Tensor, Target]]):
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
        return finish_item(*self.picture(index), self.transforms)

    def picture(self, index: int) -> tuple[Tensor, Target]:
        """The image as it is, uint8, and its target: an item before `transforms`."""
        return tv_tensors.Image(self.images[index]), dict(self.targets[index])

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The id of every class in `coco()`, by label."""
        return tuple(range(1, len(self.classes) + 1))

    def coco(self) -> dict:
        """The annotations as a COCO dict; category ids and annotation ids start at 1, file names at 000000."""
        height, width = self.images.shape[-2:]
        images: list[dict] = []
        annotations: list[dict] = []
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
        digest = hashlib.sha256(self.images.numpy().tobytes())
        for target in self.targets:
            digest.update(target["boxes"].numpy().tobytes())
            digest.update(target["labels"].numpy().tobytes())
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


def check_trainable(dataset: BoxDataset) -> None:
    """Refuse a data set that teaches nothing: a `ValueError` instead of a run that ends with an AP of 0.

    Raises:
        ValueError: no image, no class, no object (crowds are none), or a set of which at least 95 in 100 boxes are
            under 2 px on both sides, as boxes in parts of the image (0..1) are when they are taken for pixels. The
            message ends with what the check of the files found.
    """
    report = getattr(dataset, "report", None)
    found = "" if report is None else f"\n{report.summary()}"
    boxes = [torch.as_tensor(target["boxes"])[~flagged(target)] for target in dataset.targets]
    objects = torch.cat([torch.empty(0, 4), *boxes])
    for number, what in ((len(boxes), "image"), (len(dataset.classes), "class"), (len(objects), "object")):
        if number == 0:
            raise ValueError(f"the training set holds no {what}{found}")
    small = ((objects[:, 2:] - objects[:, :2]).amax(dim=1) < SMALLEST_SIDE).sum().item()
    if small >= NEARLY_ALL * len(objects):
        raise ValueError(
            f"{small} of the {len(objects)} boxes to train on are under {SMALLEST_SIDE} px on both sides, such as "
            f"{objects[0].tolist()}: boxes are in pixels; are these in parts of the image (0..1)?{found}"
        )
