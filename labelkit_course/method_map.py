"""The map of methods: a mark for each that the course has taught, so that the reader sees it grow by the chapter."""

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labelkit import plot


class Method(NamedTuple):
    """Where a method stands on the map; tests/course/test_method_map.py measures it."""

    name: str
    assigner: str  # in the registry
    chapter: int
    soft: bool = False  # some positives have a class target between 0 and 1
    dynamic: bool = False  # other predictions, other labels


METHODS = (
    Method("MaxIoU", "max_iou", 5),
    Method("FCOS", "fcos", 6),
    Method("TopK", "topk", 8),
    Method("ATSS", "atss", 9),
    Method("HAMBox", "hambox", 10, dynamic=True),
    Method("Noisy anchors", "noisy_anchors", 11, soft=True, dynamic=True),
    Method("PAA", "paa", 13, dynamic=True),
    Method("OTA", "ota", 13, dynamic=True),
    Method("SimOTA", "simota", 13, soft=True, dynamic=True),
    Method("Task alignment", "tal", 14, soft=True, dynamic=True),
    Method("Dynamic soft label", "dsl", 14, soft=True, dynamic=True),
    Method("Hungarian", "hungarian", 15, dynamic=True),
    Method("POTO", "poto", 15, dynamic=True),
    Method("S³FD", "s3fd", 16),
    Method("RKA", "rka", 17),
    Method("RFLA", "rfla", 18),
    Method("DCFL", "dcfl", 18, dynamic=True),
)
OPENING = ("MaxIoU", "FCOS", "HAMBox", "Noisy anchors")  # chapter 4 shows these before any is taught
ROWS = {False: 7, True: 4}  # of marks, in a hard field and in a soft one


def method_map(up_to: int = 4) -> Figure:
    """The map as it stands at the end of chapter `up_to`; hollow marks belong to chapters still to come.

    Every mark keeps its place, and those of chapter `up_to` itself are in bold.
    """
    shown = [method for method in METHODS if method.chapter <= up_to or method.name in OPENING]
    figure, (ax,) = plot.figure(width=6.4, height=4.6)
    for column, dynamic in enumerate((False, True)):
        for soft in (True, False):
            field = [method for method in METHODS if (method.soft, method.dynamic) == (soft, dynamic)]
            for row, method in enumerate(field):
                if method in shown:
                    _mark(ax, method, column, _top(soft) - row, up_to)
    empty = ROWS[True] / 2
    ax.text(0.5, empty, "none", ha="center", va="center", fontsize=12, color=plot.INK)
    ax.axvline(1, color=plot.GREY, lw=1)
    ax.axhline(ROWS[True], color=plot.GREY, lw=1)
    ax.set(xlim=(0, 2), ylim=(0, sum(ROWS.values())))
    ax.set_xticks([0.5, 1.5], ["static", "dynamic"])
    ax.set_yticks([ROWS[True] / 2, ROWS[True] + ROWS[False] / 2], ["soft", "hard"])
    ax.tick_params(labelsize=12, length=0)
    key = "circle: compares the prior   diamond: asks the network"
    if any(method.chapter > up_to for method in shown):
        key += "\nhollow: in a later chapter"
    ax.set_title(key, fontsize=11)
    return figure


def _top(soft: bool) -> float:
    """The height of a field's first mark."""
    return ROWS[True] + (0 if soft else ROWS[False]) - 0.5


def _mark(ax: Axes, method: Method, column: int, y: float, up_to: int) -> None:
    color, marker = (plot.ORANGE, "D") if method.dynamic else (plot.BLUE, "o")
    taught = method.chapter <= up_to
    ax.scatter(column + 0.08, y, s=60, marker=marker, lw=1.8, edgecolors=color, c=color if taught else plot.GROUND)
    weight = "bold" if method.chapter == up_to else "normal"
    text = f"{method.name} ({method.chapter})"
    ax.text(column + 0.15, y, text, va="center", fontsize=11.5, fontweight=weight, color=plot.INK)
