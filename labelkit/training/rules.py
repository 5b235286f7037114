"""Assigners from plain values, as a configuration file or a command line holds them, and back."""

import inspect
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from labelkit import similarity
from labelkit.assigners import ASSIGNERS
from labelkit.training import own

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


def build_assigner(name: str, arguments: dict[str, Any] | None = None) -> Callable[..., Any]:
    """An assigner by its registry name, by "package.module:Name", or by a name that an installed package gives it (the
    entry-point group `labelkit.assigners`); what `arguments` leave out is the rule's own default.
    """
    values = dict(arguments or {})
    for key in values.keys() & {"similarity", "overlap"}:
        values[key] = build_similarity(values[key], key)
    if name not in ASSIGNERS:
        return own.made(_from_elsewhere(name), name, "assigner", own.RULE, values, takes=3)
    _check_kinds(name, ASSIGNERS[name], values)
    try:
        return ASSIGNERS[name](**values)
    except TypeError as error:
        raise ValueError(f"{name} takes {own.arguments_of(ASSIGNERS[name])}: {error}") from error


def _from_elsewhere(name: str) -> Any:
    if ":" in str(name):
        return own.find(name, "assigner", own.RULE)
    installed = own.installed()
    if name in installed:
        return own.find(installed[name].value, f"assigner {name!r} of an installed package,", own.RULE)
    known = [*ASSIGNERS, *installed]
    raise ValueError(
        f"assigner must be one of {', '.join(known)}, or package.module:Name, got {name!r}"
        f"{own.did_you_mean(str(name), known)}"
    )


def build_similarity(choice: str | dict[str, Any], argument: str = "similarity") -> Callable:
    """A name, or {"name": ..., constant: value}: `nwd` and `dotd` take `constant`, `simd` m and n, `rfd` kind.

    "package.module:name" is a similarity from elsewhere, with the constants that it takes itself.
    argument: what an error calls the choice.
    """
    constants = dict(choice) if isinstance(choice, dict) else {"name": choice}
    name = constants.pop("name", None)
    if ":" in str(name):
        found = own.find(str(name), "similarity", own.SIMILARITY)
        return own.made(found, str(name), "similarity", own.SIMILARITY, constants, takes=2)
    if name not in SIMILARITIES:
        raise ValueError(
            f"{argument} must be one of {', '.join(SIMILARITIES)}, or package.module:name, got {name!r}"
            f"{own.did_you_mean(str(name), SIMILARITIES)}"
        )
    function = getattr(similarity, name)
    try:
        inspect.signature(function).bind(None, None, **constants)
    except TypeError as error:
        raise ValueError(f"{argument} {name} takes {own.arguments_of(function)}: {error}") from error
    _check_kinds(f"similarity {name}", function, constants)
    return partial(function, **constants) if constants else function


def _check_kinds(owner: str, made: Callable, values: dict[str, Any]) -> None:
    """Plain values come from files, command lines and links: one of a wrong kind is named before it is used. A name
    that is not known is left to whoever calls it."""
    hints = get_type_hints(made)
    for key in (key for key in values if key in hints):
        value, hint = values[key], hints[key]
        if not _fits(value, hint):
            kind = hint.__name__ if isinstance(hint, type) else hint
            raise ValueError(f"{owner}: {key} must be {kind}, got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    """Of what is no plain value, a similarity, nothing is known here."""
    origin = get_origin(hint)
    if origin in (UnionType, Union):
        return any(_fits(value, one) for one in get_args(hint))
    if origin is Sequence:
        return isinstance(value, list | tuple)
    if origin is Literal:
        return isinstance(value, str)
    if hint in (int, float):
        number = isinstance(value, int | hint) and not isinstance(value, bool)
        return number and (abs(value) < 2**63 or value in (math.inf, -math.inf))  # NaN is neither
    return not isinstance(hint, type) or isinstance(value, hint)


def plain_arguments(assigner: Any) -> dict[str, Any]:
    """Every argument of an assigner as JSON holds it; `build_assigner` makes the same rule of them.

    Of a rule from elsewhere those that it keeps under their own names.
    """
    if is_dataclass(assigner):
        names = [field.name for field in fields(assigner) if field.init]
    elif isinstance(assigner, partial):
        return {name: _plain(value) for name, value in assigner.keywords.items()}
    else:
        names = [] if inspect.isroutine(assigner) else [*inspect.signature(type(assigner)).parameters]
    return {name: _plain(getattr(assigner, name)) for name in names if hasattr(assigner, name)}


def described(assigner: Any) -> tuple[str, dict[str, Any]]:
    """The name and the arguments by which `build_assigner` makes this rule again.

    A ValueError where it can't: an argument that the rule does not keep, or one that JSON does not hold.
    """
    kind = assigner.func if isinstance(assigner, partial) else assigner
    kind = kind if inspect.isroutine(kind) else type(kind)
    registered = [name for name, known in ASSIGNERS.items() if known is kind]
    name, values = registered[0] if registered else own.name_of(kind), plain_arguments(assigner)
    for key in values.keys() & {"similarity", "overlap"}:
        function = getattr(assigner, key, None)
        function = function.func if isinstance(function, partial) else function
        if not _is_ours(function):
            own.name_of(function if inspect.isroutine(function) else type(function))
    if inspect.isclass(kind):
        asked = {p.name: p for p in inspect.signature(kind).parameters.values()}
        lost = [one for one in asked if one not in values]
        if lost:
            raise ValueError(f"assigner {name} must keep its argument {lost[0]} as self.{lost[0]}, for the recipe")
    for key, value in values.items():
        try:
            json.dumps(value)
        except TypeError:
            raise ValueError(f"assigner {name} must have plain arguments for the recipe, got {key}={value!r}") from None
    return name, values


def _is_ours(function: Any) -> bool:
    return getattr(similarity, getattr(function, "__name__", ""), None) is function


def _plain(value: Any) -> Any:
    if isinstance(value, partial):
        return {"name": _plain(value.func)} | {name: _plain(one) for name, one in value.keywords.items()}
    if inspect.isroutine(value):
        return value.__name__ if _is_ours(value) else own.plain_name(value)
    if callable(value):
        arguments = plain_arguments(value)
        return {"name": own.plain_name(type(value)), **arguments} if arguments else own.plain_name(type(value))
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
