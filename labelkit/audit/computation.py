"""The audit: every picture's boxes at the network's input, held against the priors and under the rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from labelkit.assigners import ASSIGNERS, ATSS, RFLA, RKA
from labelkit.assigners.explanation import Explanation
from labelkit.assigners.ground_truths import FLAGS
from labelkit.audit.front import Front
from labelkit.audit.result import REACHED, Audit, Objects, mean, median, number
from labelkit.boxes import area
from labelkit.network_input import Size
from labelkit.search.best import best_prior
from labelkit.similarity import nwd, nwd_constant

Target = Mapping[str, Any]
CHANGES = (  # of the input, of the anchors' sides, of the strides
    (1, 1, 1),
    (1, 2, 1),
    (1, 4, 1),
    (1, 4, 2),
    (2, 1, 1),
    (2, 4, 2),
    (4, 1, 1),
)
LOOKED_AT = 16  # pictures for which the changes are worked out


@torch.no_grad()
def audit(
    dataset: Any,
    detector: nn.Module | Front,
    rules: Mapping[str, Any] | None = None,
    *,
    what_if: bool = True,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Audit:
    """Why are objects not found? Their shares for three causes, and what would change them.

    1. The output: a picture holds more objects than the detector may return.
    2. The anchors: the highest IoU that any prior has with the object.
    3. The rule: objects that get no positive, and who took what they had chosen.

    dataset: a data set of labelkit's, anything with such `targets`, or the targets themselves: boxes are
        `tv_tensors.BoundingBoxes`, which know the size of their picture; "iscrowd" and "ignore" mark no objects.
    detector: torchvision's or labelkit's; its own resize and padding decide what the network sees. Nothing runs but the
        assignment.
    rules: assigners by name, those that need no predictions; by default the detector's own.
    what_if: work out for at most 16 pictures what larger inputs, smaller anchors and finer strides would change, under
        the first rule, ATSS and RKA (by NWD).
    progress: wraps the pictures, as tqdm does. An interrupt (Ctrl-C) ends the audit at the pictures seen so far, and
        what it says then says so.
    """
    front = detector if isinstance(detector, Front) else Front(detector)
    targets: Sequence[Target] = getattr(dataset, "targets", dataset)
    named = dict(rules) if rules else {_name(rule): rule for rule in [front.own_rule()]}
    for name, rule in named.items():
        _check_rule(name, rule)
    parts, counts, priors = [], [], []
    try:
        for index, target in enumerate(progress(targets)):
            part, seen = look(front, target, index, named)
            parts.append(part)
            counts.append(len(part))
            priors.append(seen)
    except KeyboardInterrupt:
        what_if = False
    found = Objects.joined(parts, list(named))
    report = getattr(dataset, "report", None)
    return Audit(
        objects=found,
        images=len(parts),
        of_images=len(targets),
        per_image=torch.tensor(counts, dtype=torch.int64),
        detections=front.detections,
        anchors=int(torch.tensor(priors).median()) if priors else 0,
        has_anchors=front.has_anchors,
        detector=type(front.model).__name__,
        rules={name: _in_words(rule) for name, rule in named.items()},
        smallest_anchor=front.smallest_anchor if front.can_change and front.has_anchors else math.nan,
        finest_stride=front.finest_stride,
        what_if=list(_changes(front, targets, named)) if what_if and front.can_change and len(found) else [],
        faults=report.counts() if report is not None else {},
    )


def look(front: Front, target: Target, index: int, rules: Mapping[str, Any]) -> tuple[Objects, int]:
    """One picture's objects, and how many priors it has."""
    plain = torch.as_tensor(target["boxes"]).as_subclass(Tensor).float().reshape(-1, 4)
    seen, priors = front.see(_picture_size(target, index))
    boxes = seen.at_input(plain)
    ignored = torch.zeros(len(boxes), dtype=torch.bool)
    for flag in FLAGS:
        if flag in target:
            ignored |= torch.as_tensor(target[flag]).bool()
    own = (~ignored).nonzero().squeeze(1)
    side = area(boxes).sqrt()
    best = torch.full((len(own),), math.nan), torch.full((len(own),), -1)
    if front.has_anchors and len(own):
        value, prior = best_prior(priors, boxes[own])
        best = value.float(), priors.levels[prior]
    positives, taken, larger = {}, {}, {}
    for name, rule in rules.items():
        told = rule.explain(priors, {"boxes": boxes, "iscrowd": ignored})
        positives[name] = told.assignment.positives_per_gt(len(boxes))[own]
        thief = _thieves(told, len(boxes))[own].where(positives[name] == 0, -1)
        taken[name] = thief
        larger[name] = (side[thief.clamp(min=0)] / side[own]).where(thief >= 0, math.nan) if len(own) else side[own]
    image = torch.full((len(own),), index)
    image_id = torch.full((len(own),), int(target.get("image_id", index)))
    return Objects(image, image_id, own, boxes[own], *best, positives, taken, larger), len(priors)


