"""The check of 20.5: a comparison against the plan that was sealed before it. No verdict is the right one as such.

Its proofs need folders of runs. These are made up, and written when they are first read.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.training import runs
from labelkit.training.compare import ENTRY, folders
from labelkit.training.paired import WITHOUT_NMS
from labelkit_course import Wrong, plans
from labelkit_course.rows import BUDGETS, DATA, Cell

ID = "20.5"
ANSWER = ("plan", "folder", "p", "verdict")
VERDICTS = ("confirmed", "overturned", "open")
CHANCE = 0.05
ROUNDED = 0.0006  # three decimals of a p value
OF_BOARD = (0, 1, 2)
OF_RULE = ("assigner", "assigner_args", "seed")  # what may differ between two runs
CLOCKS = 1.0  # s by which a file's clock may be behind

Runs = dict[str, dict[int, dict[str, Any]]]  # by row and seed


def kept_to_the_plan(answer):
    plan, folder = _form(answer)
    wrong = plans.problem(plan)
    if wrong:
        raise Wrong(f"The plan: {wrong}")
    when = plans.sealed_on(ID, plan)
    if when is None:
        raise Wrong(
            f'This plan is not sealed: nobody has called course.plan("{ID}", ...) with it, or it was changed since. '
            f"Its SHA-256 is {plans.digest_of(plan)[:12]}..."
        )
    _only_two(plan, folder)
    _every_seed(plan, folder)
    for file in sorted(one for place in _places(plan, folder).values() for one in place.rglob("*") if one.is_file()):
        if file.stat().st_mtime + CLOCKS < when.timestamp():
            written = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
            raise Wrong(f"The run is older than the plan: {file} was written {written}, and the plan sealed {when}.")


def equal_but_for_the_rule(answer):
    plan, folder = _form(answer)
    found = _read(plan, folder)
    first = found[plan["better"]][plan["first seed"]]
    for row, entries in found.items():
        own = entries[plan["first seed"]]["recipe"]
        for seed, entry in entries.items():
            recipe = entry["recipe"]
            where = f"{row!r}, seed {seed}"
            differ = [key for key in recipe if key not in OF_RULE and recipe[key] != first["recipe"].get(key)]
            if differ or entry["preset"] != first["preset"]:
                raise Wrong(
                    f"The recipe of {where} differs from the others in more than the rule: "
                    f"{', '.join(differ) or 'preset'}."
                )
            if recipe["seed"] != seed or any(recipe[key] != own[key] for key in OF_RULE[:2]):
                raise Wrong(f"The run of {where} is another rule's or another seed's than its folder says.")
            for key in ("steps", "data"):
                if recipe[key] != plan[key]:
                    raise Wrong(
                        f"The plan says {key} {plan[key]!r}, and the run of {where} has {recipe[key]!r}. What is true "
                        "of one need not be so of the other: that is another claim."
                    )


def new_seeds(answer):
    plan, _ = _form(answer)
    data = plan["data"].partition(":")[0]
    if data not in DATA:
        return
    seeds = range(plan["first seed"], plan["first seed"] + plan["seeds"])
    steps = [Cell(data, budget, "atss", 0).recipe(data).steps for budget in BUDGETS]
    again = sorted(set(seeds) & set(OF_BOARD)) if plan["steps"] in steps else []
    if again:
        raise Wrong(
            f"The board has runs of {data} with {plan['steps']} steps and the seeds {', '.join(map(str, again))}. You "
            "saw them when you chose the line, so they chose the claim and can't test it. Begin with seed 3."
        )


def p_value(answer):
    plan, folder = _form(answer)
    one, other = _values(plan, folder)
    p, gaps = sign_flip(one - other), one - other
    if abs(answer["p"] - p) <= ROUNDED:
        return
    inputs = {"differences": gaps.round(2).tolist()}
    said = f"You say p = {answer['p']:.3g}."
    if abs(answer["p"] - p / 2) <= ROUNDED:
        raise Wrong(f"{said} That is one side of it, and the plan's p is two-sided: a loss counts too.", inputs=inputs)
    if len(gaps) <= 10 and abs(answer["p"] - _unpaired(one, other)) <= ROUNDED:
        seeds = (one + other) / 2
        raise Wrong(
            f"{said} That is for runs which are not paired. The seed's own effect is in both rows alike "
            f"({seeds.max() - seeds.min():.1f} AP between two seeds): take differences first.",
            inputs=inputs,
        )
    raise Wrong(
        f"{said} It is too {'large' if answer['p'] > p else 'small'}. Give the {len(gaps)} differences all signs, "
        f"2^{len(gaps)} ways, and count the means that are as far from 0 as yours, or farther.",
        inputs=inputs,
    )


def verdict(answer):
    plan, folder = _form(answer)
    one, other = _values(plan, folder)
    p, mean, said = sign_flip(one - other), float((one - other).mean()), answer["verdict"]
    matters = plan["matters"]
    if said == judged(p, mean, matters):
        return
    found = f"p = {p:.3g}, and the mean is {mean:+.2f}"
    if said != "open" and p > CHANCE:
        raise Wrong(f"{said!r} at {found}: equal rows do as much in {100 * p:.0f} of 100 comparisons.")
    if said == "confirmed" and 0 < mean < matters:
        raise Wrong(f"{said!r} at {found}: by your own plan a difference matters from {matters:g} on.")
    raise Wrong(f"{said!r} at {found}. The plan says of {matters:g} that it matters: what follows from it?")


def judged(p: float, mean: float, matters: float) -> str:
    """The verdict by the rule that the chapter states."""
    if p <= CHANCE and mean >= matters:
        return "confirmed"
    return "overturned" if p <= CHANCE and mean < 0 else "open"


def sign_flip(gaps: np.ndarray) -> float:
    """The exact two-sided p of paired differences: of all their signs the share whose sum is as far from 0, or more."""
    sums = np.zeros(1)
    for gap in gaps:
        sums = np.concatenate([sums + gap, sums - gap])
    return float((np.abs(sums) >= abs(gaps.sum()) - 1e-9).mean())


def _unpaired(one: np.ndarray, other: np.ndarray) -> float:
    """The exact two-sided p of two groups: of all ways to choose the first, the share that is as far from the other."""
    every = np.concatenate([one, other])
    sums = every[np.array(list(combinations(range(len(every)), len(one))))].sum(axis=1)
    return float((np.abs(2 * sums - every.sum()) >= abs(one.sum() - other.sum()) - 1e-9).mean())


def _form(answer: Any) -> tuple[dict[str, Any], Path]:
    """The plan and the folder; what has another form is a ValueError."""
    if not isinstance(answer, Mapping) or set(answer) != set(ANSWER):
        raise ValueError(f"it should be a dict with the keys {list(ANSWER)}.")
    if answer["verdict"] not in VERDICTS:
        raise ValueError(f"'verdict' should be one of {', '.join(map(repr, VERDICTS))}.")
    if isinstance(answer["p"], bool) or not isinstance(answer["p"], int | float):
        raise ValueError("'p' should be a number.")
    folder = Path(answer["folder"])
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}.")
    return plans.read(answer["plan"]), folder


def _places(plan: dict[str, Any], folder: Path) -> dict[str, Path]:
    return folders([plan["better"], plan["than"]], folder)


def _only_two(plan: dict[str, Any], folder: Path) -> None:
    places = _places(plan, folder)
    there = {path.parent for path in folder.glob("*/seed*")}
    for row, place in places.items():
        if place not in there:
            raise Wrong(f"{folder} holds no run of {row!r}: its rows are {', '.join(sorted(p.name for p in there))}.")
    others = sorted(path.name for path in there - set(places.values()))
    if others:
        raise Wrong(f"{folder} also holds runs of {', '.join(others)}, which is not in the plan. Every run is used.")


def _every_seed(plan: dict[str, Any], folder: Path) -> None:
    planned = set(range(plan["first seed"], plan["first seed"] + plan["seeds"]))
    for row, place in _places(plan, folder).items():
        begun = {int(path.name[4:]) for path in place.glob("seed*") if path.name[4:].isdigit()}
        missing = planned - {seed for seed in begun if (place / f"seed{seed}" / ENTRY).is_file()}
        if begun - planned:
            more = ", ".join(map(str, sorted(begun - planned)))
            raise Wrong(
                f"The plan has the seeds {min(planned)} to {max(planned)}, and {row!r} has runs of {more} too. To go "
                f"on until it fits breaks the stop rule: {plan['stop']!r}."
            )
        if missing and missing == set(range(min(missing), max(planned) + 1)):
            raise Wrong(
                f"The plan has the seeds {min(planned)} to {max(planned)}, and {row!r} ends before seed "
                f"{min(missing)}. To stop earlier breaks the stop rule: {plan['stop']!r}."
            )
        if missing:
            raise Wrong(f"{row!r} has no measured run of seed {min(missing)}: every run of the plan is used.")


def _read(plan: dict[str, Any], folder: Path) -> Runs:
    seeds = range(plan["first seed"], plan["first seed"] + plan["seeds"])
    places = _places(plan, folder)
    return {
        row: {seed: runs.read_json(place / f"seed{seed}" / ENTRY) for seed in seeds} for row, place in places.items()
    }


def _values(plan: dict[str, Any], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The planned quantity of both rows, in percent, by seed."""
    scores, key = ("scores_no_nms", "AP") if plan["quantity"] == WITHOUT_NMS else ("scores", plan["quantity"])
    found = _read(plan, folder)
    every = [entry[scores].get(key) for entries in found.values() for entry in entries.values()]
    if None in every:
        there = ", ".join(next(iter(found[plan["better"]].values()))["scores"])
        raise ValueError(f"the runs have no {plan['quantity']!r}: they have {there}, and {WITHOUT_NMS}.")
    one, other = 100 * np.array(every, dtype=float).reshape(2, -1)
    return one, other


