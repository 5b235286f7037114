"""Which boxes can meet: of every box the others of its class, and only those in reach where overlap alone counts.

Boxes lie in the cells of a quadtree whose borders are quantiles of where the boxes begin, so that no outlier makes it
coarse: a box stands in the level whose cells are as large as itself, under its first corner, and reaches one cell
further at most. Cells are integers, made by comparisons and shifts: no rounding can lose a pair that overlaps. Class,
level, row and column are one number, by which the boxes are sorted; what a box can meet are a few ranges of that order,
looked up for many boxes at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from labelkit.cuts import cuts

CHUNK = 1 << 16  # pairs at once on the CPU: few enough for its cache
GPU_CHUNK = 1 << 22  # and elsewhere: enough to hide the cost of a launch
SAMPLE = 1 << 12  # so many boxes tell where the borders of cells lie


class Neighbours:
    """Pairs of N boxes that can meet, found without looking at all of them.

    `labels` are classes: boxes of two never meet. With `touching` only boxes of which a point is common do, borders
    included; without it all boxes of a class.
    """

    def __init__(
        self, boxes: Float[Tensor, "N 4"], labels: Integer[Tensor, " N"] | None = None, *, touching: bool = False
    ) -> None:
        self._everything = labels is None and not touching
        group, classes = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device), 1
        if labels is not None:
            names, group = labels.unique(return_inverse=True)
            classes = max(1, len(names))
        # As many cells as a class has boxes, about.
        depth = (max(1, len(boxes) // classes).bit_length() - 1) // 2 if touching else 0
        self._first, self._last = _cells(boxes, depth)
        apart = (self._last - self._first).amax(dim=0)
        level = torch.bucketize(apart, 2 ** torch.arange(depth, device=boxes.device))
        self._levels = level.unique()
        self._group = group * (depth + 1)
        self._wide = (1 << depth) + 1  # cells of a row, one of them left of the first
        column, row = self._first >> level
        self._key = self._row(self._group + level, row) + column

    def arranged(self, chosen: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The chosen boxes in the order that `pairs` looks them up by."""
        return chosen[self._key[chosen].argsort()]

    def pairs(
        self, chosen: Int[Tensor, " n"], arranged: Int[Tensor, " m"]
    ) -> Iterator[tuple[Int[Tensor, "*a"], Int[Tensor, "*b"]]]:
        """(chosen, other) for every other box in `arranged` that a chosen one can meet, itself too, a bounded number at
        a time: two index tensors that broadcast with each other."""
        chunk = CHUNK if chosen.device.type == "cpu" else GPU_CHUNK
        if self._everything:
            for others in arranged.split(max(1, chunk // 16)):
                for some in chosen.split(max(1, chunk // max(1, len(others)))):
                    yield some[:, None], others[None]
            return
        place, begin, count = self._ranges(chosen, self._key[arranged])
        end = count.cumsum(0)
        # Pair number n of all is the one at n - shift of `arranged`.
        shift = end - count - begin
        before = 0
        for low, high, size in cuts(end[None], chunk) if len(end) else ():
            which = torch.repeat_interleave(count[low:high], output_size=size)
            number = torch.arange(before, before + size, device=which.device)
            yield chosen[place[low:high][which]], arranged[number - shift[low:high][which]]
            before += size

    def counts(self, chosen: Int[Tensor, " n"], arranged: Int[Tensor, " m"]) -> Int[Tensor, " n"]:
        """How many pairs `pairs` has of every chosen box."""
        if self._everything:
            return torch.full_like(chosen, len(arranged))
        place, _, count = self._ranges(chosen, self._key[arranged])
        return torch.zeros_like(chosen).index_add_(0, place, count)

    def _ranges(self, chosen: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ranges of sorted `keys`, a row of cells each, that are not empty: (place in chosen, begin, length)."""
        first = (self._first[:, chosen, None] >> self._levels) - 1
        last = self._last[:, chosen, None] >> self._levels
        rows = (last[1] - first[1] + 1).flatten()
        which = torch.repeat_interleave(rows)
        row = torch.arange(len(which), device=which.device) + (first[1].flatten() - rows.cumsum(0) + rows)[which]
        start = self._row((self._group[chosen, None] + self._levels).flatten()[which], row)
        begin = torch.searchsorted(keys, start + first[0].flatten()[which])
        count = torch.searchsorted(keys, start + last[0].flatten()[which], right=True) - begin
        used = count.nonzero()[:, 0]
        return (which // len(self._levels))[used], begin[used], count[used]

    def _row(self, group: Tensor, row: Tensor) -> Tensor:
        return (group * self._wide + row + 1) * self._wide + 1


def _cells(boxes: Tensor, depth: int) -> tuple[Int[Tensor, "2 N"], Int[Tensor, "2 N"]]:
    """(column, row) of both corners, each in 0..2^depth - 1: how many borders lie before it."""
    corners = boxes.T.contiguous()
    sample = corners[:2, :: max(1, len(boxes) // SAMPLE)].sort(dim=1).values
    at = torch.arange(1, 1 << depth, device=boxes.device) * sample.shape[1] >> depth
    borders = sample[:, at]
    # Where many boxes begin at one coordinate it is a border once: counted often, it would seem to make boxes large.
    again = torch.zeros_like(borders, dtype=torch.bool)
    again[:, 1:] = borders[:, 1:] == borders[:, :-1]
    borders = borders.masked_fill(again, torch.inf).sort(dim=1).values
    first, last = (torch.searchsorted(borders, side.contiguous()) for side in corners.reshape(2, 2, -1))
    return first, last


def standing(better: Int[Tensor, " e"], worse: Int[Tensor, " e"], count: int) -> Bool[Tensor, " count"]:
    """Which of `count` boxes stand when each strikes out its `worse` ones unless it was struck out itself.

    The pairs must have no circle. Whoever has no better box left stands; in a round all those strike at once, and the
    pairs of what is decided are dropped.
    """
    struck = torch.zeros(count, dtype=torch.bool, device=better.device)
    while len(better):
        waits = torch.zeros_like(struck)
        waits[worse] = True
        struck[worse[~waits[better]]] = True
        left = ~(struck[better] | struck[worse])
        better, worse = better[left], worse[left]
    return ~struck
