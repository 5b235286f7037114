"""All methods side by side: one training a method, data set and seed, one small JSON file each, a table from them."""

import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import labelkit
from labelkit import plot
from labelkit.assigners import ASSIGNERS
from labelkit.datasets import BoxDataset
from labelkit.training import load_detector, runs, train
from labelkit.training.devices import trainer_device
from labelkit.training.measuring import Detections, detect, score
from labelkit.training.recipe import FAST_STEPS, FULL_STEPS, Recipe


class Variant(NamedTuple):
    """What a row stands for: an assigner, its arguments, and what else differs from the recipe."""

    assigner: str
    arguments: dict[str, Any] = {}
    settings: dict[str, Any] = {}


_NWD: dict[str, Any] = {"name": "nwd", "constant": 12.8}
_SIMD: dict[str, Any] = {"name": "simd", "m": 1.43, "n": 1.23}
# "Fixed IoU" is four different rules, and they differ by more than most methods do: always named by its ties.
VARIANTS: dict[str, Variant] = {
    "max_iou, no low quality": Variant("max_iou", {"allow_low_quality_matches": False}),
    "max_iou, all ties": Variant("max_iou", {"low_quality_ties": "all"}),
    "max_iou, first tie": Variant("max_iou", {"low_quality_ties": "first"}),
    "max_iou, nearest tie": Variant("max_iou", {"low_quality_ties": "nearest"}),
    "topk, k=3": Variant("topk", {"k": 3}),
    "topk, k=9": Variant("topk", {"k": 9}),
    # The thresholds of NWD's, SimD's and GCD's own code; the constants are those of the digits (nwd_constant,
    # dotd_constant, simd_constants), so these rows are for that board.
    "max_iou, nwd": Variant("max_iou", {"similarity": _NWD, "fg_thresh": 0.7, "bg_thresh": 0.3, "min_fg": 0.3}),
    "max_iou, simd": Variant("max_iou", {"similarity": _SIMD, "fg_thresh": 0.7, "bg_thresh": 0.3, "min_fg": 0.3}),
    "max_iou, gcd": Variant("max_iou", {"similarity": "gcd", "fg_thresh": 0.8, "bg_thresh": 0.2, "min_fg": 0.2}),
    "rka": Variant("rka"),  # by NWD
    "rka, dotd": Variant("rka", {"similarity": {"name": "dotd", "constant": 14.0}}),
    "rka, simd": Variant("rka", {"similarity": _SIMD}),
    # HAMBox without the two counts of its loss; with its own box loss, and another rule under that: see chapter 10.
    "hambox": Variant("hambox"),
    "hambox, one count": Variant("hambox", {}, {"plain_loss": True}),
    "hambox, smooth L1": Variant("hambox", {}, {"box_loss": "smooth_l1"}),
    "atss": Variant("atss"),
    "atss, smooth L1": Variant("atss", {}, {"box_loss": "smooth_l1"}),
}
BASELINE = "max_iou, all ties"
BUDGETS = {"fast": FAST_STEPS, "full": FULL_STEPS}
FOLDS = {"digits": ("digits",), "trees": ("trees:0", "trees:1", "trees:2")}
COLUMNS = {"AP": "AP", "AP50": "AP50", "AP50_0-8": "AP50 < 8 px", "AP50_8-16": "8-16", "AP50_16+": "16+"}
AITOD = {"AP_verytiny": "AP very tiny (2-8 px)", "AP_tiny": "tiny (8-16)", "AP_small": "small (16-32)"}
NOISE = 0.015  # AP; from three seeds, smaller differences are not to be claimed


class Cell(NamedTuple):
    """One entry: a variant of a method, trained on one data set with one seed."""

    data: str
    budget: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        variant = self.variant.replace(", ", "-").replace(" ", "_").replace("=", "")
        return f"{self.data}-{self.budget}-{variant}-seed{self.seed}"

    def recipe(self, data: str) -> Recipe:
        assigner, arguments, settings = variants()[self.variant]
        steps = BUDGETS[self.budget]
        return Recipe(assigner=assigner, assigner_args=arguments, data=data, steps=steps, seed=self.seed, **settings)


