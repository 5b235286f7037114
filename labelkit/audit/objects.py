"""The objects of an audit: a row for each, in columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.boxes import area
from labelkit.datasets.box_table import BoxTable


@dataclass(frozen=True, eq=False)
class Objects:
    """Columns, an object a row; crowds are none. Iterating gives a dict a row.

    image: index in the data set. image_id: what its target says. index: of the box in its target. id: of the annotation
    in its file, -1 where none is known. boxes: xyxy in pixels of the network's input (with tiles, of its tile there).
    original_side: root of the area in pixels of the picture. best_iou, best_level: of the best prior, NaN and -1 for a
    detector without anchors. positives, taken_by: by rule, how many positives it got, and for one that got none the
    index (in its target) of the object that won the best of the priors it had chosen, -1 where it chose none.
    times_larger: by rule, the root of that object's area over its own, NaN where nobody took it.
    """

    image: Int[Tensor, "N"]
    image_id: Int[Tensor, "N"]
    index: Int[Tensor, "N"]
    id: Int[Tensor, "N"]
    boxes: Float[Tensor, "N 4"]
    original_side: Float[Tensor, "N"]
    best_iou: Float[Tensor, "N"]
    best_level: Int[Tensor, "N"]
    positives: dict[str, Int[Tensor, "N"]]
    taken_by: dict[str, Int[Tensor, "N"]]
    times_larger: dict[str, Float[Tensor, "N"]]

    @classmethod
    def of(cls, table: BoxTable, counted: dict[str, np.ndarray], rules: list[str]) -> Objects:
        """From what `Counter.count` gives."""
        column = {name: torch.from_numpy(values) for name, values in counted.items()}
        box = counted["box"]
        image = (np.searchsorted(table.starts, box, side="right") - 1).astype(np.int32)
        return cls(
            torch.from_numpy(image),
            torch.from_numpy(table.image_ids[image]),
            torch.from_numpy(table.index[box]),
            torch.from_numpy(table.ids[box]),
            column["boxes"],
            area(torch.from_numpy(table.boxes[box])).sqrt(),
            column["best_iou"],
            column["best_level"],
            *({rule: column[f"{name} {rule}"] for rule in rules} for name in ("positives", "taken_by", "times_larger")),
        )

    def __len__(self) -> int:
        return len(self.image)

    @property
    def side(self) -> Float[Tensor, "N"]:
        """Roots of the areas, in pixels of the network's input."""
        return area(self.boxes).sqrt()

    def columns(self) -> dict[str, np.ndarray]:
        """By name, as `pandas.DataFrame` takes them."""
        plain = ("image", "image_id", "index", "id")
        columns = {name: getattr(self, name).numpy() for name in plain}
        columns |= {"side": self.side.numpy(), "original_side": self.original_side.numpy()}
        columns |= {"best_iou": self.best_iou.numpy(), "best_level": self.best_level.numpy()}
        for rule in self.positives:
            columns[f"positives {rule}"] = self.positives[rule].numpy()
            columns[f"taken by, {rule}"] = self.taken_by[rule].numpy()
        return columns

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.rows()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The table, a dict a row."""
        columns = self.columns()
        for values in zip(*(values.tolist() for values in columns.values()), strict=True):
            yield dict(zip(columns, values, strict=True))
