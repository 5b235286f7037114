"""The one picture language of the course: boxes and points by role, scenes, curves, and `show`.

A role always looks the same, in every chapter: colour (Okabe and Ito's set, which colour-blind readers can tell
apart), line style and marker together, so that a figure also reads in grey. Figures have an opaque light ground, for
dark themes too. They are plain matplotlib `Figure`s without pyplot: nothing global to set or close.
Tensors of any device go in; nothing is changed in place.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from labelkit.assignment import Assignment
from labelkit.display import display
from labelkit.extras import explained
from labelkit.priors import Priors
from labelkit.scenes import SCENES as SCENES
from labelkit.scenes import Scene as Scene

with explained():
    from matplotlib import patheffects
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Ellipse, Rectangle
    from matplotlib.transforms import ScaledTranslation

DPI = 160  # of a saved picture; it is shown as if it had 100
TYPE, TITLE = 11, 12  # points; smaller type can't be read on a phone
GROUND, INK, FAINT = "#fdfdfb", "#222222", "#d9d9d4"
BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
VERMILLION, PURPLE, GREY = "#D55E00", "#CC79A7", "#8a8a8a"
CYCLE = ((BLUE, "-"), (VERMILLION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, "-"), (SKY, "--"), (INK, ":"))

Values = Tensor | np.ndarray | Sequence[Any] | float  # numbers: a tensor or array, lists of whatever depth, one alone
Line = TypeVar("Line")


@dataclass(frozen=True)
class Role:
    """How one kind of thing is drawn; `rank` decides what lies on top."""

    color: str
    line: str | tuple[float, tuple[float, ...]]
    width: float
    marker: str
    size: float
    rank: int
    hollow: bool = False


ROLES = {
    "gt": Role(VERMILLION, "-", 2.4, "s", 36, 5),
    "positive": Role(BLUE, "-", 1.6, "o", 26, 4),
    "ignored": Role(ORANGE, (0, (4, 2)), 1.5, "D", 22, 3, hollow=True),
    "negative": Role(GREY, (0, (1, 1.5)), 1.0, ".", 9, 2),
    "prior": Role(INK, "-", 1.1, "+", 26, 2),
    "prediction": Role(PURPLE, (0, (5, 1.5, 1, 1.5)), 1.8, "^", 30, 4),
    "good": Role(GREEN, (0, (8, 2)), 2.0, "s", 30, 4, hollow=True),
}


def _numbers(values: Values) -> np.ndarray:
    """A detached float64 numpy copy of a tensor (any device, any dtype), a list or a number."""
    return torch.as_tensor(values, dtype=torch.float64, device="cpu").detach().numpy().copy()


def _with_looks(lines: Mapping[str, Line]) -> list[tuple[tuple[str, Line], tuple[str, str]]]:
    """The items of `lines`, each with its colour and dash."""
    if len(lines) > len(CYCLE):
        raise ValueError(f"lines: {len(lines)} lines, at most {len(CYCLE)} can be told apart")
    return list(zip(lines.items(), CYCLE, strict=False))


def _role(role: str) -> Role:
    if role not in ROLES:
        raise ValueError(f"role: {role!r} is none of {', '.join(ROLES)}")
    return ROLES[role]


def _text(
    ax: Axes, x: float, y: float, text: str, color: str, offset: tuple[float, float] = (0, 0), **options: Any
) -> None:
    """Text with a light halo, readable on a photograph too; `offset` is in points, to the right and up."""
    halo = [patheffects.withStroke(linewidth=2.5, foreground=GROUND)]
    options |= {"path_effects": halo, "fontsize": TYPE, "zorder": 9}
    ax.annotate(text, (x, y), offset, textcoords="offset points", color=color, **options)


def figure(columns: int = 1, rows: int = 1, *, width: float = 4.0, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """A new figure of `rows` x `columns` panels, each `width` x `height` inches: `(figure, [axes, ...])`."""
    fig = Figure(figsize=(columns * width, rows * height), dpi=100, layout="constrained", facecolor=GROUND)
    FigureCanvasAgg(fig)
    axes = list(fig.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.set_facecolor(GROUND)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=TYPE, colors=INK)
        for text, size in ((ax.title, TITLE), (ax.xaxis.label, TYPE), (ax.yaxis.label, TYPE)):
            text.set_size(size)
    return fig, axes


def scene(
    ax: Axes,
    where: Scene | Tensor | tuple[int, int],
    gt_boxes: Values | None = None,
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """The picture and its ground truths, in pixels, y downwards: where every other drawing starts.

    `where` is a `Scene`, an image ([3, H, W] or [H, W]; uint8, or floats in 0..1), or an empty `(height, width)`.
    """
    if isinstance(where, Scene):
        height, width = where.size
        gt_boxes = where.boxes if gt_boxes is None else gt_boxes
        title = where.title if title is None else title
        for x1, y1, x2, y2 in _numbers(where.boxes):
            ax.add_patch(Ellipse(((x1 + x2) / 2, (y1 + y2) / 2), x2 - x1, y2 - y1, color="#efd2bd", lw=0, zorder=0))
    elif isinstance(where, Tensor):
        pixels = where.detach().cpu()
        pixels = pixels.movedim(0, -1).expand(*pixels.shape[1:], 3) if pixels.ndim == 3 else pixels
        height, width = pixels.shape[:2]
        top = 255 if pixels.dtype == torch.uint8 else 1
        ax.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=top, extent=(0, width, height, 0), interpolation="nearest")
    else:
        height, width = where
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.spines[["top", "right"]].set_visible(True)
    ax.locator_params(nbins=5, steps=[1, 2, 4, 5, 10])  # few ticks: they are most of the time that a figure takes
    if title:
        ax.set_title(title)
    if gt_boxes is not None:
        boxes(ax, gt_boxes, "gt", labels=labels)


def boxes(
    ax: Axes, boxes: Values, role: str = "positive", *, labels: Sequence[str] | None = None, fill: bool = False
) -> None:
    """Boxes, xyxy, in the look of `role`; `labels` are written at their upper left corners."""
    look = _role(role)
    corners = _numbers(boxes).reshape(-1, 4)
    for index, (x1, y1, x2, y2) in enumerate(corners):
        style: dict[str, Any] = {"ec": look.color, "ls": look.line, "lw": look.width, "zorder": look.rank}
        style["fc"] = look.color + "38" if fill else "none"
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **style))
        if labels is not None:
            _text(ax, x1, y1, labels[index], look.color, va="bottom", ha="left", fontweight="bold")


def points(ax: Axes, points: Values, role: str = "positive") -> None:
    """Points (x, y) in the look of `role`."""
    look = _role(role)
    x, y = _numbers(points).reshape(-1, 2).T
    paint: dict[str, Any] = {"c": look.color}
    if look.hollow:
        paint = {"facecolors": GROUND, "edgecolors": look.color, "linewidths": 1.4}
    ax.scatter(x, y, s=look.size, marker=look.marker, zorder=look.rank + 3, **paint)


def assignment(
    ax: Axes, priors: Priors, assignment: Assignment, gt_boxes: Values | None = None, *, level: int | None = None
) -> None:
    """What an assigner decided for one image: each prior at its centre in the look of its label.

    Positives also show their box (anchors) and a thin line to the ground truth they serve. The panel's title gains
    the counts. `level` keeps the priors of one pyramid level.
    """
    centers, corners = _numbers(priors.centers), _numbers(priors.boxes)
    gt = _numbers(assignment.gt).astype(int)
    shown = np.ones(len(centers), dtype=bool) if level is None else (priors.levels == level).cpu().numpy()
    masks = {role: getattr(assignment, role).cpu().numpy() & shown for role in ("negative", "ignored", "positive")}
    for role, mask in masks.items():
        points(ax, centers[mask], role)
    positive = masks["positive"]
    if gt_boxes is not None:
        targets = _numbers(gt_boxes).reshape(-1, 4)
        boxes(ax, targets, "gt")
        middles = (targets[:, :2] + targets[:, 2:]) / 2
        for (x, y), (u, v) in zip(centers[positive], middles[gt[positive]], strict=True):
            ax.plot([x, u], [y, v], color=BLUE, lw=0.5, alpha=0.45, zorder=3)
    for x1, y1, x2, y2 in corners[positive]:
        if x2 > x1 and y2 > y1:
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=BLUE, lw=0.8, alpha=0.55, zorder=3))
    counts = " · ".join(f"{mask.sum()} {role}" for role, mask in reversed(masks.items()))
    ax.set_title(f"{ax.get_title()}\n{counts}".strip(), fontsize=TITLE)


def dimension(ax: Axes, start: Values, end: Values, text: str, *, color: str = INK) -> None:
    """A double arrow from `start` to `end`, both (x, y), with its measure written beside the middle."""
    (x1, y1), (x2, y2) = _numbers(start), _numbers(end)
    ax.annotate("", (x2, y2), (x1, y1), arrowprops={"arrowstyle": "<->", "color": color, "lw": 1.2}, zorder=8)
    upright = abs(x2 - x1) < abs(y2 - y1)
    place = {"ha": "left", "va": "center"} if upright else {"ha": "center", "va": "bottom"}
    _text(ax, (x1 + x2) / 2, (y1 + y2) / 2, text, color, (4, 0) if upright else (0, 3), **place)


def similarity_map(
    ax: Axes, values: Values, xs: Values, ys: Values, *, label: str = "IoU", limits: tuple[float, float] | None = None
) -> None:
    """A similarity as a heat map: `values[row, column]` belongs to the position `(xs[column], ys[row])`."""
    low, high = limits or (None, None)
    image = ax.pcolormesh(_numbers(xs), _numbers(ys), _numbers(values), cmap="cividis", vmin=low, vmax=high)
    ax.set_aspect("equal")
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.figure.colorbar(image, ax=ax, shrink=0.8, label=label).ax.tick_params(labelsize=TYPE)


def curves(ax: Axes, x: Values, lines: Mapping[str, Values], *, xlabel: str = "", ylabel: str = "") -> None:
    """One line a name over a common `x`; colour and dash tell them apart."""
    for (name, y), (color, dash) in _with_looks(lines):
        ax.plot(_numbers(x), _numbers(y), dash, color=color, lw=2, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(color=FAINT, lw=0.6)
    if len(lines) > 1:
        ax.legend(fontsize=TYPE, framealpha=0.9)


def losses(ax: Axes, runs: Mapping[str, Values], *, window: int = 20) -> None:
    """Training losses, one run a name, as running means over `window` steps."""
    for (name, values), (color, dash) in _with_looks(runs):
        series = torch.from_numpy(_numbers(values))
        width = min(window, len(series))
        smooth = series.unfold(0, width, 1).mean(1)
        ax.plot(range(width, width + len(smooth)), smooth.numpy(), dash, color=color, lw=1.8, label=name)
    ax.set(xlabel="step", ylabel=f"loss (mean of {window})")
    ax.grid(color=FAINT, lw=0.6)
    ax.legend(fontsize=TYPE, framealpha=0.9)


def bars_by_size(ax: Axes, methods: Mapping[str, Mapping[str, Values]], *, ylabel: str = "AP") -> None:
    """Grouped bars: a group an object size, a bar a method; several values (seeds) show as a mean and its dots."""
    sizes = list(dict.fromkeys(size for values in methods.values() for size in values))
    width = 0.8 / max(len(methods), 1)
    for index, ((name, values), (color, _)) in enumerate(_with_looks(methods)):
        for place, size in enumerate(sizes):
            seeds = _numbers(values.get(size, float("nan"))).reshape(-1)
            x = place + (index - (len(methods) - 1) / 2) * width
            ax.bar(x, seeds.mean(), width * 0.92, color=color, label=name if place == 0 else None, zorder=2)
            if seeds.mean() == 0:
                ax.text(x, 0, "0", ha="center", va="bottom", fontsize=TYPE)
            if len(seeds) > 1:
                ax.scatter([x] * len(seeds), seeds, s=12, color=INK, zorder=3)
    ax.set_xticks(range(len(sizes)), sizes)
    ax.set_ylabel(ylabel)
    ax.grid(axis="y", color=FAINT, lw=0.6, zorder=0)
    ax.legend(fontsize=TYPE, framealpha=0.9)


def legend(ax: Axes, *roles: str, **renamed: str) -> None:
    """A key of the roles in use, below the panel: `legend(ax, "gt", "positive", prior="anchor")`."""
    names = {role: {"gt": "ground truth"}.get(role, role) for role in roles} | renamed
    handles = []
    for role, name in names.items():
        look = _role(role)
        style: dict[str, Any] = {"color": look.color, "ls": look.line, "lw": look.width, "marker": look.marker, "ms": 6}
        handles.append(Line2D([], [], mfc=GROUND if look.hollow else look.color, label=name, **style))
    below = ax.transAxes + ScaledTranslation(0, -18 / 72, ax.figure.dpi_scale_trans)  # clear of the ticks' numbers
    key = ax.legend(handles=handles, loc="upper center", ncols=2, fontsize=TYPE, frameon=False)
    key.set_bbox_to_anchor((0.5, 0), below)


def png(fig: Figure, alt: str, dpi: int = DPI) -> bytes:
    """The figure as a PNG of at most 256 colours, with `alt` as its description; the same bytes every time."""
    if not alt.strip():
        raise ValueError("alt: a figure needs a sentence that says what it shows; got an empty one")
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("Description", alt)
    drawn, file = io.BytesIO(), io.BytesIO()
    fig.savefig(drawn, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.1)  # "tight": no legend is ever cut off
    few_colors = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few_colors.save(file, "PNG", optimize=True, pnginfo=notes)
    return file.getvalue()


def show(fig: Figure, alt: str, dpi: int = DPI) -> None:
    """Display the figure once in a notebook, with `alt` as its caption and for readers who do not see it.

    A script prints `alt`. The picture is sharp on fine screens: more pixels than the width at which it is shown.
    """
    picture = png(fig, alt, dpi)
    width = round(Image.open(io.BytesIO(picture)).width * 100 / dpi)
    display(
        {"image/png": picture, "text/plain": alt}, caption=alt, metadata={"image/png": {"alt": alt, "width": width}}
    )
