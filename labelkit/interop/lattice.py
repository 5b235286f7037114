"""Boxes or points that another package laid on a pyramid, as priors that know their grid again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labelkit.devices import as_double
from labelkit.priors import Priors, in_cells

ROUNDING = 2.0**-24  # of a float32, relative to the largest coordinate


def on_lattice(boxes: Tensor, bases: Sequence[Tensor], strides: Sequence[tuple[float, float]]) -> Priors | None:
    """`boxes` [P, 4] as they are, with the grid that they stand on; None where they do not stand on one.

    bases: of each level the boxes [n, 4] of its first cell, in the order in which every cell has them. strides: of each
    level its spacing across and down in pixels. Cells go row by row. How many rows and columns a level has is read off
    the boxes, so that part of a pyramid, its left upper corner, is recognised too: what is left of a padded picture.
    """
    exact = as_double(boxes)
    levels, made, start = [], [], 0
    for base, (across, down) in zip((as_double(base).to(exact.device) for base in bases), strides, strict=True):
        first = exact[start :: len(base)]
        columns = _run(first, base[0], across, 0.0)
        rows = _run(first[:: max(columns, 1)], base[0], 0.0, down)
        if rows * columns == 0:
            return None
        levels.append((rows, columns, float(down), float(across), base))
        made.append(in_cells(base, rows, columns, down, across))
        start += len(made[-1])
    if start != len(boxes):
        return None
    for level, want in zip(exact.split([len(one) for one in made]), made, strict=True):
        if bool((level - want).abs().max() > ROUNDING * want.abs().max()):
            return None
    return Priors.from_levels(levels, tuple(max(pair) for pair in strides), boxes.float(), boxes.device)


def _run(boxes: Tensor, first: Tensor, across: float, down: float) -> int:
    """How many of the boxes, from the beginning on, stand one step apart from each other."""
    number = torch.arange(len(boxes), dtype=first.dtype, device=first.device)[:, None]
    want = first + number * first.new_tensor([across, down, across, down])
    near = (boxes - want).abs().amax(dim=1) <= 1e-3 + 1e-6 * want.abs().amax(dim=1)
    return int(near.long().cumprod(0).sum())
