"""Checks of an assigner's own arguments; the errors name the argument and the value."""

from __future__ import annotations

import math


def check_count(name: str, value: int) -> None:
    """A whole number, at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def check_threshold(name: str, value: float) -> None:
    """A finite number above 0: at 0 every prior of the image would pass."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}")


def check_min_side(value: float | None) -> None:
    """None, or a finite length in pixels."""
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"min_side must be None or a positive length in pixels, got {value!r}")