# --- what the proofs need --------------------------------------------------------------------------------------------

PLAN = plans.EXAMPLE
BASE = plans.EXAMPLE_APS["atss"]
UP, DOWN = (1.9, 2.6, 1.2, 2.2, 3.1, 1.6), (-1.4, -2.2, -0.6, -1.9, -1.1, -2.5)
UNSURE, SMALL = (2.1, -0.4, 1.6, 0.9, -1.2, 2.4), (0.4, 0.6, 0.2, 0.5, 0.7, 0.3)
P_SURE, P_UNSURE, P_HALF, P_UNPAIRED = 0.03125, 0.21875, 0.015625, 0.1645


class MadeUp(os.PathLike):
    """A folder of runs with these differences between the plan's two rows, written when its path is asked for."""

    def __init__(
        self,
        plan: Mapping[str, Any],
        gaps: Sequence[float],
        spoil: Callable[[Path], Any] | None = None,
        **settings: Mapping[str, Any],
    ):
        self.plan, self.gaps, self.spoil, self.settings = plan, gaps, spoil, settings
        self.folder: Path | None = None

    def __fspath__(self) -> str:
        if self.folder is None:
            self.folder = plans.temporary()
            base = [*BASE, *BASE][: len(self.gaps)]
            aps = {"rka": [ap + gap for ap, gap in zip(base, self.gaps, strict=True)], "atss": base}
            plans.write_made_up(self.folder, self.plan, aps, **self.settings)
            if self.spoil:
                self.spoil(self.folder)
        return str(self.folder)


def answer(
    gaps: Sequence[float],
    p: float,
    said: str,
    spoil: Callable[[Path], Any] | None = None,
    changed: Mapping[str, Any] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    **planned: Any,
) -> dict[str, Any]:
    """An answer over made-up runs. planned: what is not as in the example's plan; changed: in the plan, after it was
    sealed."""
    plan = PLAN | {key.replace("_", " "): value for key, value in planned.items()}
    folder = MadeUp(plan, gaps, spoil, **(settings or {}))
    return {"plan": plan | dict(changed or {}), "folder": folder, "p": p, "verdict": said}


def without(*seeds: int, rows: Sequence[str] = ("rka", "atss")) -> Callable[[Path], None]:
    """Takes the runs of these seeds away."""

    def spoil(folder: Path) -> None:
        for row in rows:
            for seed in seeds:
                shutil.rmtree(folder / row / f"seed{seed}")

    return spoil


def an_hour_old(folder: Path) -> None:
    """Sets back one file's clock."""
    file = folder / "atss" / "seed4" / ENTRY
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 3600))


def a_third_row(folder: Path) -> None:
    shutil.copytree(folder / "rka", folder / "rfla")
