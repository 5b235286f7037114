"""`check`, `predict`, `hint` and `solution`: what a learner calls. None of them ever raises for a learner."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from labelkit import plot
from labelkit_course import chapter, progress, registry
from labelkit_course.exercise import FUNCTIONS, Exercise, describe
from labelkit_course.judging import Outcome, copied, evaluate
from labelkit_course.message import Message, show

_failing: dict[str, Mapping[str, Any]] = {}  # exercise id -> the inputs for which the last answer was not right


def check(exercise_id: str, answer: Any) -> None:
    """Say how an answer stands: passed, not yet (with the input that shows it), blank, or your own traceback.

    LABELKIT_EXPECT=blank or =pass, set while tests run the chapters, makes every other outcome an AssertionError.
    """
    exercise = _find(exercise_id)
    if exercise is not None:
        _show(exercise, _recorded(exercise, answer))


def predict(exercise_id: str, guess: Any, reveal: Callable[[], Any]) -> None:
    """Keep a guess, then run `reveal`, which shows what really happens, and say how the guess stands.

    While the guess is blank (`...`) nothing is revealed. The first guess is the one that counts: a wrong one is
    committed, not failed. `reveal` takes nothing and draws, prints, or returns something to print.
    """
    exercise = _find(exercise_id)
    if exercise is None:
        return
    if exercise.kind != "P":
        raise ValueError(f"Exercise {exercise_id} is no prediction: course.check takes its answer.")
    outcome = _recorded(exercise, guess)
    if outcome.state in ("passed", "committed"):
        print(f"You predict {describe(guess)}.")
        shown = reveal()
        if shown is not None:
            print(describe(shown) if not isinstance(shown, str) else shown)
    _show(exercise, outcome)


def case(exercise_id: str) -> dict[str, Any]:
    """The inputs for which the last answer checked was not right: `my_function(**course.case("09.3"))` is that call.

    Copies: they may be changed. Kept for this session; nothing kept is said, and an empty dict.
    """
    if exercise_id not in _failing and _find(exercise_id) is not None:
        text = "course.check keeps the inputs of an answer that is not right, until the kernel stops."
        show(Message("blank", f"{exercise_id}: no failing case is kept", text))
    return copied(dict(_failing.get(exercise_id, {})))


def _recorded(exercise: Exercise, answer: Any) -> Outcome:
    """Evaluate, hold the outcome to LABELKIT_EXPECT where tests run the chapters, and record it."""
    outcome = evaluate(exercise, answer)
    guess = ""
    if exercise.kind == "P" and outcome.state in ("not yet", "passed"):
        guess = describe(answer)
    _hold(exercise, outcome)
    if guess and outcome.state == "not yet":
        outcome = replace(outcome, state="committed")
    progress.record_check(exercise.id, outcome.state, guess)
    return outcome


def _hold(exercise: Exercise, outcome: Outcome) -> None:
    """Raise where tests run a chapter and a check reads what it should not."""
    expected = os.environ.get("LABELKIT_EXPECT")
    wanted = ["passed" if expected == "pass" else expected]
    if expected == "blank" and exercise.kind == "B":  # the code as given, which has to fail
        wanted = ["not yet", "error"]
    if expected and outcome.state not in wanted:
        said = f"{exercise.id} should read {expected!r} here; it reads {outcome.state!r}. {outcome.text}"
        raise AssertionError(said)


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
    if outcome.state == "passed":
        _failing.pop(exercise.id, None)
    elif outcome.inputs:
        _failing[exercise.id] = outcome.inputs
    show(_message(exercise, outcome))
    if outcome.draw is not None:
        _draw(outcome.draw, outcome.text)


def _message(exercise: Exercise, outcome: Outcome) -> Message:
    name, after = f"{exercise.id} {exercise.title}", []
    if exercise.hints:
        stuck = "Stuck? " if outcome.state == "blank" else ""
        after.append(f'{stuck}course.hint("{exercise.id}") gives a hint.')
    if outcome.inputs:
        after.append(f'course.case("{exercise.id}") returns these inputs.')
    if exercise.kind == "P" and outcome.state in ("passed", "committed"):
        return _of_prediction(exercise, outcome)
    if outcome.state == "passed":
        return Message("passed", f"{name}: passed", after=f'course.solution("{exercise.id}") shows ours.')
    if outcome.state == "blank":
        if exercise.kind == "P":
            after.insert(0, "Write your guess and run this again: then it shows what happens.")
        return Message("blank", f"{name}: blank", outcome.text, " ".join(after))
    if outcome.state == "error":
        title = f"{name}: your code stopped" if exercise.kind in FUNCTIONS else f"{name}: no answer yet"
        return Message("error", title, outcome.text, " ".join(after))
    return Message("not yet", f"{name}: not yet", outcome.text, " ".join(after))


def _of_prediction(exercise: Exercise, outcome: Outcome) -> Message:
    """How a guess stands, and the first one, if that was another."""
    first = progress.read().get(exercise.id, {}).get("guess", "")
    after = f"Your first guess was {first}." if first else ""
    title = f"{exercise.id} {exercise.title}: {'as you said' if outcome.state == 'passed' else 'committed'}"
    return Message(outcome.state, title, outcome.text, after)


def _draw(draw: Callable[[], Any], text: str) -> None:
    """Show the picture of a wrong answer. An answer too odd to be drawn still has its sentence."""
    try:
        figure = draw()
    except Exception:
        return
    plot.show(figure, alt=f"Your answer in a picture. {text.splitlines()[0]}")


def hint(exercise_id: str) -> None:
    """The next hint; after the last, all of them again."""
    exercise = _find(exercise_id)
    if exercise is None:
        return
    number = len(exercise.hints)
    if not number:
        show(
            Message(
                "hint",
                f"{exercise_id} {exercise.title} has no hints",
                "A guess costs nothing: what happens is the hint.",
            )
        )
        return
    seen = min(progress.read().get(exercise_id, {}).get("hints", 0) + 1, number)
    progress.record(exercise_id, hints=seen)
    more = (
        f'course.hint("{exercise_id}") again gives the next.'
        if seen < number
        else (f'That was the last hint. course.solution("{exercise_id}") shows the answer.')
    )
    text = "\n".join(f"{i}. {line}" for i, line in enumerate(exercise.hints[:seen], 1))
    show(Message("hint", f"{exercise_id} {exercise.title}: hint {seen} of {number}", text, more))


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
