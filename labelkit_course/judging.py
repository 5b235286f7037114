"""`evaluate`: runs an exercise's tests on an answer. Shows nothing, records nothing."""

import inspect
import linecache
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelkit_course.exercise import FUNCTIONS, Blank, Exercise, Wrong, describe

ENGINE = str(Path(__file__).parent)


@dataclass(frozen=True)
class Outcome:
    """What an answer came to: a state of `progress.STATES`, a sentence, perhaps a picture, and the inputs that show it.

    Of a prediction that is not right, the state here is "not yet" as well: `check` and `predict` make it "committed".
    """

    state: str
    text: str = ""
    draw: Callable[[], Any] | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)


def evaluate(exercise: Exercise, answer: Any) -> Outcome:
    """Run the exercise's tests on an answer, a function or a value, up to the first that fails."""
    leaves = _leaves(answer)
    blanks = [name for name, value in leaves if value is ...]
    if blanks:
        return Outcome("blank", f"Still blank: {', '.join(blanks)}." if len(blanks) < len(leaves) else "")
    if exercise.kind in FUNCTIONS and not callable(answer):
        return Outcome("error", f"check needs your function itself, without brackets; it got {describe(answer)}.")
    if callable(answer) and exercise.kind not in FUNCTIONS and exercise.kind != "X":
        return Outcome("error", f"check needs a value, not a function; it got {describe(answer)}.")
    for test in exercise.tests:
        given = _Recorder(answer) if callable(answer) else _Value(answer)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                test(given if isinstance(given, _Recorder) else copied(answer))
        except Blank:
            return Outcome("blank")
        except Wrong as wrong:
            return Outcome("not yet", wrong.message, wrong.draw, given.inputs or wrong.inputs)
        except Exception as error:
            return Outcome("error", given.explain(error), inputs=given.inputs)
    return Outcome("passed")


def _leaves(value: Any, where: str = "") -> list[tuple[str, Any]]:
    """What stands in a dict, list or set, or the value itself, each with its place: the key, or the number."""
    if isinstance(value, Mapping):
        items = [(repr(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple | set):
        items = [(f"no. {number}", item) for number, item in enumerate(value, 1)]
    else:
        return [(where, value)]
    return [leaf for key, item in items for leaf in _leaves(item, f"{key} of {where}" if where else key)]


@dataclass(frozen=True)
class _Value:
    """An answer that is no function."""

    answer: Any
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def explain(self, error: Exception) -> str:
        return f"Your answer can't be used: {error}\n    {describe(self.answer)}"


class _Recorder:
    """The learner's function, remembering its last call. It gets copies: what it spoils spoils no test."""

    def __init__(self, answer: Callable):
        self.answer, self.called_with, self.returned = answer, "", False
        self.inputs: dict[str, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        shown = [describe(arg) for arg in args] + [f"{name}={describe(arg)}" for name, arg in kwargs.items()]
        self.called_with = f"{getattr(self.answer, '__name__', 'your function')}({', '.join(shown)})"
        self.inputs = _by_name(self.answer, args, kwargs)
        self.returned = False
        given, named = copied(args), copied(kwargs)
        result = self.answer(*given, **named)
        self.returned = True
        if not _same(args, given) or not _same(kwargs, named):
            raise Wrong(f"Your function changed what it was given. Work on a copy.\n    {self.called_with}")
        return result

    def explain(self, error: Exception) -> str:
        """The learner's own traceback, and the call that led to it."""
        if self.returned:
            return f"Your answer can't be compared: {error}\n    {self.called_with}"
        summary = traceback.TracebackException.from_exception(error)
        own = [frame for frame in summary.stack if not frame.filename.startswith(ENGINE)]
        summary.stack = traceback.StackSummary.from_list(own)
        for frame in own:
            if frame.filename not in linecache.cache:
                linecache.checkcache(frame.filename)
        return "".join(summary.format()).rstrip() + f"\n\nThe call was\n    {self.called_with}"


def _by_name(function: Callable, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the function's own names; by number where it does not tell them."""
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {f"argument {number}": value for number, value in enumerate(args, 1)} | kwargs


def copied(value: Any) -> Any:
    """Copies of all tensors, those inside Priors too, but of those that a test asks for gradients."""
    if isinstance(value, Tensor):
        return value if value.requires_grad else value.clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: copied(getattr(value, one.name)) for one in fields(value) if one.init})
    return value


def _same(a: Any, b: Any) -> bool:
    """Whether all tensors of `b` are still those of `a`; of a dataclass also what it has computed since (`strides`)."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if is_dataclass(a) and hasattr(b, "__dict__"):
        return all(_same(getattr(a, name), value) for name, value in vars(b).items())
    return True
