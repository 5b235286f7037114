"""Rules and similarities from elsewhere: named as package.module:Name, by an installed package, or handed over."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial, reduce
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "labelkit.assigners"  # of entry points: NAME = "package.module:Name"
RULE = (
    "package.module:Name of a class of assigners (labelkit.assigners.Assigner), or of a function "
    "rule(priors, targets, predictions) -> Assignment"
)
SIMILARITY = "package.module:name of an elementwise function, ([..., 4], [..., 4]) -> [...]"

_handed_over: dict[str, Any] = {}  # by name: what this process has in hand and no import finds


def find(text: str, what: str, expected: str) -> Any:
    """What "package.module:Name" names; the folder that the user stands in is searched after all others.

    Raises a ValueError that says what `what` is expected to be: no such module, one that fails when it is imported, or
    no such name in it.
    """
    if text in _handed_over:
        return _handed_over[text]
    module, _, name = text.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if module != missing and not module.startswith(f"{missing}."):
            raise ValueError(f"{what} {text!r}: {module} cannot be imported: {error}") from error
        hint = f"; write {module[:-3]}:{name}, without .py" if module.endswith(".py") else ""
        raise ValueError(
            f"{what} {text!r}: there is no module {missing!r}, neither in {here} nor among what is installed{hint}; "
            f"expected {expected}"
        ) from error
    except Exception as error:  # whatever a file of the user's raises
        raise ValueError(f"{what} {text!r}: {module} cannot be imported: {type(error).__name__}: {error}") from error
    try:
        return reduce(getattr, name.split("."), found)
    except AttributeError as error:
        hint = did_you_mean(name, dir(found))
        raise ValueError(f"{what} {text!r}: {module} has no {name!r}{hint}; expected {expected}") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown name: the known one that is like it, if there is one."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def installed() -> dict[str, EntryPoint]:
    """The rules that installed packages bring, by their name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def made(found: Any, text: str, what: str, expected: str, arguments: dict[str, Any], takes: int) -> Callable:
    """The rule or similarity itself: an instance of a class, or a function with its arguments bound.

    takes: how many tensors or the like a call has before the arguments.
    """
    try:
        if inspect.isclass(found):
            result = found(**arguments)
        elif arguments and callable(found):
            inspect.signature(found).bind(*[None] * takes, **arguments)
            result = partial(found, **arguments)
        else:
            result = found
    except TypeError as error:
        raise ValueError(f"{what} {text} takes {arguments_of(found)}: {error}") from error
    if not callable(result):
        raise ValueError(f"{what} {text!r} is a {type(result).__name__}, which cannot be asked; expected {expected}")
    return result


def arguments_of(made: Callable) -> str:
    """What a rule or similarity takes, as a person writes it: "k=9, similarity=iou", a bare name for what it needs."""
    words = []
    for name, parameter in inspect.signature(made).parameters.items():
        default = parameter.default
        given = default is not parameter.empty
        words.append(f"{name}={getattr(default, '__name__', repr(default))}" if given else name)
    return ", ".join(words) or "no arguments"


def name_of(value: Any) -> str:
    """The "package.module:Name" by which `find` finds a class or a function, in this process at least.

    A warning where it can't be found in another one; what has no name is a ValueError.
    """
    text = plain_name(value)
    if "<lambda>" in text:
        raise ValueError(f"a recipe keeps functions by their name, and {text} has none: give it one with def")
    try:
        known = find(text, "", "")
    except ValueError:
        known = None
    if known is not value:
        _handed_over[text] = value
    if text.startswith("__main__:") or "<locals>" in text:
        warnings.warn(
            f"{text} is known to this process alone, and so is a run that was trained with it: put it into a file, "
            "from where it is found by its name",
            stacklevel=2,
        )
    return text


def plain_name(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}"
