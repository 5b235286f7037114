"""How good are these detections? COCO's average precision and recall and oLRP, by object size, under named presets.

The matching and the averages are COCO's own, computed by faster-coco-eval; nothing is printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.boxes import area as box_area
from labelkit.evaluation.inputs import Fields, read
from labelkit.evaluation.matching import by_cell, match_all, overlaps
from labelkit.evaluation.olrp import OLRP, UNDEFINED, olrp
from labelkit.extras import explained

EVERYTHING = ("all", (0.0, 1e10))
TAU = 0.5  # oLRP's IoU threshold


@dataclass(frozen=True)
class Preset:
    """The rules of one benchmark. Areas in square pixels of the evaluated image, **both ends included**, as COCO does.

    `headline` is the range that AP, AP50, AP75, AR and oLRP speak of; `max_dets` are the numbers of detections per
    image and class at which recall is reported, `ap_max_dets` the one for everything else.
    """

    areas: Mapping[str, tuple[float, float]]
    max_dets: tuple[int, ...]
    ap_max_dets: int
    headline: tuple[str, tuple[float, float]] = EVERYTHING

    def __post_init__(self) -> None:
        if not self.max_dets or min(*self.max_dets, self.ap_max_dets) < 1:
            raise ValueError(f"max_dets and ap_max_dets must be 1 or more, got {self.max_dets} and {self.ap_max_dets}")

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """The headline's, then those of the sizes, of which one may have its name."""
        return [self.headline[1], *self.areas.values()]


PRESETS = {
    "coco": Preset(
        {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}, (1, 10, 100), ap_max_dets=100
    ),
    # AI-TOD's paper speaks of 2-8, 8-16, 16-32 and 32-64 px; its code has neither the lower 2 nor the upper 64.
    "aitod": Preset(
        {"verytiny": (0, 8**2), "tiny": (8**2, 16**2), "small": (16**2, 32**2), "medium": (32**2, 1e10)},
        (1, 100, 1500),
        ap_max_dets=1500,
    ),
    # SODA-D's AP is over small objects only, at 100 detections.
    "soda_d": Preset(
        {"eS": (0, 12**2), "rS": (12**2, 20**2), "gS": (20**2, 32**2), "normal": (32**2, 40 * 50)},
        (100, 300, 1000),
        ap_max_dets=100,
        headline=("small", (0, 32**2)),
    ),
    # The course's data: side lengths (the square root of the area) of 0-8, 8-16 and from 16 px on.
    "course": Preset({"0-8": (0, 8**2), "8-16": (8**2, 16**2), "16+": (16**2, 1e10)}, (300,), ap_max_dets=300),
}


def size_index(boxes: Float[Tensor, "N 4"], preset: str | Preset = "course") -> Int[Tensor, "N"]:
    """Which of the preset's size ranges each box falls into, in the order of `areas`; -1 for none.

    For counting, so each box has one range: a box on the border of two is in the upper one.
    """
    areas = box_area(boxes)
    index = torch.full_like(areas, -1, dtype=torch.int64)
    for number, (low, high) in enumerate(preset_of(preset).areas.values()):
        index[(areas >= low) & (areas < high)] = number
    return index


