"""The stage: three fixed test pictures, on which the detector that a row of the board has trained is shown at work.

Left the labels that its rule gives, right what the detector taught by them finds and misses. Same network, same
pictures, other labels. Everything is read from the committed entries (data/board), nothing is trained.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from labelkit import plot
from labelkit.boxes import centers
from labelkit.counts import counted
from labelkit.similarity import iou
from labelkit.training import runs
from labelkit.training.measuring import assigned
from labelkit_course import entries, paths
from labelkit_course.rows import VARIANTS, Cell

# name of a picture -> data of the board, place among that data's pictures of the stage
PICTURES = {"sky": ("sky", 0), "star": ("sky", 1), "digits": ("digits", 0)}
# colour and dash of a frame, and the mark on it, which tells them apart where colours and dashes can't: small, in grey
LOOKS = ((plot.SKY, "-", ""), (plot.ORANGE, (0, (2, 1)), "X"), (plot.PURPLE, (0, (1, 1)), "v"))
MARK: dict[str, Any] = {"mfc": plot.GROUND, "mec": plot.INK, "mew": 1.1}
SHARP_ENOUGH = 120  # dpi: photographs of 200 px, which finer ones make larger only
LEAST_SCORE, LEAST_IOU = 0.25, 0.5  # of a detection that counts, and of a detection with what it finds


class Shown(NamedTuple):
    """What a picture of the stage shows.

    `found`, `missed` and `false_alarms` come from stored detections, so they are the same on every processor.
    `with_positive` is too for rules that do not ask the network; for those that do it comes from the stored weights.
    """

    objects: int
    with_positive: int
    found: int
    missed: int
    false_alarms: int


class Counts(dict[str, Shown]):
    """What was shown, by picture. As the last line of a cell it adds nothing below the drawing, which has said it."""

    def _ipython_display_(self) -> None:
        pass


class Scene(NamedTuple):
    """A picture under one row: the image, its objects, and for each whether it has a positive and is found."""

    image: Float[Tensor, "3 H W"]
    boxes: Float[Tensor, "G 4"]
    taught: Bool[Tensor, " G"]
    places: Float[Tensor, "N 2"]  # centres of the positives
    found: Bool[Tensor, " G"]
    alarms: Float[Tensor, "F 4"]

    @property
    def shown(self) -> Shown:
        found = int(self.found.sum())
        return Shown(len(self.boxes), int(self.taught.sum()), found, len(self.boxes) - found, len(self.alarms))


def stage(*rows: str, pictures: Sequence[str] = tuple(PICTURES), least_score: float = LEAST_SCORE) -> Counts:
    """Draw rows of the board on the pictures: labels on the left, found and missed on the right.

    rows: names in `labelkit_course.rows.VARIANTS`. pictures: some of "sky", "star", "digits".
    least_score: of a detection that counts, at least 0.1. FCOS's detector reports the root of what RetinaNet's reports,
    so that 0.5 is to one what 0.25 is to the other.
    Returns the counts by picture, of the last row; `shown` has those of any row without a drawing.
    """
    panels = [(row, picture, scene(row, picture, None, least_score)) for picture in pictures for row in rows]
    fig, axes = plot.figure(2, len(panels), width=4.4, height=5.0)
    fig.set_layout_engine("constrained", h_pad=0.14)  # room for the keys
    for index, (row, _, panel) in enumerate(panels):
        draw_labels(axes[2 * index], panel, row)
        draw_found(axes[2 * index + 1], panel)
    plot.show(fig, alt=" ".join(_sentence(*panel) for panel in panels), dpi=SHARP_ENOUGH)
    return Counts((picture, panel.shown) for _, picture, panel in panels)


def shown(row: str, pictures: Sequence[str] = tuple(PICTURES), least_score: float = LEAST_SCORE) -> dict[str, Shown]:
    """The counts of one row, by picture."""
    return {picture: scene(row, picture, None, least_score).shown for picture in pictures}


class Entry(NamedTuple):
    """Where a row's entry is, and the place of a picture among those of its data."""

    folder: Path
    name: str
    data: str
    place: int


def entry_of(row: str, picture: str, results: Path | None = None) -> Entry:
    """The entry of seed 0 in `results` (data/board by default) that shows a row on a picture."""
    if row not in VARIANTS:
        raise ValueError(f"row must be one of {'; '.join(VARIANTS)}, got {row!r}")
    if picture not in PICTURES:
        raise ValueError(f"picture must be one of {', '.join(PICTURES)}, got {picture!r}")
    data, place = PICTURES[picture]
    folder, name = results or paths.ROOT / "data" / "board", Cell(data, "full", row, 0).name
    if not (folder / f"{name}.json").is_file():
        raise ValueError(
            f"{row!r} is not on the stage yet: labelkit course board --data {data} --only {row!r} trains it"
        )
    return Entry(folder, name, data, place)


