"""All methods side by side: tables and a picture from the entries, and what may be claimed of them."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from labelkit import plot
from labelkit.training import runs
from labelkit_course.rows import BASELINE

COLUMNS = {"AP": "AP", "AP50": "AP50", "AP50_0-8": "AP50 < 8 px", "AP50_8-16": "8-16", "AP50_16+": "16+"}
NO_NMS = "AP without NMS"
AITOD = {"AP_verytiny": "AP very tiny (2-8 px)", "AP_tiny": "tiny (8-16)", "AP_small": "small (16-32)"}
# AP; from three seeds, smaller differences are not to be claimed. Identical rules differ by more than 1.5 in 13 of 100
# pairs; by more than 2.5 with one sign in all seeds in 1.
NOISE = 0.025
NOISE_OF_RESULTS = 0.015  # what the texts beside data/results claim by


def read(results: Path, data: str, budget: str) -> dict[str, dict[int, dict]]:
    """All entries of a board, by variant and seed."""
    board: dict[str, dict[int, dict]] = defaultdict(dict)
    for path in sorted(results.glob(f"{data}-{budget}-*-seed*.json")):
        entry = runs.read_json(path)
        board[entry["variant"]][entry["seed"]] = entry
    if not board:
        raise ValueError(f"{results} holds no entry of {data} with the {budget} budget: train it first")
    return dict(board)


def table(board: dict[str, dict[int, dict]]) -> str:
    """Markdown, best AP first. Differences to the baseline are paired by seed; bold where every seed agrees on the
    sign and the mean is at least the noise, so that nothing else is claimed."""
    no_nms = _knows_no_nms(board)
    head = ["method", *COLUMNS.values(), *([NO_NMS] if no_nms else [])]
    head += [f"AP against {BASELINE}", "positives a gt < 8 px", "CPU seconds"]
    lines = []
    for name in _best_first(board):
        entries = board[name]
        row = [f"{name} ({len(entries)} seeds)"] + [_mean_sd(_column(entries, key)) for key in COLUMNS]
        row += [_mean_sd(_column(entries, "AP", "scores_no_nms"))] if no_nms else []
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
    """AP with and without suppression, and AP50 by size, best AP on top: a dot per seed, a line at their mean."""
    order = _best_first(board)[::-1]
    panels = [("scores", key, title) for key, title in COLUMNS.items() if key != "AP50"]
    if _knows_no_nms(board):
        panels.insert(1, ("scores_no_nms", "AP", NO_NMS))
    fig, axes = plot.figure(columns=len(panels), width=2.8, height=0.8 + 0.3 * len(order))
    for ax, (scores, key, title) in zip(axes, panels, strict=True):
        for row, name in enumerate(order):
            values = [100 * value for value in _column(board[name], key, scores)]
            if values:
                ax.plot(values, [row] * len(values), "o", color=plot.BLUE, ms=4, alpha=0.7)
                ax.plot([statistics.mean(values)] * 2, [row - 0.35, row + 0.35], "-", color=plot.VERMILLION, lw=2)
        ax.set_yticks(range(len(order)), order if ax is axes[0] else [""] * len(order))
        ax.set_title(title)
        ax.grid(color=plot.FAINT, lw=0.6)
    rows = [f"{name}: {_mean_sd(_column(board[name], 'AP'))}" for name in reversed(order)]
    runs.write_whole(path, lambda file: file.write(plot.png(fig, "AP and AP50 by size. AP: " + "; ".join(rows))))


def _knows_no_nms(board: dict[str, dict[int, dict]]) -> bool:
    """The first board's entries do not."""
    return any("scores_no_nms" in entry for entries in board.values() for entry in entries.values())


def _best_first(board: dict[str, dict[int, dict]]) -> list[str]:
    means = {name: statistics.mean(_column(entries, "AP") or [-1.0]) for name, entries in board.items()}
    return sorted(board, key=lambda name: -means[name])


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _column(entries: dict[int, dict], key: str, scores: str = "scores") -> list[float]:
    """The scores that are defined: data without objects of a size have none there, which is not 0."""
    found = [entry.get(scores, {}).get(key) for entry in entries.values()]
    return [value for value in found if value is not None]


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
    noise = NOISE if all("scores_no_nms" in entries[seed] for seed in shared) else NOISE_OF_RESULTS
    return f"**{text}**" if len(pairs) > 2 and one_sign and abs(statistics.mean(pairs)) >= noise else text