def variants() -> dict[str, Variant]:
    """Every registered assigner: as `VARIANTS` says, the others with the course's arguments under their own name."""
    listed = {variant.assigner for variant in VARIANTS.values()}
    return VARIANTS | {name: Variant(name) for name in ASSIGNERS if name not in listed}


def cells(data: str, budget: str, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Cell]:
    """All entries wanted, seed by seed, so that an interrupted board is complete for the first seeds.

    only: names of variants, or of assigners that are not the name of a variant for all of theirs.
    """
    if data not in FOLDS:
        raise ValueError(f"data must be one of {', '.join(FOLDS)}, got {data!r}")
    if budget not in BUDGETS:
        raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, got {budget!r}")
    known = variants()
    for name in only:
        if name not in known and name not in ASSIGNERS:
            raise ValueError(f"only must name one of {'; '.join(known)}, got {name!r}")
    several = set(only) - set(known)
    chosen = [name for name, row in known.items() if not only or name in only or row.assigner in several]
    return [Cell(data, budget, name, seed) for seed in seeds for name in chosen]


def fill(
    wanted: Sequence[Cell], results: Path, work: Path, progress: bool = True, device: str = "auto"
) -> Iterator[tuple[Cell, dict]]:
    """Train what is not there yet, an entry at a time, and yield each with its content.

    A stopped board goes on where it was: finished entries are read, and the one in the middle resumes from its
    checkpoint below `work`, where runs are kept until their entry is written.
    """
    for cell in wanted:
        path = results / f"{cell.name}.json"
        if not path.is_file():
            content = train_cell(cell, work / cell.name, progress, device)
            runs.write_json(path, content)
            shutil.rmtree(work / cell.name, ignore_errors=True)
        yield cell, runs.read_json(path)


def train_cell(cell: Cell, work: Path, progress: bool = True, device: str = "auto") -> dict[str, Any]:
    """Train (for the aerial images once a spatial fold), pool the detections of the folds, measure."""
    options = trainer_device(device) | {"progress": progress}
    detections: Detections = []
    targets: list[dict[str, Any]] = []
    parts = []
    for data in FOLDS[cell.data]:
        recipe = cell.recipe(data)
        train_set, test_set = _train_set(data, recipe.images, cell.seed), _test_set(data)
        folder = work / data.replace(":", "-")
        parts.append(train(recipe, folder, resume=True, data=(train_set, test_set), **options))
        detections += detect(load_detector(folder, "last")[0], test_set)
        targets += test_set.targets
    config = runs.read_json(folder / runs.CONFIG)
    return {
        **cell._asdict(),
        "recipe": config["recipe"] | {"data": cell.data},
        "software": config["software"],
        "scores": score(detections, targets),
        "positives": parts[0]["positives"],
        "seconds": {key: round(sum(part["seconds"][key] for part in parts), 1) for key in parts[0]["seconds"]},
    }


@lru_cache(maxsize=3)
def _train_set(data: str, images: int, seed: int) -> BoxDataset:
    return Recipe(data=data, images=images, seed=seed).train_set()


@lru_cache(maxsize=3)
def _test_set(data: str) -> BoxDataset:
    return Recipe(data=data).val_set()


def read(results: Path, data: str, budget: str) -> dict[str, dict[int, dict]]:
    """All entries of a board, by variant and seed; one of another version of the library is an error."""
    board: dict[str, dict[int, dict]] = defaultdict(dict)
    for path in sorted(results.glob(f"{data}-{budget}-*-seed*.json")):
        entry = runs.read_json(path)
        if entry["software"]["labelkit"] != labelkit.__version__:
            raise ValueError(f"{path} is of labelkit {entry['software']['labelkit']}: delete it and train it again")
        board[entry["variant"]][entry["seed"]] = entry
    if not board:
        raise ValueError(f"{results} holds no entry of {data} with the {budget} budget: train it first")
    return dict(board)