def evaluate(
    predictions: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Tensor]],
    preset: str | Preset = "course",
    *,
    classes: Sequence[str] | None = None,
    per_class: bool = False,
    olrp: bool = True,
) -> dict[str, Any]:
    """Compare detections with ground truths, image by image, in the order given.

    `predictions` are what torchvision's detectors return: boxes [D, 4] xyxy, scores [D], labels [D]; `targets` have
    boxes, labels and, where they know better, area, and iscrowd or ignore (1: neither object nor background). All on
    any device and of any dtype: what is compared is computed on the CPU, in float64. None for an entry that may be
    missing is as good as missing; NaN and infinity are a ValueError that names the entry and the index.

    Returned, each in 0..1, the mean over the classes that have ground truths: AP (mean over IoU 0.50:0.95), AP50,
    AP75, AR (at the largest number of detections) and AR@k; `AP_<size>`, `AP50_<size>`, `AR_<size>` for the preset's
    sizes; oLRP with oLRP_Loc, oLRP_FP, oLRP_FN and `oLRP_<size>` (lower is better); `num_gts` and `num_gts_<size>`,
    crowds not counted. An object whose area is a border of two sizes counts in both. Where there are no ground
    truths the value is NaN, never None (COCO prints -1): ask `math.isnan` before comparing. With ground truths and no
    detections AP is 0 and oLRP 1, and what speaks of true positives (oLRP_Loc, oLRP_FP) is NaN.
    `per_class=True` adds `per_class`: the same numbers, and oLRP_score, for each name in `classes` (or each label).
    `olrp=False` leaves the oLRP numbers out, and the time they take.
    """
    rules = preset_of(preset)
    if len(predictions) != len(targets):
        raise ValueError(f"predictions and targets must have one length, got {len(predictions)} and {len(targets)}")
    gts = [read(target, f"targets[{index}]", scored=False) for index, target in enumerate(targets)]
    dets = [read(one, f"predictions[{index}]", scored=True) for index, one in enumerate(predictions)]
    labels = np.unique(np.concatenate([np.empty(0, np.int64), *(one["labels"] for one in gts + dets)])).tolist()
    if classes is not None and labels and labels[-1] >= len(classes):
        raise ValueError(f"labels must be below the number of classes, {len(classes)}, got {labels[-1]}")
    names = {label: str(label) if classes is None else classes[label] for label in labels}
    result = _run_coco(gts, dets, labels, rules)
    counts = _counts(gts, labels, rules.ranges)
    best = _olrps(result, gts, dets, labels, rules.ranges, rules.ap_max_dets) if olrp and labels else None
    table = [
        _class_row(result, index, counts[index], None if best is None else best[index], rules)
        for index in range(len(labels))
    ]
    means: dict[str, Any] = {}
    nothing = [UNDEFINED] * len(rules.ranges) if olrp else None
    for key in _class_row(None, 0, [0] * len(rules.ranges), nothing, rules):
        column = [row[key] for row in table]
        means[key] = sum(column) if key.startswith("num_gts") else _mean(np.array(column))
    means.pop("oLRP_score", None)  # a score belongs to one class
    if per_class:
        if len({*names.values()}) < len(names):
            raise ValueError(f"classes must have names of which no two are equal, got {[*names.values()]}")
        means["per_class"] = {names[label]: row for label, row in zip(labels, table, strict=True)}
    return means


def preset_of(preset: str | Preset) -> Preset:
    """A preset by its name, or itself."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, or a Preset, got {preset!r}")
    return PRESETS[preset]


def _run_coco(gts: list[Fields], dets: list[Fields], labels: list[int], rules: Preset) -> Any:
    """faster-coco-eval's evaluator, run; None when there is nothing to evaluate."""
    with explained():
        from faster_coco_eval import COCO, COCOeval_faster

    if not labels:
        return None
    base = {
        "images": [{"id": index} for index in range(len(gts))],
        "categories": [{"id": label, "name": str(label)} for label in labels],
    }
    found, truth = COCO(base | {"annotations": _annotations(dets)}), COCO(base | {"annotations": _annotations(gts)})
    evaluator = COCOeval_faster(truth, found, "bbox")
    evaluator.params.areaRngLbl = [rules.headline[0], *rules.areas]
    evaluator.params.areaRng = [list(limits) for limits in rules.ranges]
    evaluator.params.maxDets = sorted({*rules.max_dets, rules.ap_max_dets})
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def _annotations(images: list[Fields]) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for image_id, one in enumerate(images):
        areas = one.get("area", one["bbox"][:, 2] * one["bbox"][:, 3])
        extra = "scores" if "scores" in one else "iscrowd"
        fields = (one["bbox"].tolist(), one["labels"].tolist(), areas.tolist(), one[extra].tolist())
        for bbox, label, area, value in zip(*fields, strict=True):
            record = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label, "bbox": bbox}
            scored = {"score": value, "iscrowd": 0} if extra == "scores" else {"iscrowd": int(value)}
            annotations.append(record | {"area": area} | scored)
    return annotations


