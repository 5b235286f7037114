"""Starvation: how many positives a rule gave the objects of each size, and the share that got none."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from labelkit.evaluation.average_precision import Preset, preset_of, size_index


def starvation_by_size(
    boxes: Float[Tensor, "G 4"], positives: Int[Tensor, "G"], preset: str | Preset = "course"
) -> dict[str, dict[str, float]]:
    """For each of the preset's sizes that occurs: `gts`, how many; `positives`, their mean; `starved`, the share of 0.

    boxes: the ground truths in pixels of the network's input. positives: what `Assignment.positives_per_gt` says.
    """
    if len(positives) != len(boxes):
        raise ValueError(f"positives must be one for each of {len(boxes)} boxes, got {len(positives)}")
    result = {}
    sizes, given = size_index(boxes, preset).cpu().numpy(), positives.cpu().numpy()
    for index, name in enumerate(preset_of(preset).areas):
        here = given[sizes == index]
        if len(here):
            mean, starved = float(here.mean()), float((here == 0).mean())
            result[name] = {"gts": len(here), "positives": round(mean, 3), "starved": round(starved, 4)}
    return result
