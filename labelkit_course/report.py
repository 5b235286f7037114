"""`status` and `reset`: the learner's progress as a table, and a clean start."""

from labelkit_course import progress, registry
from labelkit_course.answers import forget
from labelkit_course.message import Message, show


def table() -> str:
    """One line an exercise: state, attempts, hints, whether the answer was looked at."""
    records, lines, done, total = progress.read(), [], 0, 0
    for exercise in registry.every():
        record = records.get(exercise.id, {})
        state = record.get("state", "blank")
        total, done = total + 1, done + (state == "passed")
        notes = [
            f"{record['attempts']} tries" if record.get("attempts", 0) > 1 else "",
            f"{record['hints']} of 3 hints" if record.get("hints") else "",
            "answer seen" if record.get("solution_seen") else "",
        ]
        lines.append(f"{exercise.id:6}{state:9}{exercise.title:44} {', '.join(filter(None, notes))}".rstrip())
    return "\n".join([*lines, f"{done} of {total} exercises passed."])


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