def _class_row(
    evaluator: Any, index: int, counts: list[int], best: list[OLRP] | None, rules: Preset
) -> dict[str, float]:
    """All numbers of one class, `counts` and `best` by size; `evaluator` None gives the same keys, undefined."""
    max_dets = sorted({*rules.max_dets, rules.ap_max_dets})

    def ap(size: int, threshold: float | None = None) -> float:
        if evaluator is None:
            return float("nan")
        precision = evaluator.eval["precision"][:, :, index, size, max_dets.index(rules.ap_max_dets)]
        return _mean(precision if threshold is None else precision[_at(evaluator.params.iouThrs, threshold)])

    def ar(size: int, most: int) -> float:
        if evaluator is None:
            return float("nan")
        return _mean(evaluator.eval["recall"][:, index, size, max_dets.index(most)])

    row = {"AP": ap(0), "AP50": ap(0, 0.5), "AP75": ap(0, 0.75), "AR": ar(0, max(rules.max_dets))}
    row |= {f"AR@{most}": ar(0, most) for most in rules.max_dets}
    if best is not None:
        row |= {"oLRP": best[0].value, "oLRP_Loc": best[0].loc, "oLRP_FP": best[0].fp, "oLRP_FN": best[0].fn}
        row |= {"oLRP_score": best[0].score}
    row |= {"num_gts": counts[0]}
    for size, name in enumerate(rules.areas, start=1):
        row |= {f"AP_{name}": ap(size), f"AP50_{name}": ap(size, 0.5), f"AR_{name}": ar(size, max(rules.max_dets))}
        row |= {} if best is None else {f"oLRP_{name}": best[size].value}
        row |= {f"num_gts_{name}": counts[size]}
    return row


def _at(thresholds: np.ndarray, value: float) -> int:
    """The index of an IoU threshold. np.linspace does not hit 0.9 exactly, so equality would miss it."""
    (hits,) = np.nonzero(np.isclose(thresholds, value, rtol=0, atol=1e-6))
    if len(hits) != 1:
        raise ValueError(f"IoU threshold {value} is not among {thresholds.tolist()}")
    return int(hits[0])


def _mean(values: np.ndarray) -> float:
    """Mean over what is defined: COCO marks undefined entries by -1, oLRP by NaN."""
    values = np.asarray(values, dtype=np.float64)
    defined = values[~np.isnan(values) & (values > -1)]
    return float(defined.mean()) if defined.size else float("nan")


def _in_range(areas: np.ndarray, limits: list[tuple[float, float]]) -> np.ndarray:
    """[ranges, boxes]."""
    return np.stack([(areas >= low) & (areas <= high) for low, high in limits])


def _counts(gts: list[Fields], labels: list[int], limits: list[tuple[float, float]]) -> list[list[int]]:
    """Ground truths by class and size, crowds left out."""
    if not labels:
        return []
    truth = by_cell(gts, labels)
    number = np.searchsorted(labels, truth["labels"])
    counted = ~truth["iscrowd"] & _in_range(truth["area"], limits)
    return np.stack([np.bincount(number[one], minlength=len(labels)) for one in counted], axis=1).tolist()


def _olrps(
    evaluator: Any,
    gts: list[Fields],
    dets: list[Fields],
    labels: list[int],
    limits: list[tuple[float, float]],
    most: int,
) -> list[list[OLRP]]:
    """oLRP by class and size, with COCO's rules on what is ignored, from the evaluator's IoUs."""
    found, truth = by_cell(dets, labels, most), by_cell(gts, labels)
    row, column, iou = overlaps(evaluator.ious, found, truth, labels, len(gts), TAU)
    ignored = truth["iscrowd"] | ~_in_range(truth["area"], limits)
    matched, on_ignored = match_all(row, column, iou, found["cell"], ignored, truth["iscrowd"])
    outside = (matched == 0) & ~_in_range(found["bbox"][:, 2] * found["bbox"][:, 3], limits)
    counted = ~on_ignored & ~outside
    counts = _counts(gts, labels, limits)
    ends = np.searchsorted(found["labels"], [*labels, labels[-1] + 1])
    best: list[list[OLRP]] = []
    for index, (low, high) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
        scores, of_class = found["scores"][low:high], counted[:, low:high]
        sizes = zip(of_class, matched[:, low:high], counts[index], strict=True)
        best.append([olrp(scores[one], ious[one], number, TAU) for one, ious, number in sizes])
    return best
