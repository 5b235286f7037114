"""The priors that the explorer offers: torchvision's, those of the course's detectors, and own strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator

from labelkit.priors import Priors

DETECTOR = "detector"  # its own priors, where the explorer has one: see `labelkit.explore.network`
PADDED_TO = 32  # px: torchvision pads a batch to multiples of this


@dataclass(frozen=True)
class Preset:
    """One detector's priors. sizes: of each level, in pixels; offset: where in its cell a prior stands, in strides."""

    strides: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    ratios: tuple[float, ...] = (1.0,)
    offset: float = 0.0


@dataclass(frozen=True)
class Own:
    """Own strides. scale: side of an anchor in strides, None for points; ratios: height over width."""

    strides: tuple[float, ...]
    scale: float | None = None
    ratios: tuple[float, ...] = (1.0,)


_FIVE, _THREE = (8, 16, 32, 64, 128), (4, 8, 16)
PRESETS = {
    "retinanet": Preset(  # retinanet_resnet50_fpn
        _FIVE, tuple((4 * s, int(4 * s * 2 ** (1 / 3)), int(4 * s * 2 ** (2 / 3))) for s in _FIVE), (0.5, 1.0, 2.0)
    ),
    "fcos": Preset(_FIVE, tuple((s,) for s in _FIVE)),  # fcos_resnet50_fpn: squares of a stride, whose centres count
    "course-anchors": Preset(_THREE, tuple((4 * s,) for s in _THREE), offset=0.5),  # labelkit.detectors.retinanet
    "course-points": Preset(_THREE, tuple((s,) for s in _THREE), offset=0.5),  # labelkit.detectors.fcos
}


@lru_cache(maxsize=8)
def priors_of(preset: str | Own, size: tuple[int, int]) -> Priors:
    """The priors of a picture of `size` (height, width)."""
    if isinstance(preset, Own):
        if preset.scale is None:
            return Priors.points(size, preset.strides)
        sides = [[preset.scale * stride] for stride in preset.strides]
        return Priors.anchors(size, preset.strides, sides, preset.ratios)
    chosen = PRESETS[preset]
    generator = AnchorGenerator(chosen.sizes, (chosen.ratios,) * len(chosen.strides))
    generator.cell_anchors = [
        base + chosen.offset * stride for base, stride in zip(generator.cell_anchors, chosen.strides, strict=True)
    ]
    height, width = (-(-side // PADDED_TO) * PADDED_TO for side in size)
    maps = [(-(-height // stride), -(-width // stride)) for stride in chosen.strides]
    return Priors.from_torchvision(generator, (height, width), maps, chosen.strides)


@lru_cache(maxsize=8)
def levels_of(preset: str | Own, size: tuple[int, int]) -> list[dict[str, Any]]:
    """How the priors of a picture are laid out: see `laid_out`."""
    offset = 0.5 if isinstance(preset, Own) else PRESETS[preset].offset
    priors = priors_of(preset, size)
    return laid_out(priors, [offset] * len(priors.level_sizes))


def laid_out(priors: Priors, offsets: Sequence[float]) -> list[dict[str, Any]]:
    """A level each, for a front end to draw it: see `labelkit.explore.question`. offsets: in strides, one a level."""
    levels, grid = [], priors.known_grid()
    for level, (stride, offset) in enumerate(zip(priors.known_strides(), offsets, strict=True)):
        shapes = (grid.level == level).nonzero().squeeze(1)
        row = grid[shapes[:1]]
        sides = torch.stack((grid.width[shapes], grid.height[shapes]), dim=1)
        levels.append(
            {
                "stride": stride,
                "spacing": [float(row.stride_x), float(row.stride_y)],
                "first": int(row.first),
                "rows": int(row.rows),
                "columns": int(row.columns),
                "sizes": sides.tolist(),
                "offset": offset,
            }
        )
    return levels
