"""The picture of a detector's parts, which chapters 00 and 03 show: what happens in use, and what only in training."""

from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from labelkit import plot

# One inch of the figure is one unit, y downwards. Scaled to 360 px, as on a phone, letters of 12 pt are 11 px.
_WIDTH, _HEIGHT = 5.5, 4.7
_FRAME = 1.0, 0.78
_PARTS = {
    "image": (0, 0),
    "backbone": (1, 0),
    "pyramid": (2, 0),
    "head": (3, 0),
    "predicted\nboxes": (3, 1),
    "NMS": (2, 1),
    "priors": (1, 1),
    "drawn boxes": (0, 2),
    "assigner": (1, 2),
    "targets": (2, 2),
    "loss": (3, 2),
}
_OBJECTS = ((0.06, 0.2, 0.42, 0.56), (0.58, 0.38, 0.94, 0.72))  # from a frame's upper left corner


def pipeline() -> Figure:
    """image -> backbone -> pyramid -> head -> boxes -> NMS, and drawn boxes -> assigner -> targets -> loss."""
    fig, (ax,) = plot.figure(width=_WIDTH, height=_HEIGHT)
    ax.set(xlim=(0, _WIDTH), ylim=(_HEIGHT, 0), aspect="equal")
    ax.set_axis_off()
    ax.add_patch(Rectangle((0, 3.1), _WIDTH, 1.6, color=plot.FAINT, alpha=0.5, lw=0))
    _words(ax, 0.12, 4.54, "only while the detector is trained", ha="left", style="italic")
    for name in _PARTS:
        x, y = _corner(name)
        look: dict[str, Any] = {"lw": 3.2} if name == "assigner" else {"lw": 1.2}
        ax.add_patch(Rectangle((x, y), *_FRAME, fc=plot.GROUND, ec=plot.INK, zorder=1, **look))
        for number, line in enumerate(name.split("\n")):
            weight = "bold" if name == "assigner" else "normal"
            _words(ax, x + 0.5, y + 0.98 + 0.2 * number, line, va="baseline", weight=weight)
    _draw_network(ax)
    _draw_scenes(ax)
    _draw_arrows(ax)
    return fig


def _corner(name: str) -> tuple[float, float]:
    """The upper left corner of this part's frame."""
    column, row = _PARTS[name]
    return 0.12 + 1.36 * column, (0.1, 1.65, 3.27)[row]


def _words(ax: Axes, x: float, y: float, text: str, **options: Any) -> None:
    look: dict[str, Any] = {
        "fontsize": 12,
        "ha": "center",
        "va": "center",
        "color": plot.INK,
        "linespacing": 1.05,
        "zorder": 9,
    }
    ax.text(x, y, text, **(look | options))


def _draw_network(ax: Axes) -> None:
    """Maps that shrink, grids of three finenesses, and the questions that three of the parts answer."""
    x, y = _corner("backbone")
    for left, side in ((0.1, 0.62), (0.38, 0.44), (0.66, 0.26)):
        ax.add_patch(Rectangle((x + left, y + 0.39 - side / 2), 0.2, side, fc=plot.SKY, ec=plot.INK, lw=1, zorder=2))
    x, y = _corner("pyramid")
    for top, cells, side in ((0.08, 1, 0.16), (0.28, 2, 0.1), (0.5, 4, 0.05)):
        for row, column in product(range(cells), range(2 * cells)):
            place = x + 0.5 + (column - cells) * side, y + top + row * side
            ax.add_patch(Rectangle(place, side, side, fc=plot.GROUND, ec=plot.INK, lw=0.8, zorder=2))
    for name, text in (("head", "what?\nwhere?"), ("assigner", "who\nlearns\nwhat?"), ("loss", "how\nwrong?")):
        x, y = _corner(name)
        _words(ax, x + 0.5, y + 0.39, text)


def _draw_scenes(ax: Axes) -> None:
    """The picture's two objects in each frame that is about the picture, with boxes or priors on them."""
    for name in ("image", "drawn boxes", "predicted\nboxes", "NMS", "priors", "targets"):
        for left, top, right, bottom in _placed(name):
            ax.add_patch(Rectangle((left, top), right - left, bottom - top, color="#efd2bd", lw=0, zorder=1.5))
    plot.boxes(ax, _placed("drawn boxes"), "gt")
    plot.boxes(ax, _placed("NMS"), "prediction")
    for shift in ((0, 0), (-0.06, 0.05), (0.05, -0.07), (0.04, 0.06)):
        plot.boxes(ax, _placed("predicted\nboxes", *shift), "prediction")
    for right, down in product((0.14, 0.32, 0.5, 0.68, 0.86), (0.12, 0.3, 0.48, 0.66)):
        inside = any(x1 < right < x2 and y1 < down < y2 for x1, y1, x2, y2 in _OBJECTS)
        for name, role in (("priors", "prior"), ("targets", "positive" if inside else "negative")):
            x, y = _corner(name)
            plot.points(ax, [[x + right, y + down]], role)


def _placed(name: str, right: float = 0.0, down: float = 0.0) -> list[list[float]]:
    x, y = _corner(name)
    x, y = x + right, y + down
    return [[x + x1, y + y1, x + x2, y + y2] for x1, y1, x2, y2 in _OBJECTS]


def _draw_arrows(ax: Axes) -> None:
    """Dashed is the way back, on which the loss changes the network."""
    for name in ("image", "backbone", "pyramid", "drawn boxes", "assigner", "targets"):
        x, y = _corner(name)
        _arrow(ax, (x + 1.03, y + 0.39), (x + 1.33, y + 0.39))
    _arrow(ax, (4.17, 2.04), (3.87, 2.04))  # predicted boxes to NMS
    _arrow(ax, (0.62, 1.16), (0.62, 3.22))  # image to drawn boxes
    ax.add_patch(Rectangle((0.1, 1.85), 1.04, 0.5, color=plot.GROUND, lw=0, zorder=8.5))
    _words(ax, 0.62, 2.1, "a person\ndraws")
    _arrow(ax, (3.0, 1.17), (2.45, 1.6))  # pyramid to priors
    _arrow(ax, (1.98, 2.74), (1.98, 3.22))  # priors to assigner
    _arrow(ax, (4.7, 1.17), (4.7, 1.6))  # head to predicted boxes
    _arrow(ax, (4.7, 2.92), (4.7, 3.22))  # predicted boxes to loss
    ax.plot([5.24, 5.4, 5.4], [3.66, 3.66, 0.49], "--", color=plot.INK, lw=1.6)
    _arrow(ax, (5.42, 0.49), (5.22, 0.49))


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": plot.INK, "lw": 1.6}, zorder=8)
