"""`expect`: judges an answer that is a value (a number, a word, or a list, set or dict of these) with clues."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any

from torch import Tensor

from labelkit_course.exercise import Wrong, describe


def factor(largest: float) -> Callable[[float, float], bool]:
    """A tolerance for `expect`: up to `largest` times too much or too little. factor(1.25) is about 25 %."""
    return lambda got, want: want / largest <= got <= want * largest


def expect(
    got: Any,
    want: Any,
    *,
    within: Any = 0.0,
    among: Sequence[Any] = (),
    clues: Sequence[tuple[Any, str]] = (),
    draw: Callable[[], Any] | None = None,
) -> None:
    """Raise `Wrong` unless `got` is `want`, which labelkit has just computed: numbers to a tolerance, the rest exactly.

    within: a number, `factor(...)`, or a dict or list of these in the form of `want`. among: the words to choose from.
    clues: pairs (misconception, sentence); the first that fits is said. A misconception is the value somebody with it
    enters, to the same tolerance, `...` for anything, keys left out for anything; or a function of `got` that says
    whether it fits. A sentence never holds the right answer. A clue that fits `want` is its author's error.

    A `got` of another form than `want` (kind, keys, a word not to be chosen; a length, where there is a tolerance) is
    a ValueError, which `check` tells and does not judge.
    """
    got, want = _in_form(got, want, among, bool(within)), _in_form(want, want, (), False)
    for misconception, sentence in clues:
        if _fits(want, misconception, within):
            raise ValueError(f"the clue {sentence!r} fits the right answer")
    if _fits(got, want, within):
        return
    named = (sentence for misconception, sentence in clues if _fits(got, misconception, within))
    raise Wrong(f"You say {describe(got)}.\n{next(named, None) or _unnamed(got, want, within)}", draw)


def _in_form(got: Any, want: Any, among: Sequence[Any], same_length: bool, where: str = "it") -> Any:
    """`got` as dicts, lists, sets, numbers and words."""
    rest = (among, same_length)
    if isinstance(got, Tensor):
        got = got.tolist()
    if isinstance(want, Tensor):
        want = want.tolist()
    if isinstance(want, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(want):
            raise ValueError(f"{where} should be a dict with the keys {list(want)}.")
        return {key: _in_form(got[key], want[key], *rest, f"{where}[{key!r}]") for key in want}
    if isinstance(want, set | frozenset):
        if not isinstance(got, set | frozenset | list | tuple):
            raise ValueError(f"{where} should be a set.")
        return {_in_form(one, one, *rest, f"{one!r}") for one in got}
    if isinstance(want, list | tuple):
        if not isinstance(got, list | tuple) or (same_length and len(got) != len(want)):
            raise ValueError(f"{where} should be a list" + (f" of {len(want)}." if same_length else "."))
        like = [*want, *got[len(want) :]]
        return [_in_form(g, w, *rest, f"{where}[{i}]") for i, (g, w) in enumerate(zip(got, like, strict=False))]
    if _is_number(want) and not _is_number(got):
        raise ValueError(f"{where} should be a number.")
    if among and got not in among:
        raise ValueError(f"{where} should be one of {', '.join(map(repr, among))}.")
    return got


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)


def _fits(got: Any, wanted: Any, within: Any) -> bool:
    """Whether `got` is `wanted`, to a tolerance; `...` and keys left out stand for anything."""
    if wanted is ...:
        return True
    if callable(wanted):
        return bool(wanted(got))
    if isinstance(wanted, Mapping):
        return all(_fits(got[key], one, _of(within, key)) for key, one in wanted.items())
    if isinstance(wanted, list | tuple):
        pairs = zip(got, wanted, strict=False)
        return len(got) == len(wanted) and all(_fits(g, w, _of(within, i)) for i, (g, w) in enumerate(pairs))
    if _is_number(wanted):
        if callable(within):
            return within(got, wanted)
        return abs(got - wanted) <= within * (1 + 1e-6) + 1e-9  # 0.31 is within 0.06 of 0.25, however it is stored
    return got == wanted


def _of(within: Any, key: Any) -> Any:
    """The tolerance of one entry."""
    return within[key] if isinstance(within, Mapping | Sequence) else within


def _unnamed(got: Any, want: Any, within: Any, where: str = "It") -> str:
    """The first entry that is wrong, where no clue knows why."""
    if isinstance(want, dict) or (isinstance(want, list) and len(got) == len(want)):
        keys = want if isinstance(want, dict) else range(len(want))
        key = next(key for key in keys if not _fits(got[key], want[key], _of(within, key)))
        entry = f"“{key}”" if isinstance(want, dict) else f"number {key + 1}"
        return _unnamed(got[key], want[key], _of(within, key), entry if where == "It" else f"{where}, {entry},")
    if _is_number(want):
        return f"{where[0].upper()}{where[1:]} is too {'large' if got > want else 'small'}."
    return f"{where[0].upper()}{where[1:]} is not so."
