"""`status` and `reset`: the learner's progress as a table, and a clean start."""

from labelkit.counts import counted
from labelkit_course import progress, registry
from labelkit_course.answers import forget
from labelkit_course.exercise import KINDS
from labelkit_course.message import Message, show


def table() -> str:
    """One line an exercise: state, kind, attempts, hints, the first guess, whether the answer was looked at."""
    records, lines, done, guessed, total = progress.read(), [], 0, 0, 0
    for exercise in registry.every():
        record = records.get(exercise.id, {})
        state = record.get("state", "blank")
        total, done, guessed = total + 1, done + (state == "passed"), guessed + (state == "committed")
        notes = [
            f"first guess {record['guess']}" if record.get("guess") else "",
            f"{record['attempts']} tries" if record.get("attempts", 0) > 1 and not record.get("guess") else "",
            f"{record['hints']} of {len(exercise.hints)} hints" if record.get("hints") else "",
            "answer seen" if record.get("solution_seen") else "",
        ]
        kind = KINDS[exercise.kind]
        line = f"{exercise.id:6}{state:11}{kind:14}{exercise.title:44} {', '.join(filter(None, notes))}"
        lines.append(line.rstrip())
    predictions = f", {counted(guessed, 'prediction')} committed" if guessed else ""
    return "\n".join([*lines, f"{done} of {counted(total, 'exercise')} passed{predictions}."])


def status() -> None:
    """Print the table."""
    print(table())


def reset(exercise_id: str | None = None) -> None:
    """Forget the progress of one exercise, or of all, and take the answers out of the demonstrations.

    Your notebooks stay as they are.
    """
    progress.clear(exercise_id)
    forget(exercise_id)
    show(Message("blank", f"Progress of {exercise_id or 'every exercise'} cleared; notebooks are as they were."))
