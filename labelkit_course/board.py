"""The board: all methods of the course side by side, from its entries, and what may be claimed of them."""

import statistics
from collections import defaultdict
from pathlib import Path

from labelkit.counts import counted
from labelkit.training import paired, runs
from labelkit_course.rows import BASELINE

COLUMNS = {"AP": "AP", "AP50": "AP50", "AP50_0-8": "AP50 < 8 px", "AP50_8-16": "8-16", "AP50_16+": "16+"}
NO_NMS = paired.WITHOUT_NMS
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
    """Markdown, best AP first. Differences to the baseline are paired by seed; bold where they may be claimed."""
    no_nms = paired.knows_no_nms(board)
    head = ["method", *COLUMNS.values(), *([NO_NMS] if no_nms else [])]
    head += [f"AP against {BASELINE}", "positives per object < 8 px", "CPU seconds"]
    lines = []
    for name in paired.best_first(board):
        entries = board[name]
        row = [f"{name} ({counted(len(entries), 'seed')})", *paired.means(entries, COLUMNS)]
        row += paired.means(entries, ["AP"], "scores_no_nms") if no_nms else []
        smallest = [entry["positives"]["0-8"]["positives"] for entry in entries.values() if "0-8" in entry["positives"]]
        seconds = [entry["seconds"]["processor"] for entry in entries.values()]
        row += ["" if name == BASELINE else difference(entries, board.get(BASELINE, {}))]
        row += [f"{statistics.mean(smallest):.1f}" if smallest else "", f"{statistics.mean(seconds):.0f}"]
        lines.append(row)
    return paired.markdown(head, lines)


def by_aitod_size(board: dict[str, dict[int, dict]]) -> str:
    """Markdown: AP by AI-TOD's three smallest sizes, best AP first."""
    lines = [[name, *paired.means(board[name], AITOD)] for name in paired.best_first(board)]
    return paired.markdown(["method", *AITOD.values()], lines)


def compare(board: dict[str, dict[int, dict]], *pairs: tuple[str, str]) -> str:
    """Markdown: for each pair (one, other) of variants the `difference` one - other in every column."""
    lines = []
    for one, other in pairs:
        lines.append([f"{one} − {other}", *(difference(board[one], board[other], key) for key in COLUMNS)])
    return paired.markdown(["", *COLUMNS.values()], lines)


def draw(board: dict[str, dict[int, dict]], path: Path) -> None:
    """The board as a picture, see `paired.draw`."""
    paired.draw(board, {key: title for key, title in COLUMNS.items() if key != "AP50"}, path)


def difference(entries: dict[int, dict], baseline: dict[int, dict], key: str = "AP") -> str:
    """`paired.difference` with the board's measured noise as its limit."""
    measured = all("scores_no_nms" in entries[seed] for seed in set(entries) & set(baseline))
    return paired.difference(entries, baseline, NOISE if measured else NOISE_OF_RESULTS, key)
