"""What is odd in the data itself: annotation faults, boxes that stand there twice, boxes of hardly a pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelkit.datasets.box_table import BoxTable

SAME = 0.9  # the IoU from which on two boxes of one class in one picture are taken for one object
SMALL = 2  # px, the shorter side in the picture
AT_ONCE = 1 << 18  # boxes that are compared at a time, and those of the picture that is begun
SHOWN = 100  # faults that are named one by one


@dataclass(frozen=True, eq=False)
class DataFaults:
    """first, second [n]: pairs of boxes that are the same object twice, as rows of the table; same [n]: their IoU.
    under_2_px: how many objects have a side below that in their picture. per_image [I]: objects of every picture.

    Twice: two objects of one class in one picture whose IoU is 0.9 or more.
    """

    table: BoxTable
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    under_2_px: int
    per_image: np.ndarray

    @classmethod
    def of(cls, table: BoxTable) -> DataFaults:
        objects = np.flatnonzero(~table.ignored)
        boxes = table.boxes[objects]
        small = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) < SMALL if len(boxes) else np.zeros(0, dtype=bool)
        image = table.image[objects]
        per_image = np.bincount(image, minlength=len(table))
        found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
        ends = np.cumsum(per_image)
        edges = np.unique(ends[np.searchsorted(ends, np.arange(0, len(objects), AT_ONCE))]).tolist()
        for low, high in zip([0, *edges], [*edges, len(objects)], strict=True):  # whole pictures, some at a time
            here = slice(low, high)
            first, second, same = duplicates(boxes[here], image[here], table.labels[objects[here]])
            found.append((objects[here][first], objects[here][second], same))
        first, second, same = (np.concatenate(column) for column in zip(*found, strict=True))
        return cls(table, first, second, same, int(small.sum()), per_image)

    def to_json(self) -> dict[str, Any]:
        known = len(self.per_image) > 0
        return {
            "problems": [str(problem) for problem in self.table.report.problems[:SHOWN]],
            "duplicates": len(self.first),
            "identical": int((self.same == 1).sum()),
            "duplicate_pairs": list(self.named_pairs()),
            "under_2_px": self.under_2_px,
            "objects_per_image": {
                "median": float(np.median(self.per_image)) if known else None,
                "most": int(self.per_image.max()) if known else 0,
                "images_without": int((self.per_image == 0).sum()),
            },
        }

    def named_pairs(self) -> Iterator[str]:
        """The first duplicates, by file, picture and annotation."""
        table = self.table
        for first, second, same in zip(self.first[:SHOWN], self.second[:SHOWN], self.same[:SHOWN], strict=True):
            image = int(np.searchsorted(table.starts, first, side="right")) - 1
            picture = f"image id {table.image_ids[image]}" + (f" ({table.names[image]})" if table.names[image] else "")
            known = table.ids[first] >= 0
            what = "annotations" if known else "boxes"
            one, other = (table.ids if known else table.index)[[first, second]]
            yield f"{table.file or 'targets'}: {picture}: {what} {one} and {other} have an IoU of {same:.3f}"


def duplicates(boxes: np.ndarray, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs (i < j) of one picture and one class with an IoU of 0.9 or more, in order; their IoU.

    Sorted by their left border, each box is held against the next one, the one after it, and so on, until the borders
    are too far apart: at an IoU of `SAME` they differ by at most 1 / SAME - 1 of the narrower box's width, for what
    the union has beyond the intersection is at most that share of it.
    """
    order = np.lexsort((boxes[:, 0], label, image))
    x1, y1, x2, y2 = boxes[order].astype(np.float64).T
    group = np.flatnonzero(np.diff(image[order], prepend=-1) | np.diff(label[order], prepend=-1))
    group = np.searchsorted(group, np.arange(len(order)), side="right")
    area, reach = (x2 - x1) * (y2 - y1), x1 + (1 / SAME - 1) * 1.001 * (x2 - x1)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    left, step = np.arange(len(order)), 0
    while len(left):
        step += 1
        left = left[left + step < len(order)]
        right = left + step
        near = (group[left] == group[right]) & (x1[right] <= reach[left])
        left, right = left[near], right[near]
        width = np.minimum(x2[left], x2[right]) - np.maximum(x1[left], x1[right])
        height = np.minimum(y2[left], y2[right]) - np.maximum(y1[left], y1[right])
        both = np.clip(width, 0, None) * np.clip(height, 0, None)
        same = both / (area[left] + area[right] - both)
        hit = same >= SAME
        pair = np.sort(np.stack((order[left[hit]], order[right[hit]])), axis=0)
        found.append((pair[0], pair[1], same[hit]))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)] if found else [np.zeros(0, int)] * 3
    by_row = np.lexsort((columns[1], columns[0]))
    return columns[0][by_row], columns[1][by_row], columns[2][by_row]
