"""Rules compared on one's own data: each trained with several seeds, measured with NMS and without, side by side."""

import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labelkit.counts import at_least_one, counted
from labelkit.datasets import BoxDataset
from labelkit.evaluation import PRESETS, evaluate
from labelkit.training import paired, runs
from labelkit.training.ceiling import raise_limits
from labelkit.training.folder import check_goes_on, load_detector
from labelkit.training.loop import train
from labelkit.training.measuring import check_preset, defined, detect, detect_without_nms, rules_of
from labelkit.training.recipe import Recipe

ENTRY = "compared.json"  # in the folder of each run
TABLE, PICTURE = "comparison.md", "comparison.png"

OF_DATA = ("data", "val", "images", "flip", "strict", "tile", "overlap")  # fields of a recipe, beside the seed

Entry = dict[str, Any]
Opened = dict[tuple, tuple[BoxDataset, BoxDataset]]  # the images of the last run, by what asked for them


@dataclass(frozen=True)
class Comparison:
    """What the runs say: an entry for every rule and seed, and which differences to `baseline` may be claimed.

    An entry holds `recipe`, `preset`, `scores` and `scores_no_nms` (`labelkit.evaluate`'s numbers under the preset,
    None where undefined), `positives` (`labelkit.evaluation.starvation_by_size` of the training images) and `seconds`.
    """

    entries: dict[str, dict[int, Entry]]
    baseline: str

    @property
    def preset(self) -> str:
        """The name of the preset that all runs were measured by."""
        return next(iter(next(iter(self.entries.values())).values()))["preset"]

    @property
    def limit(self) -> float:
        """The least mean difference of AP that is claimed, see `labelkit.training.paired.own_limit`."""
        return paired.own_limit(self.entries, self.baseline)

    def columns(self) -> dict[str, str]:
        """The scores that the table shows, with their titles: AP, AP50 and AP of each size that the data have."""
        sizes = {f"AP_{size}": f"AP {size}" for size in PRESETS[self.preset].areas}
        every = {"AP": "AP", "AP50": "AP50"} | sizes
        return {key: title for key, title in every.items() if any(paired.column(e, key) for e in self.entries.values())}

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The table's head and its lines, best AP first; a difference that may be claimed stands between asterisks."""
        columns, limit, base = self.columns(), self.limit, self.entries[self.baseline]
        head = ["rule", "seeds", *columns.values(), paired.WITHOUT_NMS, f"AP against {self.baseline}"]
        head += ["without a positive", "seconds"]
        lines = []
        for name in paired.best_first(self.entries):
            entries = self.entries[name]
            line = [name, str(len(entries)), *paired.means(entries, columns)]
            line += paired.means(entries, ["AP"], "scores_no_nms")
            line.append("" if name == self.baseline else paired.difference(entries, base, limit))
            line.append(f"{100 * statistics.mean([_starved(entry) for entry in entries.values()]):.1f} %")
            line.append(f"{statistics.mean([entry['seconds']['training'] for entry in entries.values()]):.0f}")
            lines.append(line)
        return head, lines

    def table(self) -> str:
        """The rows as Markdown, with the sentence that says what is claimed."""
        return paired.markdown(*self.rows()) + f"\n\n{self.words()}\n"

    def words(self) -> str:
        """What the table's marks mean, and what may be claimed."""
        seeds = min(len(entries) for entries in self.entries.values())
        scale = "AP in percent, mean ± deviation over seeds; differences are paired by seed."
        if seeds < paired.LEAST_SEEDS:
            few = counted(seeds, "seed")
            return f"{scale} With {few} no difference can be told from chance: take {paired.LEAST_SEEDS} or more."
        if len(self.entries) < 2:
            return f"{scale} There is one rule, and nothing to compare it with."
        return (
            f"{scale} In bold: one sign in all seeds and {100 * self.limit:.1f} AP or more, which identical rules reach"
            " in about 1 of 100 comparisons, judged by the scatter of these runs. Nothing else is claimed."
        )

    def draw(self, path: str | os.PathLike) -> None:
        """AP with and without NMS, and by size: a dot a seed, a line at the mean."""
        paired.draw(self.entries, {k: v for k, v in self.columns().items() if k != "AP50"}, Path(path))

    def write(self, folder: str | os.PathLike) -> None:
        """The table and the picture, as files."""
        text = self.table()
        runs.write_whole(Path(folder) / TABLE, lambda file: file.write(text.encode()))
        self.draw(Path(folder) / PICTURE)

    def as_dict(self) -> dict[str, Any]:
        """Plain values: every rule's entries by seed, its differences to the baseline, and the limit of a claim."""
        base, limit = self.entries[self.baseline], self.limit
        rules = {}
        for name, entries in self.entries.items():
            found = paired.differences(entries, base)
            claimed = name != self.baseline and paired.claimable(found, limit)
            rules[name] = {"seeds": entries, "differences": found, "claimed": claimed}
        return {"baseline": self.baseline, "preset": self.preset, "limit": limit, "rules": rules}

    def _repr_markdown_(self) -> str:
        return self.table()


