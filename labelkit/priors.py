"""Priors: the anchors or points of a feature pyramid, and the grid they stand on.

A prior is a box that the network holds ready at a fixed place: an anchor, or a point (a box of size zero).
Order: level, row, column, then the shapes of one cell, ratio-major, as torchvision's `AnchorGenerator` lists them.
Knowing the grid is what lets an assigner look only where a ground truth is; `from_boxes` does without.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.boxes import centers, check_boxes
from labelkit.checks import check_one_per_level, check_pair, check_positive, strides_of
from labelkit.grid import Grid
from labelkit.network_input import NetworkInput, Size

Device = torch.device | str | None


def _kept(work: Callable[[Any], Tensor]) -> cached_property[Tensor]:
    """Worked out once, and outside of inference mode, in which a validation may ask first: a loss may need it later."""
    return cached_property(torch.inference_mode(False)(work))


@dataclass(frozen=True, eq=False)
class Priors:
    """All priors of one network input. Build them with `anchors`, `points`, `from_boxes`, `from_torchvision` or
    `from_detector`.

    boxes: [P, 4] xyxy in pixels, of size zero for points. level_sizes: how many priors each level has, in order.
    level_strides: the spacing of each level in pixels, or None where nobody said. grid: None where unknown.
    """

    boxes: Float[Tensor, "P 4"]
    level_sizes: tuple[int, ...]
    level_strides: tuple[float, ...] | None = None
    grid: Grid | None = None

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __repr__(self) -> str:
        kind = "grid" if self.grid is not None else "no grid"
        return f"Priors({len(self)} on {len(self.level_sizes)} levels, strides {self.level_strides}, {kind})"

    @property
    def device(self) -> torch.device:
        """Where the boxes and the grid are."""
        return self.boxes.device

    @_kept
    def centers(self) -> Float[Tensor, "P 2"]:
        """(x, y) of every prior in pixels; in memory all x stand before all y, which is quicker to work on."""
        return centers(self.boxes).T.contiguous().T

    @_kept
    def sides(self) -> Float[Tensor, "4 P"]:
        """The boxes with each coordinate in a row of its own: the same numbers, quicker to gather."""
        return torch.stack(self.boxes.unbind(1))

    @cached_property
    def has_points(self) -> bool:
        """Whether any of them is a point, a box of size zero."""
        return bool((self.boxes[:, :2] == self.boxes[:, 2:]).all(dim=1).any())

    @_kept
    def levels(self) -> Int[Tensor, "P"]:
        """Which pyramid level each prior belongs to, counted from 0."""
        return self._spread(torch.arange(len(self.level_sizes)))

    @cached_property
    def by_level(self) -> tuple[Priors, ...]:
        """The priors of every level by themselves, without a grid."""
        return tuple(Priors(boxes, (len(boxes),)) for boxes in self.boxes.split(self.level_sizes))

    @_kept
    def rows(self) -> Int[Tensor, "P"]:
        """Which row of the grid, that is which level and shape, each prior belongs to."""
        row, grid = torch.empty(len(self), dtype=torch.int64), self.known_grid()
        table = torch.stack((grid.first, grid.step, grid.rows * grid.columns * grid.step), dim=1)
        for index, (first, step, extent) in enumerate(table.tolist()):
            row[first : first + extent : step] = index
        return row.to(self.device)

    @_kept
    def strides(self) -> Float[Tensor, "P"]:
        """The stride of every prior's level in pixels."""
        return self._spread(torch.tensor(self.known_strides(), dtype=self.boxes.dtype))

    @cached_property
    def has_area(self) -> bool:
        """Whether any of them has a positive width and height."""
        return bool((self.sides[2:] > self.sides[:2]).all(dim=0).any())

    def known_grid(self) -> Grid:
        """`grid`, where the caller knows that there is one."""
        if self.grid is None:
            raise ValueError("these priors have no grid: build them with Priors.anchors, points or from_torchvision")
        return self.grid

    def known_strides(self) -> tuple[float, ...]:
        """`level_strides`, or an error that says how to give them."""
        if self.level_strides is None:
            raise ValueError("these priors have no strides: give Priors.from_boxes strides=(...), one for each level")
        return self.level_strides

    def _spread(self, per_level: Tensor) -> Tensor:
        return per_level.repeat_interleave(torch.tensor(self.level_sizes)).to(self.device)

    def to(self, device: torch.device | str) -> Priors:
        """The same priors, and their grid, on a device."""
        if isinstance(device, torch.dtype | Tensor):
            raise ValueError(f"device must be a device, got {device!r:.80}: priors keep their dtype")
        grid = None if self.grid is None else self.grid.to(device)
        return replace(self, boxes=self.boxes.to(device), grid=grid)

    @classmethod
    def anchors(
        cls,
        image_size: Size,
        strides: Sequence[float],
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (1.0,),
        offset: float = 0.5,
        device: Device = None,
    ) -> Priors:
        """Anchors of every size and ratio in every cell of every level.

        image_size: (height, width). sizes: for each level the square roots of the areas, in pixels, not rounded.
        ratios: height / width. The centre of cell i is (i + offset) * stride: 0.5 is the middle of the cell,
        0 what mmdet's anchors and torchvision use. A level has ceil(size / stride) rows and columns.
        """
        check_one_per_level(sizes, len(strides), "sizes")
        for level, level_sizes in enumerate(sizes):
            check_positive(level_sizes, f"sizes[{level}]")
        check_positive(ratios, "ratios")
        root = torch.tensor(ratios, dtype=torch.float64).sqrt()
        shapes = []
        for level_sizes in sizes:
            side = torch.tensor(level_sizes, dtype=torch.float64)
            shapes.append(torch.stack(((side / root[:, None]).flatten(), (side * root[:, None]).flatten()), dim=1))
        return cls._on_grid(image_size, strides, shapes, offset, device)

    @classmethod
    def points(cls, image_size: Size, strides: Sequence[float], offset: float = 0.5, device: Device = None) -> Priors:
        """One point a cell: a zero-size box at ((column + offset) * stride, (row + offset) * stride)."""
        no_size = [torch.zeros(1, 2, dtype=torch.float64)] * len(strides)
        return cls._on_grid(image_size, strides, no_size, offset, device)

    @classmethod
    def _on_grid(
        cls, image_size: Size, strides: Sequence[float], shapes: Sequence[Tensor], offset: float, device: Device
    ) -> Priors:
        check_pair(image_size, "image_size")
        check_positive(strides, "strides")
        if not math.isfinite(offset):
            raise ValueError(f"offset must be finite, got {offset}")
        height, width = image_size
        levels = []
        for stride, shape in zip(strides, shapes, strict=True):
            start = torch.full_like(shape, offset * stride)
            base = torch.cat((start - shape / 2, start + shape / 2), dim=1)
            levels.append((-int(-height // stride), -int(-width // stride), stride, stride, base))
        return cls.from_levels(levels, tuple(float(s) for s in strides), None, device)

    @classmethod
    def from_levels(
        cls,
        levels: Sequence[tuple[int, int, float, float, Tensor]],
        level_strides: tuple[float, ...],
        boxes: Tensor | None = None,
        device: Device = None,
    ) -> Priors:
        """Of each level: rows, columns, spacing down and across in pixels, and the boxes [n, 4] of cell (0, 0).

        boxes: those that stand on this grid up to one rounding to float32, to be kept bit for bit; made here if None.
        """
        if len(levels) == 0:
            raise ValueError("a pyramid must have one level at least, got no strides")
        table, made = [], []
        counts: list[int] = []
        for level, (rows, columns, stride_y, stride_x, base) in enumerate(levels):
            base = base.cpu().double()
            first, step = sum(counts), len(base)
            for shape, (x1, y1, x2, y2) in enumerate(base.tolist()):
                place = (stride_x, stride_y, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
                table.append(((level, first + shape, step, rows, columns), place))
            if boxes is None:
                made.append(in_cells(base, rows, columns, stride_y, stride_x).float())
            counts.append(rows * columns * step)
        whole = torch.tensor([row[0] for row in table], dtype=torch.int64).reshape(-1, 5).T.contiguous()
        real = torch.tensor([row[1] for row in table], dtype=torch.float32).reshape(-1, 6).T.contiguous()
        boxes = torch.cat(made) if boxes is None else boxes
        priors = cls(boxes, tuple(counts), level_strides, Grid(*whole, *real))
        return priors.to(boxes.device if device is None else device)

    @classmethod
    def from_boxes(
        cls,
        boxes: Float[Tensor, "P 4"],
        level_sizes: Sequence[int] | None = None,
        strides: Sequence[float] | None = None,
    ) -> Priors:
        """Any boxes as priors, in any order inside a level; no grid is assumed.

        level_sizes: how many boxes each level has (default: all on one level). strides: one for each level;
        only methods that ask for strides need it.
        """
        boxes = check_boxes(boxes, "boxes", zero_size=True)
        level_sizes = (len(boxes),) if level_sizes is None else tuple(int(size) for size in level_sizes)
        if sum(level_sizes) != len(boxes) or min(level_sizes, default=-1) < 0:
            found = f"the {len(boxes)} boxes, one at least, got {level_sizes}"
            raise ValueError(f"level_sizes must be counts that add up to {found}")
        if strides is not None:
            strides = strides_of(strides, len(level_sizes))
        return cls(boxes, level_sizes, strides)

    @classmethod
    def from_torchvision(
        cls,
        anchor_generator: Any,
        image_size: Size,
        feature_sizes: Sequence[Size],
        strides: Sequence[float] | None = None,
        device: Device = None,
    ) -> Priors:
        """The anchors of a torchvision `AnchorGenerator`, bit for bit, with their grid.

        image_size and feature_sizes: (height, width) of the padded batch and of each feature map. torchvision takes
        image_size // feature_size as the spacing, which on the coarse levels need not be the nominal stride:
        `strides` says the nominal ones, where a method asks for strides; the default is the wider spacing.
        """
        check_pair(image_size, "image_size")
        device = torch.device("cpu" if device is None else device)
        anchor_generator.set_cell_anchors(torch.float32, device)
        cells = anchor_generator.cell_anchors
        check_one_per_level(feature_sizes, len(cells), "feature_sizes")
        for level, size in enumerate(feature_sizes):
            check_pair(size, f"feature_sizes[{level}]")
        spacing = [(image_size[0] // rows, image_size[1] // columns) for rows, columns in feature_sizes]
        as_tensors = [[torch.tensor(step, device=device) for step in pair] for pair in spacing]
        boxes = torch.cat(anchor_generator.grid_anchors([list(size) for size in feature_sizes], as_tensors))
        levels = [(*size, *pair, base) for size, pair, base in zip(feature_sizes, spacing, cells, strict=True)]
        nominal = tuple(float(max(pair)) for pair in spacing) if strides is None else strides_of(strides, len(cells))
        return cls.from_levels(levels, nominal, boxes, device)

    @classmethod
    def from_detector(
        cls, model: Any, image_size: Size, strides: Sequence[float] | None = None, *, seen: NetworkInput | None = None
    ) -> Priors:
        """The priors that a torchvision detector makes for a picture of `image_size` (height, width) alone in its
        batch, bit for bit: after its own resize and padding, on the CPU, without a forward pass.

        model: RetinaNet, FCOS, Faster R-CNN (those of its proposal network), SSD, or a subclass. Of an FCOS they are
        squares of one stride, whose centres are its points; of an SSD no grid is known. strides: see
        `from_torchvision`; by default what labelkit's own detector says, or for an FCOS the sides of its squares.
        seen: `NetworkInput.of(model, image_size)`, where it is known.
        """
        seen = NetworkInput.of(model, image_size) if seen is None else seen
        known = getattr(model, "rpn", model).anchor_generator
        if strides is None:
            of_fcos = [sizes[0] for sizes in known.sizes] if hasattr(model, "center_sampling_radius") else None
            strides = getattr(known, "strides", of_fcos)
        generator = copy.deepcopy(getattr(known, "generator", known))
        if hasattr(generator, "grid_anchors"):
            return cls.from_torchvision(generator, seen.padded, seen.feature_sizes, strides)
        # An SSD's boxes: asked for with maps that have a shape and no memory.
        from torchvision.models.detection.image_list import ImageList

        maps = [torch.zeros(1, 1, 1, 1).expand(1, 1, *size) for size in seen.feature_sizes]
        picture = ImageList(torch.zeros(1, 1, 1, 1).expand(1, 3, *seen.padded), [seen.size])
        boxes = generator(picture, maps)[0]
        shapes = generator.num_anchors_per_location()
        counts = [rows * columns * number for (rows, columns), number in zip(seen.feature_sizes, shapes, strict=True)]
        spacing = [max(seen.padded[0] / rows, seen.padded[1] / columns) for rows, columns in seen.feature_sizes]
        return cls.from_boxes(boxes, counts, spacing if strides is None else strides)


def in_cells(
    base: Float[Tensor, "n 4"], rows: int, columns: int, stride_y: float, stride_x: float
) -> Float[Tensor, "m 4"]:
    """The boxes of every cell of a level, row by row, from those of its first cell."""
    across = torch.arange(columns, dtype=base.dtype, device=base.device) * stride_x
    down = torch.arange(rows, dtype=base.dtype, device=base.device) * stride_y
    y, x = torch.meshgrid(down, across, indexing="ij")
    return (torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4) + base).reshape(-1, 4)
