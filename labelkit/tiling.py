"""Pictures that are too large, cut into tiles: where the tiles stand. Training, prediction and audit cut alike."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the picture


def check_pixels(name: str, value: object) -> None:
    """Tiles begin and end at pixels."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number of pixels, got {value!r}")


@dataclass(frozen=True)
class Tiling:
    """Square tiles of `tile` px that share `overlap` px with their neighbours.

    The tiles cover the picture, none passes its border and all have one size: the last of a row or column is moved
    back until it ends at the border, and a picture that is smaller than a tile is one tile of its own size. Every
    object whose sides are at most `overlap` lies whole in at least one tile.
    """

    tile: int
    overlap: int

    def __post_init__(self) -> None:
        check_pixels("tile", self.tile)
        check_pixels("overlap", self.overlap)
        if self.tile < 1:
            raise ValueError(f"tile must be at least 1, got {self.tile}")
        if not 0 <= self.overlap < self.tile:
            raise ValueError(f"overlap must lie in 0 ... tile - 1 = {self.tile - 1}, got {self.overlap}")

    @classmethod
    def of(cls, tile: int | None, overlap: int | None = None) -> Tiling | None:
        """None without a tile; an overlap that nobody names is a quarter of the tile."""
        if tile is None:
            if overlap is not None:
                raise ValueError(f"overlap is that of tiles, and there is no tile: got {overlap}")
            return None
        return cls(tile, tile // 4 if overlap is None else overlap)

    def windows(self, height: int, width: int) -> list[Window]:
        """The tiles of a picture, row by row."""
        down, across = min(self.tile, height), min(self.tile, width)
        corners = [(x, y) for y in self.starts(height) for x in self.starts(width)]
        return [(x, y, x + across, y + down) for x, y in corners]

    def starts(self, length: int) -> list[int]:
        """Where the tiles along a side of `length` pixels begin, ascending."""
        last = max(length - self.tile, 0)
        return [*range(0, last, self.tile - self.overlap), last]

    def __str__(self) -> str:
        return f"tiles of {self.tile} x {self.tile} px that share {self.overlap} px"
