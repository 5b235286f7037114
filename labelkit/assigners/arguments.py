"""Checks of an assigner's own arguments; the errors name the argument and the value."""

from __future__ import annotations

from numbers import Integral

from labelkit.checks import is_finite, is_number


def check_count(name: str, value: int) -> None:
    """A whole number, at least 1; NumPy's and Python's alike."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def check_number(name: str, value: float) -> None:
    """A number, which may be infinite."""
    if not is_number(value):
        raise ValueError(f"{name} must be a number, got {value!r}")


def check_threshold(name: str, value: float) -> None:
    """A finite number above 0: at 0 every prior of the image would pass."""
    if not (is_finite(value) and value > 0):
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}")


def check_exponent(name: str, value: float) -> None:
    """A finite number of at least 0."""
    if not (is_finite(value) and value >= 0):
        raise ValueError(f"{name} must be at least 0 and finite, got {value!r}")


def check_share(name: str, value: float) -> None:
    """A number in [0, 1]."""
    if not (is_finite(value) and 0 <= value <= 1):
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}")


def check_min_side(value: float | None) -> None:
    """None, or a finite length in pixels."""
    if value is not None and not (is_finite(value) and value > 0):
        raise ValueError(f"min_side must be None or a positive length in pixels, got {value!r}")
