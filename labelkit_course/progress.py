"""What the learner has done, in work/.labelkit/progress.json: `status` reads it, `reset` clears it.

The file says which edition of the course wrote it. In the first, which did not say so, the chapters 16 to 18 were 13 to
15, and the file stood in work/ itself, among the notebooks: what it kept is carried over, once.
"""

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

from labelkit_course import paths

STATES = ("blank", "error", "not yet", "committed", "passed")  # committed: a prediction that was not right
KEPT = ("committed", "passed")  # states that no later check changes
EDITION = 2
_FILE = "progress.json"
MOVED = {"13": "16", "14": "17", "15": "18"}  # chapter in the first edition -> its number since the second


def read() -> dict[str, dict]:
    """Records by exercise id; empty when there are none or the file can't be read."""
    carry_over()
    records = _load()
    return _moved(records) if _is_of_first_edition(records) else _exercises(records)


def carry_over() -> None:
    """Bring what the first edition kept, records and answers, to today's place and numbers.

    The answers move first: if that is interrupted, the file still says first edition and the next call goes on.
    """
    if os.environ.get("LABELKIT_EXPECT"):
        return
    _move_in()
    records = _load()
    if not _is_of_first_edition(records):
        return
    try:
        for old, new in MOVED.items():
            for answer in sorted(answers().glob(f"{old}.*.py")):
                answer.replace(answer.with_name(new + answer.name.removeprefix(old)))
    except OSError:
        return
    _write(_moved(records))


def _move_in() -> None:
    """From among the notebooks to the folder that JupyterLab does not list; what is there already stays."""
    old, new = paths.work(), paths.kept()
    try:
        for name in ("answers", _FILE):  # the records last: while they are where they were, the next call goes on
            if (old / name).exists() and not (new / name).exists():
                new.mkdir(exist_ok=True)
                (old / name).replace(new / name)
    except OSError:
        return


def answers() -> Path:
    """Where the texts of taken answers are kept, a file per exercise."""
    return paths.kept() / "answers"


def _load() -> dict[str, Any]:
    try:
        records = json.loads((paths.kept() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return records if isinstance(records, dict) else {}


def _is_of_first_edition(records: dict[str, Any]) -> bool:
    return bool(records) and "edition" not in records


def _exercises(records: dict[str, Any]) -> dict[str, dict]:
    return {name: record for name, record in records.items() if isinstance(record, dict)}


def _moved(records: dict[str, Any]) -> dict[str, dict]:
    """The first edition's records under today's numbers."""
    split = {name: name.partition(".") for name in _exercises(records)}
    return {MOVED.get(chapter, chapter) + dot + rest: records[name] for name, (chapter, dot, rest) in split.items()}


def record(exercise_id: str, **changes: Any) -> None:
    """Merge `changes` into an exercise's record. Nothing is written while tests run the chapters."""
    if os.environ.get("LABELKIT_EXPECT"):
        return
    records = read()
    records[exercise_id] = {**records.get(exercise_id, {}), **changes}
    _write(records)


def record_check(exercise_id: str, state: str, guess: str = "") -> None:
    """Count an attempt (a blank is none) and keep the first day it passed; a pass is never taken back.

    Of a prediction the first `guess` is kept, and with it how that stood: the next one may know the answer.
    """
    before = read().get(exercise_id, {})
    changes: dict[str, Any] = {"attempts": before.get("attempts", 0) + (state != "blank")}
    if guess:
        changes["guess"] = before.get("guess", guess)
    if before.get("state") not in KEPT:
        changes["state"] = state
        if state == "passed":
            changes["passed_on"] = date.today().isoformat()
    record(exercise_id, **changes)


def clear(exercise_id: str | None = None) -> None:
    """Forget one exercise, or all of them. Notebooks are not touched."""
    records = read()
    if exercise_id is None:
        records.clear()
    else:
        records.pop(exercise_id, None)
    _write(records)


def _write(records: dict[str, dict]) -> None:
    """Through a temporary file, so that a reader never meets half a record. A folder that can't be written is no
    reason to interrupt a lesson: `labelkit course doctor` reports it."""
    path = paths.kept() / _FILE
    scratch = path.with_suffix(".tmp")
    marked = {"edition": EDITION, **records}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(marked, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError:
        return
