"""What an audit found: the numbers that are made of its rows, and the ways to show them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from labelkit.audit import words
from labelkit.audit.faults import DataFaults
from labelkit.audit.front import Front
from labelkit.audit.numbers import COCO_COUNTS, REACHED, SIDES, mean, median, number
from labelkit.audit.objects import Objects
from labelkit.audit.tables import Table
from labelkit.datasets.box_table import BoxTable


@dataclass(frozen=True, eq=False)
class Audit:
    """The three causes for which an object is not found, in numbers. `str` of it is the report for a terminal.

    objects: see `Objects`. table_of_boxes: what was audited. front: the detector, its input, anchors and tiles. seen:
    the pictures that were looked at, fewer than there are where the audit was stopped. per_image, reported, priors: of
    each of them how many objects it holds, how many the detector may report, how many priors it has (over its tiles).
    per_input: objects of every tile, or picture where there are none.
    rules: in words. what_if: one dict a change, see `audit`. dataset: that has the pictures, where no folder does.
    """

    objects: Objects
    table_of_boxes: BoxTable
    front: Front
    seen: Int[Tensor, "images"]
    per_image: Int[Tensor, "images"]
    per_input: Int[Tensor, "inputs"]
    reported: Int[Tensor, "images"]
    priors: Int[Tensor, "images"]
    rules: dict[str, str]
    what_if: list[dict[str, Any]] = field(default_factory=list)
    dataset: Any = None

    @property
    def images(self) -> int:
        """How many pictures were looked at."""
        return len(self.seen)

    @property
    def of_images(self) -> int:
        """How many there are."""
        return len(self.table_of_boxes)

    @property
    def detector(self) -> str:
        return type(self.front.model).__name__

    def ceiling(self, limit: int) -> float:
        """The share of the objects that `limit` detections of an input (a picture, or each of its tiles) can report at
        most; NaN without objects."""
        total = int(self.per_input.sum())
        return int(self.per_input.clamp(max=limit).sum()) / total if total else math.nan

    @property
    def ceiling_coco(self) -> float:
        """The share that COCO's metric can count: 100 detections of a picture, and those that the detector returns."""
        total = int(self.per_image.sum())
        return int(self.reported.clamp(max=COCO_COUNTS).sum()) / total if total else math.nan

    def starved(self, rule: str) -> float:
        """The share of the objects that the rule gave no positive."""
        return mean(self.objects.positives[rule] == 0)

    @property
    def reachable(self) -> float:
        """The share of the objects that some anchor overlaps by 0.5 or more."""
        return mean(self.objects.best_iou >= REACHED) if self.front.has_anchors else math.nan

    @cached_property
    def data(self) -> DataFaults:
        """What is odd in the data itself: annotation faults, duplicates, boxes of hardly a pixel."""
        return DataFaults.of(self.table_of_boxes)

    def to_json(self) -> dict[str, Any]:
        """All numbers but the rows; shares in 0..1, sizes at the network's input, None for what is not defined."""
        return deepcopy(self.numbers)

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """`to_json`'s, worked out once for the terminal, the file and the page; not to be changed."""
        found = self.objects
        return {
            "detector": self.detector,
            "tiles": None if self.front.tiles is None else vars(self.front.tiles),
            "images": self.images,
            "of_images": self.of_images,
            "partial": self.images < self.of_images,
            "objects": len(found),
            "output": {
                "detections_per_image": self.front.detections,
                "most_objects": int(self.per_image.max()) if self.images else 0,
                "recall_ceiling": number(self.ceiling(self.front.detections)),
                "recall_ceiling_coco": number(self.ceiling_coco),
            },
            "anchors": {
                "count": int(self.priors.median()) if self.images else 0,
                "reachable_50": number(self.reachable),
                "median_best_iou": number(median(found.best_iou)),
            },
            "rules": {name: {"rule": text} | self._of_rule(name) for name, text in self.rules.items()},
            "sizes": list(self._sizes()),
            "what_if": self.what_if,
            "faults": self.table_of_boxes.report.counts(),
            "data": self.data.to_json(),
        }

    def _of_rule(self, rule: str) -> dict[str, Any]:
        positives, taken = self.objects.positives[rule], self.objects.taken_by[rule]
        return {
            "starved": number(mean(positives == 0)),
            "positives_per_object": number(mean(positives)),
            "starved_by_a_neighbour": number(mean((positives == 0) & (taken >= 0))),
            "neighbour_times_larger": number(median(self.objects.times_larger[rule])),
        }

    def _sizes(self) -> Iterator[dict[str, Any]]:
        """One entry a size that occurs."""
        side = self.objects.side
        for low, high in zip(SIDES[:-1], SIDES[1:], strict=True):
            here = (side >= low) & (side < high)
            if not here.any():
                continue
            best = self.objects.best_iou[here]
            positives = {name: self.objects.positives[name][here] for name in self.rules}
            yield {
                "from": low,
                "to": number(high),
                "objects": int(here.sum()),
                "best_iou": number(median(best)),
                "reachable_50": number(mean(best >= REACHED)) if self.front.has_anchors else None,
                "rules": {
                    name: {"starved": number(mean(values == 0)), "positives_per_object": number(mean(values))}
                    for name, values in positives.items()
                },
            }

    def table(self) -> Table:
        """By size at the input, a dict a row; printed as the report prints it."""
        return Table.by_size(self.numbers)

    def html(self, path: str | os.PathLike | None = None, command: str = "") -> str:
        """The report as one page that needs nothing else, written to `path` where one is given. command: what made
        it, for whoever reads it."""
        from labelkit.audit.page import page

        text = page(self, command)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def __str__(self) -> str:
        return words.report(self.numbers)

    def _repr_markdown_(self) -> str:
        return words.markdown(self.numbers)

    def _repr_html_(self) -> str:
        from labelkit.audit.page import fragment

        return fragment(self)


def shares(numbers: Mapping[str, Any]) -> dict[str, float | None]:
    """What `--fail-if` may ask for: the worst rule's starved share, the reachable share, the ceiling."""
    starved = [rule["starved"] for rule in numbers["rules"].values() if rule["starved"] is not None]
    return {
        "starved": max(starved, default=None),
        "reachable": numbers["anchors"]["reachable_50"],
        "ceiling": numbers["output"]["recall_ceiling"],
    }
