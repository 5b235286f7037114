"""A question of the explorer and its answer, plain values as JSON holds them, worked out by the library itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from labelkit.assigners import RFLA, Assigner
from labelkit.assigners.explanation import Explanation
from labelkit.assignment import Assignment
from labelkit.detectors.fields import view_of
from labelkit.explore.checks import Question, Shift
from labelkit.explore.presets import Own, levels_of, priors_of
from labelkit.priors import Priors
from labelkit.search.pairs import Pairs
from labelkit.training.rules import SIMILARITIES, build_assigner, build_similarity
from labelkit.training.spoken import parse_rule

# Constants in pixels that a rule may leave out here: the course's, and SimD's as published.
CONSTANTS: dict[str, dict[str, Any]] = {
    "nwd": {"constant": 12.8},
    "dotd": {"constant": 12.8},
    "simd": {"m": 6.13, "n": 4.59},
}
NEEDED = {"rka": {"similarity": "nwd"}}  # arguments without a default
SLOTS = 2_000_000  # priors times pictures that a sweep labels at once


def answer(asked: Any) -> dict[str, Any]:
    """What the rules make of the objects.

    asked: {"id", "size": [height, width], "priors": a name in `PRESETS` or {"strides", "scale", "ratios"}, "objects":
        [[x1, y1, x2, y2], ...], "rules": ["max_iou", "topk k=3", ...], "chosen": an object's index, "panel_rule": one
        of the rules, "heat": a similarity, "shift": {"object", "axis", "offsets"}}; the last four may be null.

    Returns {"id", "priors": {"count", "levels"}, "rules": {rule: {"positive": [[prior, gt], ...], "ignored": [...],
    "per_object": [...]}}, "panels": what `explain` says of the chosen object under the panel rule, "heat": the
    similarity of every prior with it, "shift": {rule: positives at each offset}}.
    Raises a ValueError with a sentence for a question that can't be answered.
    """
    question = Question.of(asked)
    priors = priors_of(question.priors, question.size)
    boxes = torch.tensor(question.objects, dtype=torch.float32).reshape(-1, 4)
    labels, panels = {}, None
    for text in question.rules:
        rule, seen = rule_of(text), _view(text, question.priors, question.size)
        if text == question.panel_rule and question.chosen is not None:
            explanation = cast(Explanation, rule.explain(seen, _target(boxes)))
            panels = _panels(explanation, question.chosen)
            labels[text] = _labels(explanation.assignment, len(boxes))
        else:
            labels[text] = _labels(rule(seen, _target(boxes)), len(boxes))
    return {
        "id": question.id,
        "priors": {"count": len(priors), "levels": levels_of(question.priors, question.size)},
        "rules": labels,
        "panels": panels,
        "heat": _heat(question, priors, boxes),
        "shift": None if question.shift is None else _sweep(question, question.shift, boxes),
    }


@lru_cache(maxsize=64)
def rule_of(text: str) -> Assigner:
    """ "rka k=3 similarity=nwd" as an assigner; constants that it leaves out are `CONSTANTS`."""
    name, arguments, _ = parse_rule(text, "a rule's argument")
    arguments = NEEDED.get(name, {}) | arguments
    if ":" in text:  # a link may bring this text, and it must not choose what is imported
        raise ValueError(f"the explorer takes registered rules and similarities by their names, got {text!r}")
    for key in arguments.keys() & {"similarity", "overlap"}:
        arguments[key] = _with_constants(arguments[key])
    rule = build_assigner(name, arguments)
    if not isinstance(rule, Assigner):
        raise ValueError(f"{text!r} must be a labelkit.assigners.Assigner: the explorer asks it to explain")
    if rule.needs_predictions:
        raise ValueError(f"{name} asks for a network's predictions, which the explorer does not have")
    return rule


def similarity_of(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A similarity by its name, with `CONSTANTS`."""
    if name not in SIMILARITIES:
        raise ValueError(f"heat must be one of {', '.join(SIMILARITIES)} or null, got {name!r}")
    return build_similarity(_with_constants(name))


def _with_constants(choice: str | dict[str, Any]) -> dict[str, Any]:
    given = choice if isinstance(choice, dict) else {"name": choice}
    return CONSTANTS.get(str(given.get("name")), {}) | given


@lru_cache(maxsize=16)
def _view(text: str, preset: str | Own, size: tuple[int, int]) -> Priors:
    """The priors as a rule sees them: RFLA sees the receptive fields of the preset's network in their place."""
    priors, rule = priors_of(preset, size), rule_of(text)
    if not isinstance(rule, RFLA):
        return priors
    if isinstance(preset, Own):
        raise ValueError("rfla assigns receptive fields, and own strides belong to no network: take a preset")
    small = preset.startswith("course")
    return cast(Callable[[Priors], Priors], view_of(rule, "small" if small else "resnet50_fpn"))(priors)


def _target(boxes: Tensor) -> dict[str, Tensor]:
    return {"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64)}


def _labels(found: Assignment, objects: int) -> dict[str, Any]:
    prior = found.positive.nonzero().squeeze(1)
    return {
        "positive": torch.stack((prior, found.gt[prior]), dim=1).tolist(),
        "ignored": found.ignored.nonzero().squeeze(1).tolist(),
        "per_object": cast(Tensor, found.positives_per_gt(objects)).tolist(),
    }


def _panels(found: Explanation, gt: int) -> dict[str, Any]:
    """The four questions for one object: who may match, how well, who is chosen, who wins."""
    lost, bar = found.losers.gt == gt, float(found.bar[gt])
    return {
        "candidates": _couples(found.candidates, gt),
        "bar": bar if math.isfinite(bar) else None,
        "chosen": _couples(found.chosen, gt),
        "winners": found.winners.prior[found.winners.gt == gt].tolist(),
        "losers": [
            list(pair) for pair in zip(found.losers.prior[lost].tolist(), found.taken_by[lost].tolist(), strict=True)
        ],
        "story": found.story(gt),
    }


def _couples(pairs: Pairs, gt: int) -> list[list[float]]:
    own = pairs[pairs.gt == gt]
    return [[prior, value] for prior, value in zip(own.prior.tolist(), own.value.tolist(), strict=True)]


def _heat(question: Question, priors: Priors, boxes: Tensor) -> list[float] | None:
    if question.heat is None:
        return None
    similarity = similarity_of(question.heat)
    if question.chosen is None:
        return None
    return similarity(priors.boxes, boxes[question.chosen]).double().round(decimals=5).tolist()


def _sweep(question: Question, shift: Shift, boxes: Tensor) -> dict[str, list[int]]:
    """How many positives the object has at every offset; all offsets are one batch, or a few."""
    targets = []
    for offset in shift.offsets:
        moved = boxes.clone()
        moved[shift.object, shift.axis :: 2] += offset
        targets.append(_target(moved))
    counts: dict[str, list[int]] = {}
    for text in question.rules:
        seen, rule = _view(text, question.priors, question.size), rule_of(text)
        at_once = max(1, SLOTS // max(1, len(seen)))
        parts = [targets[i : i + at_once] for i in range(0, len(targets), at_once)]
        counts[text] = [n for part in parts for n in (rule(seen, part).gt == shift.object).sum(dim=1).tolist()]
    return counts
