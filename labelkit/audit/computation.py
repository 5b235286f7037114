"""The audit: every picture's boxes at the network's input, held against the priors and under the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from labelkit.assigners import ASSIGNERS, RFLA
from labelkit.assigners.base import Assigner
from labelkit.audit.building import build_detector
from labelkit.audit.changes import changes
from labelkit.audit.counting import Counter, Part
from labelkit.audit.front import Front
from labelkit.audit.result import Audit, Objects
from labelkit.audit.work import portions, work
from labelkit.counts import at_least_one
from labelkit.datasets.box_table import BoxTable

Progress = Callable[[Sequence[int]], Iterable]


def audit(
    dataset: Any,
    detector: nn.Module | Front | str = "retinanet",
    rules: Mapping[str, Any] | None = None,
    *,
    what_if: bool = True,
    workers: int = 1,
    progress: Progress = iter,
) -> Audit:
    """Why are objects not found? Their shares for three causes, and what would change them.

    1. The output: an input holds more objects than the detector may return.
    2. The anchors: the highest IoU that any prior has with the object.
    3. The rule: objects that get no positive, and who took what they had chosen.

    dataset: a folder or file in a layout that `labelkit train` reads, a data set of labelkit's, anything with such
        `targets`, or the targets themselves: boxes are `tv_tensors.BoundingBoxes`, which know the size of their
        picture; "iscrowd" and "ignore" mark no objects. No picture is opened. Boxes that can't be used are left out
        and reported in `.table_of_boxes.report`.
    detector: torchvision's or labelkit's, or its name on the command line; its own resize and padding decide what the
        network sees. Nothing runs but the assignment. A `Front` has own anchors, tiles, another input.
    rules: assigners by name, those that need no predictions; by default the detector's own.
    what_if: work out for at most 16 pictures what larger inputs, smaller anchors, finer strides and tiles would change,
        under the first rule, ATSS and RKA (by NWD).
    workers: processes that count. The answer is the same for any number.
    progress: wraps the pictures, as tqdm does. An interrupt (Ctrl-C) ends the audit at the pictures seen so far, and
        what it says then says so.
    """
    at_least_one(workers=workers)
    if rules is not None and not isinstance(rules, Mapping):
        raise TypeError(f"rules must be a dict of assigners by name, got {rules!r}")
    model = build_detector(detector) if isinstance(detector, str) else detector
    front = model if isinstance(model, Front) else Front(model)
    named: dict[str, Any] = dict(rules) if rules else {_name(rule): rule for rule in [front.own_rule()]}
    for name, rule in named.items():
        _check_rule(name, rule)
    table = BoxTable.of(dataset)
    counter = Counter(table, front, named)
    done: list[tuple[np.ndarray, Part]] = []
    jobs = [(0, images) for images in portions(np.arange(len(table)))]
    try:
        passing = iter(progress(range(len(table))))
        for (_, images), part in work([counter], jobs, workers):
            for _ in images:
                next(passing, None)
            done.append((images, part))
        next(passing, None)  # the bar is full and closes
        changed = changes(counter, workers) if what_if and front.can_change else []
    except KeyboardInterrupt:
        changed = []
    whole = Part.joined([counter.count(np.arange(0)), *(part for _, part in done)])
    images = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *(images for images, _ in done)]))
    return Audit(
        objects=Objects.of(table, whole.objects, list(named)),
        table_of_boxes=table,
        front=front,
        seen=torch.from_numpy(images),
        per_image=_per_image(whole, "objects", len(table))[images],
        per_input=torch.from_numpy(whole.inputs["objects"]),
        reported=_per_image(whole, "objects", len(table), front.detections)[images],
        priors=_per_image(whole, "priors", len(table))[images],
        rules={name: _in_words(rule) for name, rule in named.items()},
        what_if=changed,
        dataset=dataset,
    )


def _per_image(part: Part, what: str, images: int, most: int | None = None) -> torch.Tensor:
    """A column of the inputs added up over those of each picture; each counts `most` at most."""
    values = part.inputs[what] if most is None else np.minimum(part.inputs[what], most)
    return torch.from_numpy(np.bincount(part.inputs["image"], values, minlength=images).astype(np.int64))


def _check_rule(name: str, rule: Any) -> None:
    if getattr(rule, "needs_predictions", False):
        raise ValueError(
            f"rules[{name!r}]: {type(rule).__name__} asks a network for its predictions, which an audit does not have"
        )
    if not isinstance(rule, Assigner):
        raise TypeError(f"rules[{name!r}] must be an assigner of labelkit's kind, with assign, got {rule!r}")
    if isinstance(rule, RFLA):
        raise ValueError(f"rules[{name!r}]: RFLA labels receptive fields, and these priors are the detector's anchors")


def _name(rule: Callable) -> str:
    return next((name for name, kind in ASSIGNERS.items() if type(rule) is kind), type(rule).__name__)


def _in_words(rule: Any) -> str:
    """`TopK(k=3)`: what differs from the defaults."""
    said = []
    for one in fields(rule) if is_dataclass(rule) else ():
        value = getattr(rule, one.name)
        if value != one.default:
            said.append(f"{one.name}={getattr(value, '__name__', value)}")
    return f"{type(rule).__name__}({', '.join(said)})"
