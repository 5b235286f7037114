"""What an audit found: a row for every object, and the numbers that are made of the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.audit import words
from labelkit.boxes import area

SIDES = (0.0, 8.0, 16.0, 32.0, 96.0, math.inf)  # px at the input: where the sizes are cut
REACHED = 0.5  # the IoU that a good anchor has
COCO_COUNTS = 100  # detections of a picture


@dataclass(frozen=True, eq=False)
class Objects:
    """Columns, an object a row; crowds are none.

    image: index in the data set. image_id: what its target says. index: of the box in its target. boxes: xyxy in pixels
    of the network's input. best_iou, best_level: of the best prior, NaN and -1 for a detector without anchors.
    positives, taken_by: by rule, how many positives it got, and for one that got none the index (in its target) of the
    object that won the best of the priors it had chosen, -1 where it chose none. times_larger: by rule, the root of
    that object's area over its own, NaN where nobody took it.
    """

    image: Int[Tensor, "N"]
    image_id: Int[Tensor, "N"]
    index: Int[Tensor, "N"]
    boxes: Float[Tensor, "N 4"]
    best_iou: Float[Tensor, "N"]
    best_level: Int[Tensor, "N"]
    positives: dict[str, Int[Tensor, "N"]]
    taken_by: dict[str, Int[Tensor, "N"]]
    times_larger: dict[str, Float[Tensor, "N"]]

    def __len__(self) -> int:
        return len(self.image)

    @property
    def side(self) -> Float[Tensor, "N"]:
        """Roots of the areas, in pixels of the network's input."""
        return area(self.boxes).sqrt()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The table, a dict a row."""
        columns: dict[str, list] = {
            name: getattr(self, name).tolist() for name in ("image", "image_id", "index", "best_iou", "best_level")
        }
        columns |= {"side": self.side.tolist()}
        for rule in self.positives:
            columns |= {f"positives {rule}": self.positives[rule].tolist()}
            columns |= {f"taken by, {rule}": self.taken_by[rule].tolist()}
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))

    @classmethod
    def joined(cls, parts: list[Objects], rules: list[str]) -> Objects:
        """The rows of several pictures; none for no picture."""
        numbers, reals = torch.empty(0, dtype=torch.int64), torch.empty(0)

        def column(name: str, none: Tensor) -> Tensor:
            return torch.cat([none, *(getattr(part, name) for part in parts)])

        def of_rules(name: str, none: Tensor) -> dict[str, Tensor]:
            return {rule: torch.cat([none, *(getattr(part, name)[rule] for part in parts)]) for rule in rules}

        return cls(
            image=column("image", numbers),
            image_id=column("image_id", numbers),
            index=column("index", numbers),
            boxes=column("boxes", torch.empty(0, 4)),
            best_iou=column("best_iou", reals),
            best_level=column("best_level", numbers),
            positives=of_rules("positives", numbers),
            taken_by=of_rules("taken_by", numbers),
            times_larger=of_rules("times_larger", reals),
        )


@dataclass(frozen=True, eq=False)
class Audit:
    """The three causes for which an object is not found, in numbers. `str` of it is the report for a terminal.

    objects: see `Objects`. images: how many were looked at; of_images: how many the data set has, more where the audit
    was stopped. per_image [images]: their objects. detections: the most that the detector returns for a picture.
    anchors: the priors of a picture (the median over pictures). has_anchors: False for a detector of points.
    what_if: one dict a change, see `audit`. detector, rules: in words. smallest_anchor, finest_stride: in pixels of the
    input; NaN where the detector has none.
    """

    objects: Objects
    images: int
    of_images: int
    per_image: Int[Tensor, "images"]
    detections: int
    anchors: int
    has_anchors: bool
    detector: str
    rules: dict[str, str]
    smallest_anchor: float = math.nan
    finest_stride: float = math.nan
    what_if: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def ceiling(self, limit: int) -> float:
        """The share of the objects that `limit` detections a picture can report at most; NaN without objects."""
        total = int(self.per_image.sum())
        return int(self.per_image.clamp(max=limit).sum()) / total if total else math.nan

    def starved(self, rule: str) -> float:
        """The share of the objects that the rule gave no positive."""
        return mean(self.objects.positives[rule] == 0)

    @property
    def reachable(self) -> float:
        """The share of the objects that some anchor overlaps by 0.5 or more."""
        return mean(self.objects.best_iou >= REACHED) if self.has_anchors else math.nan

    def to_json(self) -> dict[str, Any]:
        """All numbers but the rows; shares in 0..1, sizes at the network's input, None for what is not defined."""
        found, everybody = self.objects, torch.ones(len(self.objects), dtype=torch.bool)
        return {
            "detector": self.detector,
            "images": self.images,
            "of_images": self.of_images,
            "partial": self.images < self.of_images,
            "objects": len(found),
            "output": {
                "detections_per_image": self.detections,
                "most_objects": int(self.per_image.max()) if self.images else 0,
                "recall_ceiling": number(self.ceiling(self.detections)),
                "recall_ceiling_coco": number(self.ceiling(min(self.detections, COCO_COUNTS))),
            },
            "anchors": {
                "count": self.anchors,
                "reachable_50": number(self.reachable),
                "median_best_iou": number(median(found.best_iou)),
            },
            "rules": {name: {"rule": text} | self._of_rule(name, everybody) for name, text in self.rules.items()},
            "sizes": list(self._sizes()),
            "what_if": self.what_if,
            "faults": self.faults,
        }

    def _of_rule(self, rule: str, among: Tensor) -> dict[str, Any]:
        positives, taken = self.objects.positives[rule][among], self.objects.taken_by[rule][among]
        starved = positives == 0
        return {
            "starved": number(mean(starved)),
            "positives_per_object": number(mean(positives)),
            "starved_by_a_neighbour": number(mean(starved & (taken >= 0))),
            "neighbour_times_larger": number(median(self.objects.times_larger[rule][among])),
        }

    def _sizes(self) -> Iterator[dict[str, Any]]:
        """One entry a size that occurs."""
        side = self.objects.side
        for low, high in zip(SIDES[:-1], SIDES[1:], strict=True):
            here = (side >= low) & (side < high)
            if not here.any():
                continue
            best = self.objects.best_iou[here]
            yield {
                "from": low,
                "to": number(high),
                "objects": int(here.sum()),
                "best_iou": number(median(best)),
                "reachable_50": number(mean(best >= REACHED)) if self.has_anchors else None,
                "rules": {
                    name: {key: numbers[key] for key in ("starved", "positives_per_object")}
                    for name in self.rules
                    if (numbers := self._of_rule(name, here))
                },
            }

    def __str__(self) -> str:
        return words.report(self.to_json())

    def _repr_markdown_(self) -> str:
        return words.markdown(self.to_json())


def mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else math.nan


def median(values: Tensor) -> float:
    known = values[~values.isnan()].double()
    return float(known.quantile(0.5)) if 0 < len(known) < 2**24 else float(known.median()) if len(known) else math.nan


def number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def shares(numbers: Mapping[str, Any]) -> dict[str, float | None]:
    """What `--fail-if` may ask for: the worst rule's starved share, the reachable share, the ceiling."""
    starved = [rule["starved"] for rule in numbers["rules"].values() if rule["starved"] is not None]
    return {
        "starved": max(starved, default=None),
        "reachable": numbers["anchors"]["reachable_50"],
        "ceiling": numbers["output"]["recall_ceiling"],
    }
