"""Assigners from plain values, as a configuration file or a command line holds them, and back."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial
from typing import Any, cast

from labelkit import similarity
from labelkit.assigners import ASSIGNERS, Assigner

SIMILARITIES = ("iou", "giou", "diou", "ciou", "nwd", "dotd", "rfd", "simd", "gcd", "gjsd")

# Where the course says otherwise than a rule's defaults, and for which runs: 30 noisy anchors are for nine anchors a
# cell, and the small detector has one; a constant in pixels, or a count that no paper states, is the course's data's.
OF_SMALL_DETECTOR: dict[str, dict[str, Any]] = {"noisy_anchors": {"n": 9}}
OF_COURSE_DATA: dict[str, dict[str, Any]] = {
    "fcos": {"center_radius": 1.5},
    "hambox": {"k": 5, "decoded_thresh": 0.5},
    "hungarian": {"image_size": (128, 128)},
    "rka": {"similarity": {"name": "nwd", "constant": 12.8}},
}
OF_SKY: dict[str, dict[str, Any]] = {"rka": {"similarity": {"name": "nwd", "constant": 6.8}}}  # its `nwd_constant`


def fill_in(name: str, arguments: dict[str, Any], *, small: bool, data: str | None) -> dict[str, Any]:
    """`arguments` over the course's for this rule: those of the small detector, and those of the course's `data`."""
    detectors = OF_SMALL_DETECTOR.get(name, {}) if small else {}
    datas = OF_COURSE_DATA.get(name, {}) if data else {}
    sky = OF_SKY.get(name, {}) if data == "sky" else {}
    return detectors | datas | sky | arguments


def build_assigner(name: str, arguments: dict[str, Any] | None = None) -> Assigner:
    """An assigner of the registry; what `arguments` leave out is the rule's own default."""
    if name not in ASSIGNERS:
        known = ", ".join(ASSIGNERS)
        raise ValueError(f"assigner must be one of {known}, got {name!r}{_did_you_mean(name, ASSIGNERS)}")
    values = dict(arguments or {})
    for key in values.keys() & {"similarity", "overlap"}:
        values[key] = build_similarity(values[key])
    try:
        return ASSIGNERS[name](**values)
    except TypeError as error:
        raise ValueError(f"{name} takes {inspect.signature(ASSIGNERS[name])}: {error}") from error


def build_similarity(choice: str | dict[str, Any]) -> Callable:
    """A name, or {"name": ..., constant: value}: `nwd` and `dotd` take `constant`, `simd` m and n, `rfd` kind."""
    constants = dict(choice) if isinstance(choice, dict) else {"name": choice}
    name = constants.pop("name", None)
    if name not in SIMILARITIES:
        raise ValueError(
            f"similarity must be one of {', '.join(SIMILARITIES)}, got {name!r}{_did_you_mean(str(name), SIMILARITIES)}"
        )
    function = getattr(similarity, name)
    try:
        inspect.signature(function).bind(None, None, **constants)
    except TypeError as error:
        raise ValueError(f"similarity {name}{inspect.signature(function)}: {error}") from error
    return partial(function, **constants) if constants else function


def plain_arguments(assigner: Assigner) -> dict[str, Any]:
    """Every argument of an assigner as JSON holds it; `build_assigner` makes the same rule of them."""
    return {f.name: _plain(getattr(assigner, f.name)) for f in fields(cast(Any, assigner))}  # each is a dataclass


def _plain(value: Any) -> Any:
    if isinstance(value, partial):
        return {"name": _plain(value.func), **value.keywords}
    if callable(value):
        ours = getattr(similarity, value.__name__, None) is value
        return value.__name__ if ours else f"{value.__module__}:{value.__qualname__}"
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
