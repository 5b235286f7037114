"""What goes into the network: whole pictures, or the tiles that they are cut into, with the objects that each shows.

An object counts once: in the tile that shows the largest share of its area (of equal shares the leftmost column, then
the uppermost row). A tile's objects are those that count there and those of which it shows at least half; they compete
there, cut at the tile's border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from labelkit.datasets.box_table import BoxTable
from labelkit.datasets.tiles import KEPT
from labelkit.tiling import Tiling, check_pixels


@dataclass(frozen=True)
class Tiles:
    """Squares of `side` pixels of the picture, neighbours sharing at least `overlap`; the last one ends at the border.

    A picture that is smaller is one tile, as if there were no tiles.
    """

    side: int
    overlap: int = 0

    def __post_init__(self) -> None:
        check_pixels("side", self.side)
        check_pixels("overlap", self.overlap)
        if not 0 <= self.overlap < self.side:
            raise ValueError(f"overlap must be at least 0 and below the tile of {self.side} px, got {self.overlap}")

    def starts(self, length: int) -> np.ndarray:
        """Where the tiles along a side of `length` pixels begin: where training's do."""
        return np.array(Tiling(self.side, self.overlap).starts(length), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Some inputs [n], and the objects that each shows, one input after another [m].

    image: of the table. corner: (x, y) of the tile in its picture. sizes: (height, width) of the tile. first [n + 1]:
    where the objects of each begin. box: their rows in the table. counts [m]: whether the object counts here.
    """

    image: np.ndarray
    corner: np.ndarray
    sizes: np.ndarray
    first: np.ndarray
    box: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, table: BoxTable, images: np.ndarray, tiles: Tiles | None) -> Inputs:
        """Those of some pictures, which are indices of the table in ascending order."""
        pictures = images.tolist()
        objects = [np.arange(table.starts[image], table.starts[image + 1]) for image in pictures]
        objects = [rows[~table.ignored[rows]] for rows in objects]
        if tiles is not None:
            cut = [_cut(table, image, rows, tiles) for image, rows in zip(pictures, objects, strict=True)]
            parts = [part for picture in cut for part in picture]
        else:
            parts = [
                (image, (0, 0), tuple(table.sizes[image]), rows, np.ones(len(rows), dtype=bool))
                for image, rows in zip(pictures, objects, strict=True)
            ]
        columns = list(zip(*parts, strict=True)) or [(), (), (), (), ()]
        lengths = [len(rows) for rows in columns[3]]
        return cls(
            np.array(columns[0], dtype=np.int64),
            np.array(columns[1], dtype=np.int64).reshape(-1, 2),
            np.array(columns[2], dtype=np.int64).reshape(-1, 2),
            np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))),
            np.concatenate([np.zeros(0, dtype=np.int64), *columns[3]]),
            np.concatenate([np.zeros(0, dtype=bool), *columns[4]]),
        )

    def boxes(self, table: BoxTable, some: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the inputs `some`: rows of (table, these inputs' columns) and boxes, cut, in pixels of the tile."""
        counts = self.first[some + 1] - self.first[some]
        owner = np.repeat(np.arange(len(some)), counts)
        before = np.cumsum(counts) - counts
        place = np.arange(len(owner)) - before[owner] + self.first[some][owner]
        corner = self.corner[some][owner]
        boxes = table.boxes[self.box[place]]
        whole = (self.sizes[some] == table.sizes[self.image[some]]).all(axis=1)[owner]
        shift = np.concatenate((corner, corner), axis=1).astype(np.float32)
        size = self.sizes[some][owner][:, ::-1]
        cut = np.clip(boxes - shift, 0, np.concatenate((size, size), axis=1).astype(np.float32))
        return place, owner, np.where(whole[:, None], boxes, cut)


def _cut(table: BoxTable, image: int, rows: np.ndarray, tiles: Tiles) -> Iterator[tuple]:
    """The tiles of one picture: (image, corner, size, rows, which of them count there)."""
    height, width = table.sizes[image].tolist()
    across, columns = _shares(table.boxes[rows][:, 0::2], tiles.starts(width), min(tiles.side, width))
    down, lines = _shares(table.boxes[rows][:, 1::2], tiles.starts(height), min(tiles.side, height))
    # The area's share is the product of both: the best tile is the best column of the best row.
    column, line = across.argmax(axis=1), down.argmax(axis=1)
    for y, top in enumerate(lines):
        for x, left in enumerate(columns):
            counts = (column == x) & (line == y)
            shown = np.flatnonzero(counts | (across[:, x] * down[:, y] >= KEPT))
            size = (min(tiles.side, height), min(tiles.side, width))
            yield image, (left, top), size, rows[shown], counts[shown]


def _shares(spans: np.ndarray, starts: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """What share of every span (from, to) lies in each tile, [objects, tiles]; the starts."""
    low, high = spans[:, :1].astype(np.float64), spans[:, 1:].astype(np.float64)
    shown = np.minimum(high, starts + side) - np.maximum(low, starts)
    return np.clip(shown, 0, None) / (high - low), starts