def compare(
    rules: Mapping[str, Recipe],
    folder: str | os.PathLike,
    seeds: int = 3,
    *,
    first_seed: int = 0,
    preset: str = "coco",
    baseline: str | None = None,
    told: Callable[[str, int, Entry], None] = lambda name, seed, entry: None,
    **trainer_options: Any,
) -> Comparison:
    """Train every rule with the same seeds and compare; what stands in `folder` already is read, not trained again.

    Seed by seed, so that a stopped comparison is whole for the first seeds.

    Args:
        rules: by name, a whole `Recipe` each, so that a row may differ in its loss or its detector as well as in its
            assigner. Their seeds are replaced.
        seeds, first_seed: how many, and the lowest: 6 from 3 are the seeds 3 to 8.
        preset: sizes and limits of the measuring, see `labelkit.evaluate`.
        baseline: the rule that the others are compared with; the first by default.
        told: is called with rule, seed and entry as each comes.
        trainer_options: `progress` and Lightning's, see `labelkit.training.train`.

    Raises:
        ValueError: no rules; two whose folders have one name; an unknown preset or baseline; or `folder` holds a run
            of a rule with another recipe, or measured by another preset.
    """
    at_least_one(seeds=seeds)
    if first_seed < 0:
        raise ValueError(f"first_seed must not be negative, got {first_seed}")
    check_preset(preset)
    first, places = _known(baseline, rules), folders(rules, Path(folder))
    for recipe in rules.values():
        recipe.rules()  # what is wrong with the last rule is said before the first is trained
    entries: dict[str, dict[int, Entry]] = {name: {} for name in rules}
    opened: Opened = {}
    for seed in range(first_seed, first_seed + seeds):
        for name, recipe in rules.items():
            place = places[name] / f"seed{seed}"
            entries[name][seed] = _entry(replace(recipe, seed=seed), place, preset, trainer_options, opened)
            told(name, seed, entries[name][seed])
    return Comparison(entries, first)


def _opened(recipe: Recipe, opened: Opened) -> tuple[BoxDataset, BoxDataset]:
    """The images of a run: those of the last one, where both ask for the same. A seed makes other digits and tiles of
    trees, and no other folder."""
    key = tuple(getattr(recipe, name) for name in OF_DATA) + (recipe.seed if recipe.of_course else None,)
    if key not in opened:
        opened.clear()
        opened[key] = recipe.load()
    return opened[key]


def _entry(recipe: Recipe, folder: Path, preset: str, options: dict[str, Any], opened: Opened) -> Entry:
    """A run's entry: read, or trained, measured and written."""
    check_goes_on(folder, recipe, resume=True)
    path = folder / ENTRY
    if path.is_file():
        entry = runs.read_json(path, "recipe", "preset", "scores", "scores_no_nms", "positives", "seconds")
        if entry["preset"] != preset:
            raise ValueError(f"{folder} was measured by preset {entry['preset']}, not {preset}: choose another folder")
        return entry
    data = _opened(recipe, opened)
    result = train(recipe, folder, resume=True, data=data, **options)
    detector, _ = load_detector(folder)
    images = data[1]
    raise_limits(detector, recipe.detections, PRESETS[preset].ap_max_dets, images.targets)
    rules = rules_of(preset, detector.detections_per_img)
    measured = {"scores": detect, "scores_no_nms": detect_without_nms}
    scores = {
        key: defined(evaluate(found(detector, images, tiling=recipe.tiling), images.targets, rules))
        for key, found in measured.items()
    }
    recipe_there = runs.read_json(folder / runs.CONFIG)
    entry = recipe_there | {"preset": preset} | scores | {key: result[key] for key in ("positives", "seconds")}
    runs.write_json(path, entry)
    return entry


def folders(rules: Iterable[str], folder: Path) -> dict[str, Path]:
    """A place below `folder` for every rule, by its name made safe for any file system."""
    places: dict[Path, str] = {}
    for name in rules:
        place = folder / re.sub(r"[^\w.=-]+", "_", name)
        if place in places:
            raise ValueError(f"rules {places[place]!r} and {name!r} would share the folder {place}: rename one")
        places[place] = name
    return {name: place for place, name in places.items()}


def _known(baseline: str | None, rules: Mapping[str, Recipe]) -> str:
    """The rule that the others are compared with: the first, or the one named."""
    if not rules:
        raise ValueError("rules must name at least one rule, got none")
    name = next(iter(rules)) if baseline is None else baseline
    if name not in rules:
        raise ValueError(f"baseline must be one of {', '.join(rules)}, got {baseline!r}")
    return name


def _starved(entry: Entry) -> float:
    """The share of all objects, whatever their size, that got no positive."""
    sizes = entry["positives"].values()
    objects = sum(size["gts"] for size in sizes)
    return sum(size["gts"] * size["starved"] for size in sizes) / objects if objects else 0.0
