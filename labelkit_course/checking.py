"""`check`, `hint` and `solution`: what a learner calls. None of them ever raises for a learner."""

import linecache
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelkit import plot
from labelkit_course import chapter, progress, registry
from labelkit_course.exercise import Blank, Exercise, Wrong, describe
from labelkit_course.message import Message, show

ENGINE = str(Path(__file__).parent)


@dataclass(frozen=True)
class Outcome:
    """What checking one answer came to: a state of `progress.STATES`, a sentence, perhaps a picture."""

    state: str
    text: str = ""
    draw: Callable[[], Any] | None = None


def evaluate(exercise: Exercise, answer: Any) -> Outcome:
    """Run the exercise's tests on an answer, up to the first that fails. Shows nothing, records nothing."""
    if not callable(answer):
        return Outcome("error", f"check needs your function itself, without brackets; it got {describe(answer)}.")
    for test in exercise.tests:
        call = _Recorder(answer)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                test(call)
        except Blank:
            return Outcome("blank")
        except Wrong as wrong:
            return Outcome("not yet", wrong.message, wrong.draw)
        except Exception as error:
            return Outcome("error", call.explain(error))
    return Outcome("passed")


class _Recorder:
    """The learner's function, remembering its last call. It gets copies: what it spoils spoils no test."""

    def __init__(self, answer: Callable):
        self.answer, self.called_with, self.returned = answer, "", False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        shown = [describe(arg) for arg in args] + [f"{name}={describe(arg)}" for name, arg in kwargs.items()]
        self.called_with = f"{getattr(self.answer, '__name__', 'your function')}({', '.join(shown)})"
        self.returned = False
        given, named = _copied(args), _copied(kwargs)
        result = self.answer(*given, **named)
        self.returned = True
        if not _same(args, given) or not _same(kwargs, named):
            raise Wrong(f"Your function changed what it was given. Work on a new tensor.\n    {self.called_with}")
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


def _copied(value: Any) -> Any:
    """Copies of all tensors, but of those that a test asks for gradients."""
    if isinstance(value, Tensor):
        return value if value.requires_grad else value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    return value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return True


def check(exercise_id: str, answer: Any) -> None:
    """Say how an answer stands: passed, not yet (with the input that shows it), blank, or your own traceback.

    LABELKIT_EXPECT=blank or =pass, set while tests run the chapters, makes every other outcome an AssertionError.
    """
    expected = os.environ.get("LABELKIT_EXPECT")
    exercise = _find(exercise_id)
    if exercise is None:
        return
    outcome = evaluate(exercise, answer)
    if expected and outcome.state != {"pass": "passed"}.get(expected, expected):
        raise AssertionError(f"{exercise_id} should read {expected!r} here; it reads {outcome.state!r}. {outcome.text}")
    progress.record_check(exercise_id, outcome.state)
    _show(exercise, outcome)


def preview(exercise_id: str, answer: Any) -> None:
    """What `check` would say of this answer. Not recorded, and not held to LABELKIT_EXPECT: for a chapter that shows
    a wrong answer on purpose."""
    exercise = _find(exercise_id)
    if exercise is not None:
        _show(exercise, evaluate(exercise, answer))


def _find(exercise_id: str) -> Exercise | None:
    """The exercise; for an id that is none, a message to the learner, or the error itself where tests run."""
    try:
        return registry.find(exercise_id)
    except ValueError as error:
        if os.environ.get("LABELKIT_EXPECT"):
            raise
        show(Message("error", str(error)))
        return None


def _show(exercise: Exercise, outcome: Outcome) -> None:
    show(_message(exercise, outcome))
    if outcome.draw is not None:
        _draw(outcome.draw, outcome.text)


def _message(exercise: Exercise, outcome: Outcome) -> Message:
    name, hint = f"{exercise.id} {exercise.title}", f'course.hint("{exercise.id}") gives a hint.'
    if outcome.state == "passed":
        return Message("passed", f"{name}: passed", after=f'course.solution("{exercise.id}") shows ours.')
    if outcome.state == "blank":
        return Message("blank", f"{name}: blank", after=f"Stuck? {hint}")
    if outcome.state == "error":
        return Message("error", f"{name}: your code stopped", outcome.text, hint)
    return Message("not yet", f"{name}: not yet", outcome.text, hint)


def _draw(draw: Callable[[], Any], text: str) -> None:
    """Show the picture of a wrong answer. An answer too odd to be drawn still has its sentence."""
    try:
        figure = draw()
    except Exception:
        return
    plot.show(figure, alt=f"Your answer beside the right one. {text.splitlines()[0]}")


def hint(exercise_id: str) -> None:
    """The next of three hints; after the third, all of them again."""
    exercise = _find(exercise_id)
    if exercise is None:
        return
    seen = min(progress.read().get(exercise_id, {}).get("hints", 0) + 1, 3)
    progress.record(exercise_id, hints=seen)
    more = (
        f'course.hint("{exercise_id}") again gives the next.'
        if seen < 3
        else (f'That was the last hint. course.solution("{exercise_id}") shows the answer.')
    )
    text = "\n".join(f"{number}. {line}" for number, line in enumerate(exercise.hints[:seen], 1))
    show(Message("hint", f"{exercise_id} {exercise.title}: hint {seen} of 3", text, more))


def solution(exercise_id: str) -> None:
    """Show the reference answer, and mark it as seen."""
    exercise = _find(exercise_id)
    if exercise is None:
        return
    try:
        text = chapter.solution_text(exercise_id)
    except ValueError as error:  # labelkit without the course's chapters
        show(Message("error", str(error)))
        return
    progress.record(exercise_id, solution_seen=True)
    show(Message("hint", f"{exercise_id} {exercise.title}: one answer", text))