def table(board: dict[str, dict[int, dict]]) -> str:
    """Markdown, best AP first. Differences to the baseline are paired by seed; bold where every seed agrees on the
    sign and the mean is above the noise, so that nothing else is claimed."""
    head = ["method", *COLUMNS.values(), f"AP against {BASELINE}", "positives a gt < 8 px", "CPU seconds"]
    lines = []
    for name in _best_first(board):
        entries = board[name]
        row = [f"{name} ({len(entries)} seeds)"] + [_mean_sd(_column(entries, key)) for key in COLUMNS]
        smallest = [entry["positives"]["0-8"]["positives"] for entry in entries.values() if "0-8" in entry["positives"]]
        seconds = [entry["seconds"]["processor"] for entry in entries.values()]
        row += ["" if name == BASELINE else difference(entries, board.get(BASELINE, {}))]
        row += [f"{statistics.mean(smallest):.1f}" if smallest else "", f"{statistics.mean(seconds):.0f}"]
        lines.append(row)
    return _markdown(head, lines)


def by_aitod_size(board: dict[str, dict[int, dict]]) -> str:
    """Markdown: AP by AI-TOD's three smallest sizes, best AP first."""
    lines = [[name, *(_mean_sd(_column(board[name], key)) for key in AITOD)] for name in _best_first(board)]
    return _markdown(["method", *AITOD.values()], lines)


def compare(board: dict[str, dict[int, dict]], *pairs: tuple[str, str]) -> str:
    """Markdown: for each pair (one, other) of variants the `difference` one - other in every column."""
    lines = []
    for one, other in pairs:
        lines.append([f"{one} − {other}", *(difference(board[one], board[other], key) for key in COLUMNS)])
    return _markdown(["", *COLUMNS.values()], lines)


def draw(board: dict[str, dict[int, dict]], path: Path) -> None:
    """AP50 by object size of every method, best AP on top: a dot a seed, a line at their mean."""
    order = _best_first(board)[::-1]
    sizes = {key: title for key, title in COLUMNS.items() if key != "AP50"}
    fig, axes = plot.figure(columns=len(sizes), width=2.8, height=0.8 + 0.3 * len(order))
    for ax, (key, title) in zip(axes, sizes.items(), strict=True):
        for row, name in enumerate(order):
            values = [100 * value for value in _column(board[name], key)]
            if values:
                ax.plot(values, [row] * len(values), "o", color="#0072B2", ms=4, alpha=0.7)
                ax.plot([statistics.mean(values)] * 2, [row - 0.35, row + 0.35], "-", color="#D55E00", lw=2)
        ax.set_yticks(range(len(order)), order if ax is axes[0] else [""] * len(order))
        ax.set_title(title)
        ax.grid(color="#DDDDDD", lw=0.6)
    rows = [f"{name}: {_mean_sd(_column(board[name], 'AP'))}" for name in reversed(order)]
    runs.write_whole(path, lambda file: file.write(plot.png(fig, "AP and AP50 by size. AP: " + "; ".join(rows))))


def _best_first(board: dict[str, dict[int, dict]]) -> list[str]:
    means = {name: statistics.mean(_column(entries, "AP") or [-1.0]) for name, entries in board.items()}
    return sorted(board, key=lambda name: -means[name])


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _column(entries: dict[int, dict], key: str) -> list[float]:
    """The scores that are defined: data without objects of a size have none there, which is not 0."""
    return [entry["scores"][key] for entry in entries.values() if entry["scores"][key] is not None]


def _mean_sd(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def difference(entries: dict[int, dict], baseline: dict[int, dict], key: str = "AP") -> str:
    """Mean and deviation of entries - baseline, seed by seed, in percent; bold if it may be claimed (see `table`)."""
    shared = sorted(set(entries) & set(baseline))
    both = [(entries[seed]["scores"][key], baseline[seed]["scores"][key]) for seed in shared]
    pairs = [one - other for one, other in both if one is not None and other is not None]
    if not pairs:
        return ""
    spread = f" ± {100 * statistics.stdev(pairs):.1f}" if len(pairs) > 1 else ""
    text = f"{100 * statistics.mean(pairs):+.1f}{spread}"
    one_sign = min(pairs) > 0 or max(pairs) < 0
    return f"**{text}**" if len(pairs) > 2 and one_sign and abs(statistics.mean(pairs)) >= NOISE else text
