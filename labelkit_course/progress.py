"""What the learner has done, in work/progress.json: `status` reads it, `reset` clears it."""

import json
import os
from datetime import date

from labelkit_course import paths

STATES = ("blank", "error", "not yet", "passed")


def read() -> dict[str, dict]:
    """Records by exercise id; empty when there are none or the file can't be read."""
    try:
        records = json.loads((paths.work() / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return records if isinstance(records, dict) else {}


def record(exercise_id: str, **changes) -> None:
    """Merge `changes` into an exercise's record. Nothing is written while tests run the chapters."""
    if os.environ.get("LABELKIT_EXPECT"):
        return
    records = read()
    records[exercise_id] = {**records.get(exercise_id, {}), **changes}
    _write(records)


def record_check(exercise_id: str, state: str) -> None:
    """Count an attempt (a blank is none) and keep the first day it passed; a pass is never taken back."""
    before = read().get(exercise_id, {})
    changes = {"attempts": before.get("attempts", 0) + (state != "blank")}
    if before.get("state") != "passed":
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
    reason to interrupt a lesson: `labelkit doctor` reports it."""
    path = paths.work() / "progress.json"
    scratch = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError:
        return