def _picture_size(target: Target, index: int) -> Size:
    size = getattr(target["boxes"], "canvas_size", None)
    if size is None:
        raise ValueError(f"targets[{index}]['boxes'] must be tv_tensors.BoundingBoxes, which know their picture's size")
    return int(size[0]), int(size[1])


def _thieves(told: Explanation, objects: int) -> Tensor:
    """Who won the best of the priors that each object had chosen and lost, [G]; -1 for who lost none."""
    thief = torch.full((objects,), -1)
    order = told.losers.value.argsort(stable=True)  # the best last, which stays
    taken = told.taken_by[order]
    real = taken >= 0
    thief[told.losers.gt[order][real]] = taken[real]
    return thief


def _changes(front: Front, targets: Sequence[Target], named: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """One dict a change: in words, the anchors of a picture, what they reach, whom three rules starve."""
    step = max(1, len(targets) // LOOKED_AT)
    some = [target for target in targets[::step] if len(target["boxes"])][:LOOKED_AT]
    first, rule = next(iter(named.items()))
    rules = {first: rule, "atss": ATSS(), "rka": RKA(similarity=partial(nwd, constant=_constant(front, some)))}
    for enlarge, smaller, finer in CHANGES if front.has_anchors else [c for c in CHANGES if c[1] == c[2]]:
        changed = front.changed(enlarge=enlarge, smaller=smaller, finer=finer)
        seen = [look(changed, target, index, rules) for index, target in enumerate(some)]
        found = Objects.joined([part for part, _ in seen], list(rules))
        reached = mean(found.best_iou >= REACHED) if front.has_anchors else math.nan
        yield {
            "change": _change_in_words(changed),
            "anchors": int(torch.tensor([priors for _, priors in seen]).median()),
            "reachable_50": number(reached),
            "median_best_iou": number(median(found.best_iou)),
            "starved": {name: number(mean(found.positives[name] == 0)) for name in rules},
            "images": len(some),
        }


def _constant(front: Front, targets: Sequence[Target]) -> float:
    """NWD's, for these pictures at the input."""
    boxes = [front.see(_picture_size(t, 0))[0].at_input(t["boxes"].as_subclass(Tensor).float()) for t in targets]
    return nwd_constant(torch.cat(boxes))


def _change_in_words(front: Front) -> str:
    said = []
    if front.enlarge > 1:
        said.append(f"input x {front.enlarge}")
    if front.smaller > 1:
        said.append(f"anchors from {front.smallest_anchor:.0f} px")
    if front.finer > 1:
        said.append(f"stride {front.finest_stride:.0f}")
    return ", ".join(said) or "as it is"


def _check_rule(name: str, rule: Callable) -> None:
    if getattr(rule, "needs_predictions", False):
        raise ValueError(
            f"rules[{name!r}]: {type(rule).__name__} asks a network for its predictions, which an audit does not have"
        )
    if not hasattr(rule, "explain"):
        raise TypeError(f"rules[{name!r}] must be an assigner of labelkit's kind, with explain, got {rule!r}")
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
