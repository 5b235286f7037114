"""A data set of large pictures in tiles, cut when they are read: what becomes of the objects that a border cuts."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from labelkit.counts import counted
from labelkit.datasets.base import Target, Transform, finish_item, make_target
from labelkit.datasets.report import Problem, Report
from labelkit.tiling import Tiling, Window

KEPT = 0.5  # of an object's area; what a tile shows less of is no object there


@runtime_checkable
class Pictures(Protocol):
    """What tiles are cut from: a `CocoFolder` or a `DetectionDataset`."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def targets(self) -> list[Target]: ...

    def picture(self, index: int) -> tuple[Tensor, Target]: ...


class Tiles(Dataset[tuple[Tensor, Target]]):
    """The tiles of every picture, with what each shows of the objects. Boxes are in pixels of the tile.

    A tile that shows at least half of an object's area has it as an object, cut at the tile's border. One that shows
    less has that part as a region to ignore (iscrowd 1): neither object nor background. Regions of the data stay
    regions. Tiles without any object are kept: they are what background looks like. An object that is no larger than
    the overlap is whole in at least one tile; `report` counts those that are whole in none, and those that no tile
    shows by half, which are only ignored.

    `transforms` sees the tile. Every item reads its whole picture, so workers pay off.
    """

    def __init__(self, dataset: Pictures, tiling: Tiling, transforms: Transform | None = None) -> None:
        self.dataset, self.tiling, self.transforms = dataset, tiling, transforms
        self.classes = tuple(dataset.classes)
        self.category_ids: tuple[int, ...] | None = getattr(dataset, "category_ids", None)
        self.white: float | None = getattr(dataset, "white", None)
        self._tiles: list[tuple[int, Window]] = []
        objects, whole, nowhere, empty, cut = 0, 0, 0, 0, 0
        targets = dataset.targets
        for index, target in enumerate(targets):
            windows = tiling.windows(*target["boxes"].canvas_size)
            self._tiles += [(index, window) for window in windows]
            boxes = torch.as_tensor(target["boxes"])[target["iscrowd"] == 0]
            shares = shown(boxes, torch.tensor(windows)[:, None])[1]  # [tiles, objects]
            best = shares.amax(dim=0)
            objects += len(boxes)
            whole += int((best == 1).sum())
            nowhere += int((best < KEPT).sum())
            empty += int((shares < KEPT).all(dim=1).sum())
            cut += int(((shares > 0) & (shares < KEPT)).sum())
        said = (
            f"{counted(len(targets), 'picture makes', 'pictures make')} {counted(len(self._tiles), 'tile')}, "
            f"{empty} of them without an object; of {counted(objects, 'object')} "
            f"{counted(objects - whole, 'is', 'are')} whole in no tile; "
            f"{counted(cut, 'time')} a tile shows less than half of one, which is ignored there"
        )
        if nowhere:
            half = "shown by half in no tile, so"
            lost = counted(nowhere, f"is {half} it teaches", f"are {half} they teach")
            said += f"; {lost} nothing: take larger tiles or more overlap"
        report = getattr(dataset, "report", None) or Report()
        note = Problem("tiles", str(tiling), said, "tiles", "read")
        self.report: Report = replace(report, notes=[*report.notes, note])

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        index = range(len(self))[index]
        picture, window = self._tiles[index]
        image, target = self.dataset.picture(picture)
        x1, y1, x2, y2 = window
        part = tv_tensors.Image(image[:, y1:y2, x1:x2])
        return finish_item(part, cut_target(target, window, index), self.transforms)

    @property
    def targets(self) -> list[Target]:
        """All targets as they are before `transforms`, without opening an image."""
        whole = self.dataset.targets
        return [cut_target(whole[picture], window, index) for index, (picture, window) in enumerate(self._tiles)]


def shown(boxes: Float[Tensor, "G 4"], windows: Integer[Tensor, "*#w 4"]) -> tuple[Tensor, Tensor]:
    """What windows show of boxes, in pixels of the window, and its share of each box's area; 0 for nothing."""
    corner = windows[..., [0, 1, 0, 1]].to(boxes.dtype)
    inside = boxes.clamp(min=corner, max=windows[..., [2, 3, 2, 3]].to(boxes.dtype)) - corner
    sides, whole = inside[..., 2:] - inside[..., :2], boxes[:, 2:] - boxes[:, :2]
    return inside, (sides / whole).prod(dim=-1)


def cut_target(target: Target, window: Window, image_id: int) -> Target:
    """The target of one tile: see `Tiles`."""
    x1, y1, x2, y2 = window
    inside, share = shown(torch.as_tensor(target["boxes"]), torch.tensor(window))
    here = share > 0
    ignored = (target["iscrowd"] != 0) | (share < KEPT)
    return make_target(
        inside[here],
        target["labels"][here],
        image_id,
        (y2 - y1, x2 - x1),
        (target["area"] * share)[here],
        ignored[here].long(),
    )
