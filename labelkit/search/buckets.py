"""Buckets: a grid for priors that have none, so that windows narrow their search too.

The priors are sorted into classes of like level and size, and each class into buckets of about a quarter of its size.
A bucket is a cell of an ordinary grid, whose row is the class. Two things make up for what a bucket does not know:

- The reach is that of the class: no less than that of any prior whose sides lie in it (`reach_over`).
- A prior stands up to half a bucket from its bucket's centre, so a window is widened by half a bucket. Which bucket a
  prior is in was computed with three roundings of |its centre - the first one|, which is off by at most 2e-7 of both:
  the first is within `Grid.hair`, the second within 1e-5 of ground truth and reach, both of which `around` adds.

Windows only narrow: what stands in them is evaluated exactly. A reach that is not a number counts as infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.boxes import centers, extents
from labelkit.grid import Grid
from labelkit.priors import Priors
from labelkit.search import windows
from labelkit.search.pairs import Similarity
from labelkit.search.reach import THIN, reach_over
from labelkit.search.windows import Windows

ENOUGH = 1 << 18  # pairs: fewer are evaluated in blocks before windows would be found (0.6 ms)
PAYS = 32  # ground truths: building costs as much as holding all priors against so many (14 ms of 201,600)
DEARER = 4  # a pair from a bucket costs so many times one of a block
CLASSES = 256
_SHARE = 1 / 4  # of a class's sides


@dataclass(frozen=True, eq=False)
class Buckets:
    """grid: a row for each class, a cell for each bucket. low, high: the shortest and longest sides of each class.
    priors: sorted, bucket by bucket; order: their indices. start: where each bucket begins, and the end. row: the class
    of every prior, not sorted. lines: the class of every bucket.
    """

    grid: Grid
    low: Float[Tensor, "2 M"]
    high: Float[Tensor, "2 M"]
    priors: Priors
    order: Int[Tensor, "P"]
    start: Int[Tensor, "_"]
    row: Int[Tensor, "P"]
    lines: Int[Tensor, "_"]

    def __len__(self) -> int:
        return len(self.grid)

    @cached_property
    def density(self) -> Float[Tensor, "M"]:
        """Priors in a bucket of each class, on average."""
        cells = self.grid.rows * self.grid.columns
        return (self.start[self.grid.first + cells] - self.start[self.grid.first]) / cells

    def blocks(self, gts: int, k: int) -> Iterator[slice]:
        """Ranges of ground truths with a bounded number of windows, and of pairs to find the k best with."""
        step = max(1, windows.BLOCK // max(len(self), 8 * _side(k) ** 2))
        for low in range(0, gts, step):
            yield slice(low, min(low + step, gts))

    def reachable(self, gt: Float[Tensor, "G 4"], similarity: Similarity, floor: Float[Tensor, "#G #M"]) -> Windows:
        """Windows of the buckets that may hold a prior with a value of `floor`, already lowered by its rounding."""
        side = extents(gt)[:, :, None].to(self.low.dtype)
        reach = reach_over(similarity, self.low[:, None], self.high[:, None], side, floor, self.grid.hair)
        return self.around(centers(gt), torch.stack(reach))

    def around(self, center: Float[Tensor, "G 2"], reach: Float[Tensor, "2 G M"]) -> Windows:
        """The buckets that may hold a prior within the reach (none if it is negative): widened by half a bucket."""
        wide = (reach + self.grid.stride / 2).nan_to_num_(nan=torch.inf, posinf=torch.inf)
        return windows.around(self.grid, center, torch.where(reach < 0, -1, wide))

    def narrows(self, window: Windows, gts: int) -> bool:
        """Whether looking into the windows is likely to be quicker than holding all priors against `gts`."""
        pairs = float((window.extent[0] * window.extent[1] * self.density).sum())
        return DEARER * pairs <= len(self.order) * gts

    def pairs(self, window: Windows) -> Iterator[tuple[Tensor, Tensor]]:
        """Flatten windows to (place, gt) index vectors, int32, ordered by ground truth, in chunks of about CHUNK pairs.

        place: among the sorted priors, where those of a line of buckets stand one after another.
        """
        across = window.extent[0]
        slim = Windows(window.start, torch.stack((across.clamp(max=1), window.extent[1])))
        for cell, gt in windows.cells(self.grid, slim):
            width = across.flatten().index_select(0, gt * len(self) + self.lines.index_select(0, cell))
            begin = self.start.index_select(0, cell)
            count = self.start.index_select(0, cell + width) - begin
            used = count.nonzero().squeeze(1)
            if len(used):
                yield from in_chunks(*(part.index_select(0, used) for part in (begin, count, gt)))

    def kth_best_nearby(self, gt: Float[Tensor, "G 4"], similarity: Similarity, k: int) -> Float[Tensor, "G"]:
        """A lower bound of each ground truth's k-th best value: the k-th best of any k priors is one.

        A prior of every class, from the bucket nearest to the ground truth or behind, says which classes suit it; of
        those the nearest buckets are asked. -inf where fewer than k are near.
        """

        def score(place: Int[Tensor, "G n"]) -> Float[Tensor, "G n"]:
            sides = self.priors.sides.index_select(1, place.flatten()).view(4, *place.shape)
            return similarity(sides.movedim(0, -1), gt[:, None])

        side = _side(k)
        near = windows.nearest(self.grid, centers(gt), side)
        x, y = near.start + near.extent // 2
        place = self.start[self.grid.first + y * self.grid.columns + x].clamp(max=len(self.order) - 1)
        best, row = score(place).topk(min(4, len(self)), dim=1)
        (column, line), (across, down) = (part.gather(2, row.expand(2, -1, -1)) for part in (near.start, near.extent))
        inside = torch.arange(side, device=gt.device)
        first, columns = self.grid.first[row], self.grid.columns[row]
        cell = (first + line * columns + column)[..., None] + columns[..., None] * inside.clamp(max=down[..., None] - 1)
        begin, end = self.start[cell], self.start[cell + across[..., None]]
        member = begin[..., None] + torch.arange(2 * side, device=gt.device)
        valid = (member < end[..., None]) & (inside < down[..., None])[..., None]
        member = torch.where(valid, member, 0).flatten(1)
        value = score(member).masked_fill(~valid.flatten(1), -torch.inf)
        if k == 1:
            return torch.maximum(best[:, 0], value.amax(dim=1))
        return value.topk(k, dim=1).values[:, -1] if k <= value.shape[1] else value.new_full((len(gt),), -torch.inf)


def in_chunks(
    begin: Int[Tensor, "n"], count: Int[Tensor, "n"], tag: Int[Tensor, "n"]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Flatten n runs of `count` numbers from `begin` on, in chunks of about CHUNK: the numbers, int32, and the tags."""
    for first, last, total, _ in windows.cuts(count.cumsum(0).expand(2, -1)):
        some = count[first:last]
        which = torch.repeat_interleave(some, output_size=total)
        # Number i of the chunk is number i - before of its run.
        before = some.cumsum(0, dtype=torch.int32) - some
        number = torch.arange(total, dtype=torch.int32, device=count.device)
        number += (begin[first:last] - before).index_select(0, which)
        yield number, tag[first:last].index_select(0, which)


