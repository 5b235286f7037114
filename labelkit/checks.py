"""Whether a value is a number, and checks of what a pyramid is described by: errors name argument, place and value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, cast


def is_number(value: object) -> bool:
    """Whether it is a number, infinity among them; NaN, True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)


def is_finite(value: object) -> bool:
    """Whether it is a number, and not infinite."""
    return is_number(value) and math.isfinite(cast(Real, value))


def check_positive(values: Sequence[float], name: str) -> None:
    """Every number is above 0 and finite."""
    for index, value in enumerate(values):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}[{index}] must be positive and finite, got {value}")


def check_pair(size: Sequence[float], name: str) -> None:
    """A height and a width."""
    if len(size) != 2:
        raise ValueError(f"{name} must be (height, width), got {tuple(size)}")
    check_positive(size, name)


def check_one_per_level(values: Sequence[Any], levels: int, name: str) -> None:
    """As many entries as there are levels."""
    if len(values) != levels:
        raise ValueError(f"{name} must have one entry for each of the {levels} levels, got {len(values)}")


def strides_of(strides: Sequence[float], levels: int) -> tuple[float, ...]:
    """One number a level, as floats."""
    check_one_per_level(strides, levels, "strides")
    check_positive(strides, "strides")
    return tuple(float(stride) for stride in strides)
