"""What an exercise is, and the vocabulary its tests are written in: `Exercise`, `Wrong`, `compare`, `todo`.

`expect`, for answers that are values, is in values.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, NoReturn

import torch
from torch import Tensor

from labelkit.counts import counted

KINDS = {
    "I": "implement",
    "B": "find the bug",
    "P": "predict",
    "C": "choose",
    "L": "place",
    "M": "compare",
    "X": "project",
}
FUNCTIONS = "IB"  # kinds whose answer is a function; a project's may be anything, the others' are values
WITH_HINTS = "IBX"  # kinds that need the three hints; the others may have fewer
GIVEN = "the code given in the chapter"  # stands for it among the mutants of a B exercise, as the first


class Blank(NotImplementedError):
    """Raised by `todo`: nobody has written this answer yet. Blank is an exception type, not a return value."""


def todo(exercise_id: str) -> NoReturn:
    """Stand where an answer goes. The exercise form of a chapter has this call in place of each solution."""
    raise Blank(f"Exercise {exercise_id} has no answer yet.")


class Wrong(Exception):
    """An answer that ran and is not right.

    `message` says what is wrong with which input, and never what the right answer is.
    `draw`, if given, takes nothing and returns a matplotlib Figure: the wrong answer, maybe beside the right one.
    `inputs` are what shows it, by name; of a function, the engine knows what it was called with last.
    """

    def __init__(self, message: str, draw: Callable[[], Any] | None = None, inputs: Mapping[str, Any] | None = None):
        super().__init__(message)
        self.message, self.draw, self.inputs = message, draw, dict(inputs or {})


@dataclass(frozen=True)
class Exercise:
    """One exercise: what `check`, `hint` and `solution` need, and what proves the exercise itself.

    The reference is not here. It is the solution region of the chapter's source (`chapter.reference`),
    so that the answer shown, the answer tested and the answer of the solution form are one text.
    """

    id: str  # "05.2": chapter and number
    title: str
    difficulty: int  # 1 (a line, told in the text) to 5 (think before you type)
    minutes: int
    hints: tuple[str, ...]  # three, from a push in the right direction to nearly the code; see WITH_HINTS
    tests: Sequence[Callable[[Any], None]]  # each takes the learner's function, or value; raises Wrong
    mutants: Mapping[str, tuple[Any, str]]  # name -> (a wrong answer, text its message must contain)
    kind: str = "I"  # one of KINDS
    also_right: Sequence[Any] = ()  # right answers beside the reference; C needs one
    provides: str = ""  # registry name of the assigner that a passed answer can stand in for (`course.use`)
    adapt: Callable[[Callable, dict], Any] | None = None  # (learner's function, arguments) -> assigner

    def __post_init__(self) -> None:
        if not 1 <= self.difficulty <= 5:
            raise ValueError(f"difficulty of {self.id} must be 1 to 5, got {self.difficulty}")
        if self.kind not in KINDS:
            raise ValueError(f"kind of {self.id} must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if len(self.hints) > 3 or (len(self.hints) < 3 and self.kind in WITH_HINTS):
            raise ValueError(f"{self.id} needs three hints, got {len(self.hints)}")

    @property
    def chapter(self) -> str:
        return self.id.split(".")[0]


def compare(
    case: str,
    inputs: Mapping[str, Any],
    got: Any,
    want: Any,
    *,
    atol: float = 1e-5,
    draw: Callable[[], Any] | None = None,
    clues: Sequence[tuple[Any, str]] = (),
) -> None:
    """Raise `Wrong` unless `got` equals `want`; floats to `atol`, everything else exactly.

    `case` is the sentence that names the situation ("Boxes that only touch do not overlap"), `inputs` what the
    learner's function was called with. The message shows both and what came back, never `want`. `draw` is kept for
    an answer of the right kinds, which may be longer or shorter than `want`: others are told, not drawn.
    clues: pairs (wrong answer, sentence that names its cause), said if one cause alone explains what came back.
    """
    difference = _difference(got, want, atol)
    if difference:
        causes = {sentence for wrong, sentence in clues if got is not None and not _difference(got, wrong, atol)}
        difference += f"\n{causes.pop()}" if len(causes) == 1 else ""
        shown = "\n".join(f"    {name} = {describe(value)}" for name, value in inputs.items())
        raise Wrong(f"{case}.\n{shown}\n{difference}", draw if _same_form(got, want) else None, inputs)


def _same_form(got: Any, want: Any) -> bool:
    """Whether an answer can be drawn where the right one can: the same kinds throughout, and shapes but for length."""
    if isinstance(want, Tensor):
        return isinstance(got, Tensor) and got.ndim == want.ndim and got.shape[1:] == want.shape[1:]
    if isinstance(want, list | tuple):
        return isinstance(got, list | tuple) and all(map(_same_form, got, want))
    return got is not None


def _difference(got: Any, want: Any, atol: float, where: str = "your answer") -> str:
    """What is wrong with `got`, in a sentence; empty when it is right."""
    if got is None:
        return f"{where.capitalize()} is None. Does the function end with a return?"
    if isinstance(want, Tensor):
        return _tensor_difference(got, want, atol, where)
    if isinstance(want, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(want):
            return f"{where.capitalize()} should be a dict with the keys {sorted(want)}; it is {describe(got)}."
        parts = [(f"{where}[{key!r}]", got[key], want[key]) for key in want]
    elif isinstance(want, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(want):
            kind = "a tensor, " if isinstance(got, Tensor) else ""
            return (
                f"{where.capitalize()} should be a {type(want).__name__} of {len(want)}; it is {kind}{describe(got)}."
            )
        parts = [(f"{where}[{i}]", g, w) for i, (g, w) in enumerate(zip(got, want, strict=True))]
    elif _is_number(want) and not isinstance(want, bool):
        if isinstance(got, Tensor) and got.ndim == 0:
            got = got.item()
        if not _is_number(got):
            return f"{where.capitalize()} should be a number; it is {describe(got)}."
        close = got == want or abs(got - want) <= atol
        return "" if close else f"{where.capitalize()} is {describe(got)}{_direction(got, want)}."
    else:
        return "" if got == want else f"{where.capitalize()} is {describe(got)}."
    return next(filter(None, (_difference(g, w, atol, name) for name, g, w in parts)), "")


def _is_number(value: Any) -> bool:
    return isinstance(value, Number)


def _tensor_difference(got: Any, want: Tensor, atol: float, where: str) -> str:
    name = where.capitalize()
    if not isinstance(got, Tensor):
        return f"{name} should be a tensor; it is {describe(got)}."
    if got.shape != want.shape:
        return f"{name} has the shape {tuple(got.shape)}; it should be {tuple(want.shape)}.\n    {describe(got)}"
    if _family(got) != _family(want):
        return f"{name} holds {got.dtype}; it should hold {_family(want)}."
    if want.is_floating_point():
        right = torch.isclose(got.double(), want.double(), rtol=1e-5, atol=atol, equal_nan=True)
    else:
        right = got == want
    if right.all():
        return ""
    index = tuple((~right).nonzero()[0].tolist())
    value, target = got[index].item(), want[index].item()
    at = f" at index {list(index)}" if index else ""
    values = f"of {want.numel()} values"
    wrong = counted(int((~right).sum()), f"{values} is wrong", f"{values} are wrong")
    count = f" ({wrong})" if want.numel() > 1 else ""
    return f"{name}{at} is {describe(value)}{_direction(value, target)}{count}.\n    yours = {describe(got)}"


def _family(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "booleans"
    return "floats" if tensor.is_floating_point() else "integers"


def _direction(got: Any, want: Any) -> str:
    """Too large or too small: said for measures, not for labels, where it would mean nothing."""
    if not isinstance(want, float):
        return ""
    if got != got:
        return ", not a number"
    return ", too large" if got > want else ", too small"


def describe(value: Any, limit: int = 40) -> str:
    """A value as one would type it; a long tensor by its shape and its first values, others by their beginning."""
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return describe(value.item())
        if value.numel() <= limit:
            return _nested(value.tolist())
        head = _nested(value.flatten()[:8].tolist())
        return f"tensor of shape {tuple(value.shape)}, beginning {head[:-1]}, ...]"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return _cut("{" + ", ".join(f"{key!r}: {describe(item)}" for key, item in value.items()) + "}", 2000)
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor | Mapping) for item in value):
        return _cut("[" + ", ".join(describe(item) for item in value) + "]", 2000)
    return _cut(repr(value), 400)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return "[" + ", ".join(map(_nested, values)) + "]"
    return describe(values)
