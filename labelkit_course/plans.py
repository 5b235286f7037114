"""Plans that are sealed before the first run, for exercise 20.5: what is claimed, by what, and when one stops.

A seal is the SHA-256 of the plan's text and the time. It stays in the progress file, as a first guess does: what was
written afterwards has another one. While tests run the chapters, it is kept for the session alone.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from labelkit.training import runs
from labelkit.training.compare import ENTRY, folders
from labelkit.training.recipe import Recipe
from labelkit_course import progress
from labelkit_course.message import Message, show

PLAN = "plan.json"  # beside the runs of the example
LEAST_SEEDS, MOST_SEEDS = 6, 20
STOP, TOO_EARLY = "after all seeds", "at the first success"
WORDS, NUMBERS = ("better", "than", "data", "quantity", "stop"), ("matters", "seeds", "first seed", "steps")
KEYS = ("better", "than", "data", "quantity", "matters", "seeds", "first seed", "steps", "stop")

_sealed: dict[str, str] = {}  # SHA-256 -> when, of this session

EXAMPLE = {
    "better": "rka",
    "than": "atss",
    "data": "digits",
    "quantity": "AP",
    "matters": 1.0,
    "seeds": 6,
    "first seed": 3,
    "steps": 100,
    "stop": STOP,
}
EXAMPLE_APS = {  # made up, in percent, a seed each
    "rka": (32.9, 27.2, 35.5, 30.1, 31.2, 30.9),
    "atss": (30.8, 27.6, 33.9, 29.2, 32.4, 28.5),
}


def plan(exercise_id: str, content: Mapping[str, Any] | str | os.PathLike) -> None:
    """Seal a plan, a dict or a JSON file: its SHA-256 and the time are kept, and both are said.

    What is blank or cannot be decided by is said and not sealed. A plan that is sealed twice keeps its first time.
    """
    try:
        found = read(content)
    except (OSError, ValueError) as error:
        show(Message("error", f"{exercise_id}: the plan can't be read", str(error)))
        return
    blanks = [key for key, value in found.items() if value is ...]
    if blanks:
        show(Message("blank", f"{exercise_id}: no plan yet", f"Still blank: {', '.join(blanks)}."))
    elif problem(found):
        show(Message("error", f"{exercise_id}: the plan is not sealed", problem(found)))
    else:
        digest, when = seal(exercise_id, found)
        after = "Now train. Give check this very plan: changed by one character, it is another."
        show(Message("committed", f"{exercise_id}: plan sealed, {when}", f"SHA-256 {digest}", after))


def read(content: Mapping[str, Any] | str | os.PathLike) -> dict[str, Any]:
    """A plan as a dict, from a dict or a JSON file; a ValueError or an OSError says why not."""
    found = content if isinstance(content, Mapping) else runs.read_json(content)
    if not isinstance(found, Mapping):
        raise ValueError(f"a plan is a dict, or a JSON file that holds one, got {type(found).__name__}")
    return dict(found)


def problem(found: Mapping[str, Any]) -> str:
    """Why nothing can be decided by this plan, a sentence; empty where it can."""
    if set(found) != set(KEYS):
        return f"A plan has the entries {', '.join(KEYS)}."
    for key in WORDS:
        if not isinstance(found[key], str) or not found[key]:
            return f"{key!r} should be words, got {found[key]!r}."
    for key in NUMBERS:
        whole = isinstance(found[key], int) or (key == "matters" and isinstance(found[key], float))
        if not whole or isinstance(found[key], bool):
            return f"{key!r} should be a {'' if key == 'matters' else 'whole '}number, got {found[key]!r}."
    if found["better"] == found["than"]:
        return f"A claim is about two rows, and both are {found['better']!r}."
    if found["seeds"] < LEAST_SEEDS:
        least = 2 / 2 ** max(found["seeds"], 1)
        return (
            f"With {found['seeds']} seeds p cannot fall below {least:.4g}, however large the difference is: "
            f"two of 2^n signs are always as extreme as the best. Take {LEAST_SEEDS} or more."
        )
    if found["seeds"] > MOST_SEEDS:
        return f"All 2^n signs are counted: take at most {MOST_SEEDS} seeds, got {found['seeds']}."
    if found["stop"] == TOO_EARLY:
        return (
            f"Who looks after every seed and stops {TOO_EARLY!r} gives chance as many tries, and p holds for one look: "
            f"the stop rule has to be {STOP!r}."
        )
    if found["stop"] != STOP:
        return f"'stop' should be {STOP!r} or {TOO_EARLY!r}, got {found['stop']!r}."
    if found["matters"] <= 0 or found["steps"] < 1 or found["first seed"] < 0:
        return "'matters' and 'steps' should be more than 0, and 'first seed' 0 or more."
    return ""


def digest_of(found: Mapping[str, Any]) -> str:
    """SHA-256 of the plan as JSON, its entries in the order of their names."""
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=repr).encode()).hexdigest()


def seal(exercise_id: str, found: Mapping[str, Any]) -> tuple[str, str]:
    """The plan's SHA-256, and when it was first sealed: now, unless it was before."""
    digest = digest_of(found)
    known = _kept(exercise_id)
    when = known.get(digest) or datetime.now(UTC).isoformat(timespec="seconds")
    _sealed[digest] = when
    progress.record(exercise_id, plans=known | {digest: when})
    return digest, when


def sealed_on(exercise_id: str, found: Mapping[str, Any]) -> datetime | None:
    """When this very plan was sealed; None where it was not."""
    digest = digest_of(found)
    when = _kept(exercise_id).get(digest) or _sealed.get(digest)
    return datetime.fromisoformat(when) if when else None


def _kept(exercise_id: str) -> dict[str, str]:
    kept = progress.read().get(exercise_id, {}).get("plans")
    return kept if isinstance(kept, dict) else {}


def example_comparison() -> Path:
    """A new folder as `labelkit compare` leaves one, with its plan in it: made up, nothing was trained. It goes with
    the session, and its seal too."""
    folder = temporary()
    write_made_up(folder, EXAMPLE, EXAMPLE_APS)
    return folder


def temporary() -> Path:
    """A folder that goes with the session."""
    _temporary.append(tempfile.TemporaryDirectory(prefix="labelkit-"))
    return Path(_temporary[-1].name)


_temporary: list[tempfile.TemporaryDirectory] = []


def write_made_up(
    folder: Path, found: Mapping[str, Any], aps: Mapping[str, Iterable[float]], **settings: Mapping[str, Any]
) -> None:
    """Seal a plan a minute ago, and write it and what `labelkit compare` would have left of runs with these AP, in
    percent, seed after seed. settings: of a row's recipe, by the row's name."""
    _sealed[digest_of(found)] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat(timespec="seconds")
    runs.write_json(folder / PLAN, found)
    places = folders(aps, folder)
    for name, values in aps.items():
        recipe = Recipe(assigner=name, data=found["data"], steps=found["steps"]).as_dict() | dict(
            settings.get(name, {})
        )
        for seed, ap in enumerate(values, start=found["first seed"]):
            scores = {"scores": {"AP": ap / 100}, "scores_no_nms": {"AP": ap / 200}}
            entry = {"made up": True, "recipe": recipe | {"seed": seed}, "preset": "course"} | scores
            runs.write_json(places[name] / f"seed{seed}" / ENTRY, entry)
