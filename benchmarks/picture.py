"""The picture of docs/speed.md: cost against the number of ground truths and of priors, drawn from a run's results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from labelkit.plot import BLUE, ORANGE

# The method by colour and mark, the side by line and filling: none of it is lost in grey.
STYLE = {"max_iou": (BLUE, "o"), "rka, nwd": (ORANGE, "s")}
Rows = list[dict[str, Any]]


def lines(rows: Rows) -> tuple[int, int, Rows, Rows]:
    """(priors of the first panel, ground truths of the second, rows of the first, rows of the second)."""
    own = [row for row in rows if row["section"] == "scaling"]
    by_priors = {P: [row for row in own if row["P"] == P] for P in {row["P"] for row in own}}
    by_gts = {G: [row for row in own if row["gts"] == G] for G in {row["gts"] for row in own}}
    P, G = max(by_priors, key=lambda key: len(by_priors[key])), max(by_gts, key=lambda key: len(by_gts[key]))
    return P, G, by_priors[P], sorted(by_gts[G], key=lambda row: row["P"])


def draw(rows: Rows, path: Path, source: str) -> None:
    """source: where the numbers come from; it is kept in the file."""
    P, G, first, second = lines(rows)
    with plt.rc_context({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}):
        fig, (top, bottom) = plt.subplots(2, 1, figsize=(5.2, 8), layout="constrained")
        _panel(top, first, "gts", f"objects, on {P:,} anchors")
        _panel(bottom, second, "P", f"anchors, for {G:,} objects")
        fig.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=12)
        fig.savefig(path, dpi=150, metadata={"Source": source, "Software": None})
        plt.close(fig)


def _panel(ax: Axes, rows: Rows, across: str, name: str) -> None:
    for method, (colour, mark) in STYLE.items():
        own = [row for row in rows if row["method"] == method]
        for side, line, face in (("peer_ms", "--", "white"), ("ours_ms", "-", colour)):
            points = [(row[across], row[side]) for row in own if row[side] is not None]
            label = f"{method}, {'labelkit' if side == 'ours_ms' else 'dense'}"
            ax.plot(*zip(*points, strict=True), line, color=colour, marker=mark, mfc=face, ms=6, lw=1.8, label=label)
    ax.set(xscale="log", yscale="log", xlabel=name, ylabel="ms per call")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value / 1e6:g} M")
    ax.grid(True, which="major", lw=0.4, color="0.85")
    ax.set_axisbelow(True)