def _side(k: int) -> int:
    """So many buckets across and down hold k priors or more, mostly."""
    return max(2, 1 + math.isqrt(max(k - 1, 0)))


# ------------------------------------------------------------------------------------------------------ building

# No value holds its key, and so none keeps it.
_known: WeakKeyDictionary[Priors, Buckets | int | None] = WeakKeyDictionary()


def many(priors: int, gts: int) -> bool:
    """Whether there are so many pairs that buckets are worth a thought."""
    return priors * gts >= ENOUGH


def buckets_of(priors: Priors, gts: int, k: int = 1) -> Buckets | None:
    """The buckets of priors without a grid, kept as long as they are; None where blocks are as quick.

    Whether somebody will ask again is not known. So they are built when the priors have been held against as many
    ground truths as building costs.
    k: how many of each ground truth are asked for; no use if those are as many as all. On a GPU always blocks: sorting
    waits for it, and nobody has measured what it would save.
    """
    if priors.device.type != "cpu" or not many(len(priors), gts) or 8 * k > len(priors):
        return None
    known = _known.get(priors, 0)
    if isinstance(known, int):
        known += gts
        _known[priors] = known = build(priors) if known >= PAYS else known
    return known if isinstance(known, Buckets) else None


def build(priors: Priors) -> Buckets | None:
    """Sort priors into classes and buckets; None if a place or a distance is beyond all numbers."""
    near, far = priors.sides.split(2)
    size, center = (far - near).clamp_(min=0), (near + far) / 2
    row, level, count = _classes(priors.levels if len(priors.level_sizes) > 1 else 0, size)

    def least(value: Float[Tensor, "2 P"]) -> Float[Tensor, "2 M"]:
        top = value.new_full(count.shape, torch.inf)
        return torch.stack([top.scatter_reduce(0, row, one, "amin") for one in value])

    low, high, first = least(size), -least(-size), least(center)
    extent = -least(-center) - first
    if not bool(extent.isfinite().all()):
        return None
    # As many buckets as priors are enough, so a class of short sides has buckets that are longer.
    side = torch.maximum(high * _SHARE, extent / count)
    side = torch.where(side > 0, side, 1)
    side = side * ((extent / side).clamp(min=1).prod(dim=0) / count).clamp(min=1).sqrt()
    columns, rows = (extent / side).ceil().clamp(min=1).long()
    begin = (rows * columns).cumsum(0) - rows * columns
    x, y = first + side / 2
    grid = Grid(level, begin, torch.ones_like(begin), rows, columns, side[0], side[1], x, y, high[0], high[1])
    cell = begin.int().index_select(0, row)
    for axis, (cells, step) in enumerate(((columns, torch.ones_like(columns)), (rows, columns))):
        place = center[axis] - first[axis].index_select(0, row)
        place = place.div_(side[axis].index_select(0, row)).int()
        last, step = (part.int().index_select(0, row) for part in (cells - 1, step))
        cell = cell + torch.minimum(place, last).mul_(step)
    filled = torch.bincount(cell, minlength=int((rows * columns).sum()))
    start = torch.cat((filled.new_zeros(1), filled.cumsum(0))).int()
    lines = torch.repeat_interleave(rows * columns).int()
    order = cell.argsort()
    alike = Priors(torch.stack([one.index_select(0, order) for one in priors.sides]).T, (len(order),))
    return Buckets(grid, low, high, alike, order, start, row, lines)


def _classes(
    level: Int[Tensor, "P"] | int, size: Float[Tensor, "2 P"]
) -> tuple[Int[Tensor, "P"], Int[Tensor, "M"], Int[Tensor, "M"]]:
    """The class of every prior, the level of each class and how many it has: half octaves of width and height, or
    coarser ones, so that classes are few.

    A float's bits are its exponent and its leading digits: cut short, they count half octaves (from 1 to 1.5, to 2).
    """
    bits = torch.where(size < THIN, 0, size).float().view(torch.int32)
    for cut in range(22, 32):
        octave = bits >> cut
        octave = octave - octave.amin(dim=1, keepdim=True)
        wide, high = (octave.amax(dim=1) + 1).tolist()
        key = (level * wide + octave[0]) * high + octave[1]
        count = torch.bincount(key)
        used = count.nonzero().squeeze(1)
        if len(used) <= CLASSES:
            break
    number = torch.empty_like(count).index_copy_(0, used, torch.arange(len(used), device=used.device))
    return number.index_select(0, key), used // (wide * high), count.index_select(0, used)
