"""The grid that priors stand on: knowing it is what lets a search look only where a ground truth is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROUNDINGS = 5 * 2**-24  # a float32 is off by 2**-24 of itself; why five: see Grid.hair


@dataclass(frozen=True, eq=False)
class Grid:
    """One row for every (level, shape): where its priors stand and which indices they have.

    The prior of cell (row, column) has index `first + (row * columns + column) * step`, its centre is
    `(x, y) + (column * stride_x, row * stride_y)` and its size `(width, height)`, up to float rounding.
    """

    level: Int[Tensor, "M"]
    first: Int[Tensor, "M"]
    step: Int[Tensor, "M"]
    rows: Int[Tensor, "M"]
    columns: Int[Tensor, "M"]
    stride_x: Float[Tensor, "M"]
    stride_y: Float[Tensor, "M"]
    x: Float[Tensor, "M"]
    y: Float[Tensor, "M"]
    width: Float[Tensor, "M"]
    height: Float[Tensor, "M"]

    def __len__(self) -> int:
        return self.first.shape[0]

    def __getitem__(self, keep: Int[Tensor, "n"]) -> Grid:
        """Some of the rows."""
        return Grid(*(getattr(self, field.name).index_select(0, keep) for field in fields(self)))

    @cached_property
    def origin(self) -> Float[Tensor, "2 1 M"]:
        """Centres of the first cells, (x, y)."""
        return torch.stack((self.x, self.y))[:, None]

    @cached_property
    def stride(self) -> Float[Tensor, "2 1 M"]:
        """Spacing of the cells, (x, y)."""
        return torch.stack((self.stride_x, self.stride_y))[:, None]

    @cached_property
    def last(self) -> Float[Tensor, "2 1 M"]:
        """Index of the last column and the last row, as floats."""
        return torch.stack((self.columns, self.rows))[:, None].to(self.x.dtype) - 1

    @cached_property
    def line(self) -> Int[Tensor, "M"]:
        """Priors from one line of cells to the next."""
        return self.columns * self.step

    @cached_property
    def hair(self) -> Float[Tensor, "M"]:
        """How far the centre of a stored prior may be from what its row says, in pixels; its sides: 0.4 of it.

        Each corner was rounded to float32: 2^-24 of the largest coordinate C, so a side is off by two of those and a
        centre by one; its sum, the row's spacing and the cell's place computed from it round once each. Half of what
        a side is off by comes on top where edges meet. In all five: 3e-7 C.
        """
        end, half = self.origin + self.last * self.stride, torch.stack((self.width, self.height))[:, None] / 2
        return (torch.maximum(self.origin.abs(), end.abs()) + half).amax(dim=0)[0] * _ROUNDINGS

    @cached_property
    def margin(self) -> Float[Tensor, "M"]:
        """The hair, and 0.01 px for what is computed with the centres."""
        return self.hair + 0.01

    @cached_property
    def smallest_side(self) -> int:
        """Rows or columns of the smallest level, whichever are fewer."""
        return int(torch.minimum(self.rows, self.columns).min())

    @cached_property
    def smallest_step(self) -> int:
        """Priors in a cell of the level that has the fewest."""
        return int(self.step.min())

    def to(self, device: torch.device | str) -> Grid:
        return Grid(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})
