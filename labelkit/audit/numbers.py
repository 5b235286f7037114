"""The few numbers that an audit makes of its columns."""

from __future__ import annotations

import math

from jaxtyping import Shaped
from torch import Tensor

SIDES = (0.0, 8.0, 16.0, 32.0, 96.0, math.inf)  # px at the input: where the sizes are cut
REACHED = 0.5  # the IoU that a good anchor has
COCO_COUNTS = 100  # detections of a picture
_QUANTILE_TAKES = 1 << 24  # values


def mean(values: Shaped[Tensor, "n"]) -> float:
    return float(values.double().mean()) if len(values) else math.nan


def median(values: Shaped[Tensor, "n"]) -> float:
    """Of what is no NaN; the mean of both middle values of an even number, but of millions the lower one."""
    known = values[~values.isnan()].double()
    if not len(known):
        return math.nan
    return float(known.quantile(0.5) if len(known) < _QUANTILE_TAKES else known.median())


def number(value: float) -> float | None:
    """As JSON holds it: None for what is not defined."""
    return round(value, 6) if math.isfinite(value) else None
