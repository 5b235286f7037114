"""Rules side by side, seed by seed: means, paired differences, and which of these may be claimed.

The same rule trained with another seed gives another AP, often by more than two rules differ. So rules are compared
seed by seed, and a difference is set in bold only where chance makes one like it in about 1 of 100 comparisons of
identical rules: it has one sign in all seeds, there are three of them or more, and its mean reaches a limit.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labelkit import plot
from labelkit.training import runs

Entries = Mapping[int, Mapping[str, Any]]  # of one rule, by seed: {"scores": {...}, "scores_no_nms": {...}, ...}
Board = Mapping[str, Entries]  # by rule

WITHOUT_NMS = "AP without NMS"
LEAST_SEEDS = 3
CHANCE = 0.01  # of a claim where the rules are identical


def best_first(board: Board, key: str = "AP") -> list[str]:
    """The rules' names, highest mean first; a rule whose score is not defined comes last."""
    means = {name: statistics.mean(column(entries, key) or [-1.0]) for name, entries in board.items()}
    return sorted(board, key=lambda name: -means[name])


def column(entries: Entries, key: str, scores: str = "scores") -> list[float]:
    """The scores of a rule that are defined: data without objects of a size have none there, which is not 0."""
    found = [entry.get(scores, {}).get(key) for entry in entries.values()]
    return [value for value in found if value is not None]


def mean_sd(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation in percent, the deviation from two values on; a dash where there are none.

    sign: "+" for a mean with its sign in front.
    """
    if not values:
        return "-"
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):{sign}.1f}{spread}"


def means(entries: Entries, keys: Iterable[str], scores: str = "scores") -> list[str]:
    """`mean_sd` of every one of these scores of a rule."""
    return [mean_sd(column(entries, key, scores)) for key in keys]


def differences(entries: Entries, baseline: Entries, key: str = "AP") -> list[float]:
    """entries - baseline for every seed that both have, where both scores are defined."""
    shared = sorted(set(entries) & set(baseline))
    both = [(entries[seed]["scores"].get(key), baseline[seed]["scores"].get(key)) for seed in shared]
    return [one - other for one, other in both if one is not None and other is not None]


def claimable(found: Sequence[float], limit: float) -> bool:
    """Whether differences may be claimed: three or more, of one sign, their mean at least the limit."""
    if len(found) < LEAST_SEEDS:
        return False
    return (min(found) > 0 or max(found) < 0) and abs(statistics.mean(found)) >= limit


def own_limit(board: Board, baseline: str, key: str = "AP") -> float:
    """The least mean difference that may be claimed, from the scatter of these very runs; infinite below three seeds.

    Each rule's differences to the baseline scatter about their mean. Their variance is pooled over the rules, and the
    limit is the 99 % point of Student's t for it, two-sided, times the standard error of a mean. With two rules and
    three seeds that is 5.7 standard deviations of a difference; with five seeds, or more rules, it is 2.
    """
    against = [differences(entries, board[baseline], key) for name, entries in board.items() if name != baseline]
    against = [found for found in against if len(found) >= LEAST_SEEDS]
    if not against:
        return math.inf
    from scipy.stats import t  # takes longer to import than all else here

    freedom = sum(len(found) - 1 for found in against)
    variance = sum((len(found) - 1) * statistics.variance(found) for found in against) / freedom
    return float(t.ppf(1 - CHANCE / 2, freedom)) * math.sqrt(variance / min(len(found) for found in against))


def difference(entries: Entries, baseline: Entries, limit: float, key: str = "AP") -> str:
    """Mean and deviation of entries - baseline, seed by seed, in percent; bold if it may be claimed."""
    found = differences(entries, baseline, key)
    if not found:
        return ""
    text = mean_sd(found, "+")
    return f"**{text}**" if claimable(found, limit) else text


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table, a line each."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def draw(board: Board, columns: Mapping[str, str], path: Path) -> None:
    """AP with and without suppression, and the other columns, best AP on top: a dot a seed, a line at their mean."""
    order = best_first(board)[::-1]
    panels = [("scores", key, title) for key, title in columns.items()]
    if knows_no_nms(board):
        panels.insert(1, ("scores_no_nms", "AP", WITHOUT_NMS))
    fig, axes = plot.figure(columns=len(panels), width=2.8, height=0.8 + 0.3 * len(order))
    for ax, (scores, key, title) in zip(axes, panels, strict=True):
        for row, name in enumerate(order):
            values = [100 * value for value in column(board[name], key, scores)]
            if values:
                ax.plot(values, [row] * len(values), "o", color=plot.BLUE, ms=4, alpha=0.7)
                ax.plot([statistics.mean(values)] * 2, [row - 0.35, row + 0.35], "-", color=plot.VERMILLION, lw=2)
        ax.set_yticks(range(len(order)), order if ax is axes[0] else [""] * len(order))
        ax.set_ylim(-0.7, len(order) - 0.3)
        ax.set_title(title)
        ax.grid(color=plot.FAINT, lw=0.6)
    rows = "; ".join(f"{name}: {mean_sd(column(board[name], 'AP'))}" for name in reversed(order))
    runs.write_whole(path, lambda file: file.write(plot.png(fig, f"AP and AP50 by size. AP: {rows}")))


def knows_no_nms(board: Board) -> bool:
    """Whether any run was measured without suppression too."""
    return any("scores_no_nms" in entry for entries in board.values() for entry in entries.values())
