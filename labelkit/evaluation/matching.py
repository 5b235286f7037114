"""COCO's greedy matching at one IoU threshold, of all images, classes and size ranges at once.

Detections and ground truths stand in one row each, sorted by **cell**: a class in an image, of which the most have none
of either. What is empty costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from labelkit.evaluation.inputs import Fields


def least_iou(tau: float) -> float:
    """COCO's: a threshold of 1 is met by a rounding less."""
    return min(tau, 1 - 1e-10)


def by_cell(images: list[Fields], labels: list[int], most: int | None = None) -> Fields:
    """The fields of all images, one below the other, with `cell` (index of the label times images plus image), sorted
    by it; with `most` the best so many of a cell, best first, among equals the earlier one."""
    flat = {key: np.concatenate([one[key] for one in images]) for key in images[0]}
    image = np.repeat(np.arange(len(images)), [len(one["labels"]) for one in images])
    flat["cell"] = np.searchsorted(labels, flat["labels"]) * len(images) + image
    order = np.argsort(flat["cell"], kind="stable")
    if most is not None:
        order = np.lexsort((-flat["scores"], flat["cell"]))
        cell = flat["cell"][order]
        order = order[np.arange(len(cell)) - np.searchsorted(cell, cell) < most]
    return {key: values[order] for key, values in flat.items()}


def overlaps(
    ious: Mapping[Any, Any], found: Fields, truth: Fields, labels: list[int], images: int, tau: float
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """(detection, ground truth, IoU) of all pairs from `tau` on. `ious`: the evaluator's tables by (image, label),
    whose rows are the best detections first."""
    cells = np.intersect1d(found["cell"], truth["cell"])
    first_row, first_column = (np.searchsorted(side["cell"], cells) for side in (found, truth))
    rows = np.searchsorted(found["cell"], cells, side="right") - first_row
    columns = np.searchsorted(truth["cell"], cells, side="right") - first_column
    places = zip(cells.tolist(), rows.tolist(), strict=True)
    tables = [np.asarray(ious[cell % images, labels[cell // images]])[:count] for cell, count in places]
    flat = np.concatenate([np.empty(0), *(table.ravel() for table in tables)])
    at = np.flatnonzero(flat >= least_iou(tau))
    end = np.cumsum(rows * columns)
    which = np.searchsorted(end, at, side="right")
    inside = at - (end - rows * columns)[which]
    return first_row[which] + inside // columns[which], first_column[which] + inside % columns[which], flat[at]


def match_all(
    row: Int[np.ndarray, "n"],
    column: Int[np.ndarray, "n"],
    iou: Float[np.ndarray, "n"],
    cell: Int[np.ndarray, "D"],
    ignored: Bool[np.ndarray, "R G"],
    crowd: Bool[np.ndarray, "G"],
) -> tuple[Float[np.ndarray, "R D"], Bool[np.ndarray, "R D"]]:
    """The matching of D detections, sorted by cell and in it by score, in R ranges that ignore other ground truths.

    Pairs are (detection, ground truth, IoU). Each detection takes the free ground truth of highest IoU; one that counts
    goes before an ignored one, a crowd is never used up, and among equals the later index wins, as in COCO's evaluator.
    Returns the IoU of each detection's match (0 without one) and whether that match is an ignored ground truth.

    In a round one detection of every cell takes its turn, those without a pair left out.
    """
    matched, on_ignored = np.zeros((len(ignored), len(cell))), np.zeros((len(ignored), len(cell)), dtype=bool)
    taken = np.zeros_like(ignored)
    if len(row) == 0:
        return matched, on_ignored
    order = np.lexsort((column, iou, row))
    who, pairs = np.unique(row, return_counts=True)
    turn = np.arange(len(who)) - np.searchsorted(cell[who], cell[who])
    order = order[np.argsort(np.repeat(turn, pairs), kind="stable")]
    row, column, iou = row[order], column[order], iou[order]
    end = 0
    for whose in np.split(np.argsort(turn, kind="stable"), np.bincount(turn).cumsum()[:-1]):
        begin, end = end, end + pairs[whose].sum()
        part = slice(begin, end)
        last = column[part]
        # The last free one that counts, else the last free one: IoUs of a detection rise.
        number = np.arange(1, 1 + len(last)) + len(last) * ~ignored[:, last]
        best = np.maximum.reduceat(np.where(taken[:, last], 0, number), pairs[whose].cumsum() - pairs[whose], axis=1)
        hit, place = best > 0, (best - 1) % len(last)
        won = last[place]
        matched[:, who[whose]] = np.where(hit, iou[part][place], 0)
        in_range = np.arange(len(ignored))[:, None]
        on_ignored[:, who[whose]] = hit & ignored[in_range, won]
        in_range, spent = np.nonzero(hit & ~crowd[won])
        taken[in_range, won[in_range, spent]] = True
    return matched, on_ignored