@cache
def scene(row: str, picture: str, results: Path | None = None, least_score: float = LEAST_SCORE) -> Scene:
    """One picture under one row: see `entry_of`."""
    folder, name, data, place = entry_of(row, picture, results)
    image, target = entries.stage_pictures(data)[place]
    detections = runs.read_json(folder / f"{name}.json")["detections"][place]
    found, alarms = judged(target["boxes"], detections, least_score)
    taught, places = _labels(entries.trained_detector(folder, name), image, target)
    return Scene(image, target["boxes"], taught, places, found, alarms)


def judged(
    gt_boxes: Float[Tensor, "G 4"], detections: dict[str, Any], least_score: float = LEAST_SCORE
) -> tuple[Bool[Tensor, " G"], Float[Tensor, "F 4"]]:
    """Which objects the detections find, and the detections that find none.

    As in AP: in order of the scores, each detection finds the object that it overlaps most of those not found yet.
    """
    boxes, scores = torch.tensor(detections["boxes"]).reshape(-1, 4), torch.tensor(detections["scores"])
    found, alarms = torch.zeros(len(gt_boxes), dtype=torch.bool), []
    for box in boxes[scores >= least_score]:
        overlap = iou(box, gt_boxes).masked_fill(found, 0)
        if len(overlap) and overlap.max() >= LEAST_IOU:
            found[overlap.argmax()] = True
        else:
            alarms.append(box)
    return found, torch.stack(alarms) if alarms else torch.empty(0, 4)


def _labels(detector: Any, image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Which objects have a positive prior under the detector's rule, and where the positives are."""
    answer = assigned(detector, [image], [target])
    taught = answer.positives_per_gt([len(target["boxes"])])[0] > 0
    return taught, detector.anchor_generator.priors.centers[answer.positive[0]]


def draw_labels(ax: Axes, panel: Scene, row: str) -> None:
    """Who has a positive, and where the positives are."""
    plot.scene(ax, panel.image, title=f"{row}\n{int(panel.taught.sum())} of {len(panel.boxes)} have a positive")
    x, y = panel.places.T
    ax.scatter(x, y, s=5, color=plot.SKY, ec=plot.INK, lw=0.3, zorder=6)
    dot = Line2D([], [], ls="", marker="o", ms=5, mfc=plot.SKY, mec=plot.INK, mew=0.5, label="positive prior")
    _frames(ax, {"has a positive": panel.boxes[panel.taught], "has none": panel.boxes[~panel.taught]}, dot)


def draw_found(ax: Axes, panel: Scene, title: str = "what it teaches") -> None:
    """Who is found and missed, and the false alarms."""
    plot.scene(ax, panel.image, title=f"{title}\n{int(panel.found.sum())} of {len(panel.boxes)} found")
    _frames(ax, {"found": panel.boxes[panel.found], "missed": panel.boxes[~panel.found], "false alarm": panel.alarms})


def _frames(ax: Axes, kinds: dict[str, Tensor], *others: Line2D) -> None:
    """Boxes by kind, and the key below the panel, of these and of `others`."""
    handles = []
    for (name, boxes), (color, dash, mark) in zip(kinds.items(), LOOKS, strict=False):
        large = 10 if len(boxes) < 30 else 6.5
        ax.plot(*centers(boxes).T, marker=mark, ls="", ms=large, zorder=7, **MARK)
        for x1, y1, x2, y2 in boxes.tolist():
            frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=color, ls=dash, lw=1.4, zorder=5)
            frame.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground=plot.INK)])
            ax.add_patch(frame)
        style: dict[str, Any] = {"color": color, "ls": dash, "lw": 2, "marker": mark, "ms": 9} | MARK
        handles.append(Line2D([], [], label=f"{name} ({len(boxes)})", **style))
    look: dict[str, Any] = {"fontsize": 11, "frameon": False, "handlelength": 1.5, "columnspacing": 0.9, "ncols": 2}
    ax.legend(handles=[*handles, *others], loc="upper center", bbox_to_anchor=(0.5, 0.0), **look)
    ax.title.set_fontsize(13)
    ax.set(xticks=[], yticks=[])


def _sentence(row: str, picture: str, panel: Scene) -> str:
    counts = panel.shown
    place = {"sky": "a tile of the sky", "star": "a tile with a bright star", "digits": "the digits"}[picture]
    alarms = counted(counts.false_alarms, "false alarm")
    return (
        f"“{row}” on {place}: {counts.with_positive} of {counts.objects} objects have a positive, and the detector "
        f"taught so finds {counts.found}, with {alarms}."
    )
