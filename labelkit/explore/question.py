"""A question of the explorer and its answer, plain values as JSON holds them, worked out by the library itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from labelkit.assigners import RFLA, Assigner
from labelkit.assigners.explanation import Explanation
from labelkit.assignment import Assignment, Predictions
from labelkit.detectors.fields import view_of
from labelkit.explore.checks import MOST_PAIRS, Question, Shift
from labelkit.explore.network import Network
from labelkit.explore.presets import DETECTOR, Own, levels_of, priors_of
from labelkit.priors import Priors
from labelkit.search.pairs import Pairs
from labelkit.training.rules import OF_COURSE_DATA, SIMILARITIES, build_assigner, build_similarity
from labelkit.training.spoken import parse_rule

# Constants in pixels that a rule may leave out here: the course's, and SimD's as published.
CONSTANTS: dict[str, dict[str, Any]] = {
    "nwd": {"constant": 12.8},
    "dotd": {"constant": 12.8},
    "simd": {"m": 6.13, "n": 4.59},
}
# Arguments without a default; the Hungarian rule's is the size of the picture.
NEEDED: dict[str, dict[str, Any]] = {"rka": {"similarity": "nwd"}, "hambox": OF_COURSE_DATA["hambox"]}
SLOTS = 2_000_000  # priors, or their scores, times pictures that a sweep labels at once


def answer(asked: Any, network: Network | None = None) -> dict[str, Any]:
    """What the rules make of the objects.

    asked: {"id", "size": [height, width], "priors": a name in `PRESETS` or {"strides", "scale", "ratios"}, "objects":
        [[x1, y1, x2, y2], ...], "rules": ["max_iou", "topk k=3", ...], "chosen": an object's index, "panel_rule": one
        of the rules, "heat": a similarity, "shift": {"object", "axis", "offsets"}}; the last four may be null.
    network: a detector that has seen the picture. Its priors are those of the name "detector", and with them stand the
        rules that ask for predictions; the class of every object is what `Network.classes_of` says.

    Returns {"id", "priors": {"count", "levels"}, "rules": {rule: {"positive": [[prior, gt], ...], "ignored": [...],
    "per_object": [...]}}, "panels": what `explain` says of the chosen object under the panel rule, "heat": the
    similarity of every prior with it, "shift": {rule: positives at each offset}}.
    Raises a ValueError with a sentence for a question that can't be answered.
    """
    question = Question.of(asked, None if network is None else network.size)
    if question.priors != DETECTOR:
        priors, levels = priors_of(question.priors, question.size), levels_of(question.priors, question.size)
    else:
        priors, levels = cast(Network, network).priors, cast(Network, network).levels
    boxes = torch.tensor(question.objects, dtype=torch.float32).reshape(-1, 4)
    target = _target(boxes, question, network)
    labels, panels = {}, None
    for text in question.rules:
        rule, seen = rule_of(text, question.size), _seen(text, question, network)
        if text == question.panel_rule and question.chosen is not None:
            explanation = cast(Explanation, rule.explain(seen.priors, target, seen.predictions()))
            panels = _panels(explanation, question.chosen)
            labels[text] = _labels(explanation.assignment, len(boxes))
        else:
            labels[text] = _labels(rule(seen.priors, target, seen.predictions()), len(boxes))
    return {
        "id": question.id,
        "priors": {"count": len(priors), "levels": levels},
        "rules": labels,
        "panels": panels,
        "heat": _heat(question, priors, boxes),
        "shift": None if question.shift is None else _sweep(question, question.shift, boxes, network),
    }


@lru_cache(maxsize=64)
def rule_of(text: str, size: tuple[int, int] | None = None) -> Assigner:
    """ "rka k=3 similarity=nwd" as an assigner; what it leaves out is `CONSTANTS`, `NEEDED`, and the picture's size."""
    name, arguments, _ = parse_rule(text, "a rule's argument")
    needed = {"image_size": size} if name == "hungarian" else NEEDED.get(name, {})
    arguments = needed | arguments
    if ":" in text:  # a link may bring this text, and it must not choose what is imported
        raise ValueError(f"the explorer takes registered rules and similarities by their names, got {text!r}")
    for key in arguments.keys() & {"similarity", "overlap"}:
        arguments[key] = _with_constants(arguments[key])
    rule = build_assigner(name, arguments)
    if not isinstance(rule, Assigner):
        raise ValueError(f"{text!r} must be a labelkit.assigners.Assigner: the explorer asks it to explain")
    return rule


def similarity_of(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A similarity by its name, with `CONSTANTS`."""
    if name not in SIMILARITIES:
        raise ValueError(f"heat must be one of {', '.join(SIMILARITIES)} or null, got {name!r}")
    return build_similarity(_with_constants(name))


def _with_constants(choice: str | dict[str, Any]) -> dict[str, Any]:
    given = choice if isinstance(choice, dict) else {"name": choice}
    return CONSTANTS.get(str(given.get("name")), {}) | given


class _Seen(NamedTuple):
    """What a rule is shown beside the objects. network: None for a rule that does not ask one."""

    priors: Priors
    network: Network | None

    def predictions(self, pictures: int | None = None) -> Predictions | None:
        return None if self.network is None else self.network.told(pictures)


def _seen(text: str, question: Question, network: Network | None) -> _Seen:
    rule, own = rule_of(text, question.size), question.priors == DETECTOR
    if not rule.needs_predictions:
        priors = cast(Network, network).seen_by(rule) if own else _view(text, question.priors, question.size)
        return _Seen(priors, None)
    if network is None:
        raise ValueError(
            f"{text} asks for a network's predictions, which the explorer does not have: open it with a detector"
        )
    if not own:
        raise ValueError(
            f'{text} asks for the network\'s predictions, which are of its own priors: choose the priors "{DETECTOR}"'
        )
    return _Seen(network.seen_by(rule), network)


@lru_cache(maxsize=16)
def _view(text: str, preset: str | Own, size: tuple[int, int]) -> Priors:
    """The priors as a rule sees them: RFLA sees the receptive fields of the preset's network in their place."""
    priors, rule = priors_of(preset, size), rule_of(text, size)
    if not isinstance(rule, RFLA):
        return priors
    if isinstance(preset, Own):
        raise ValueError("rfla assigns receptive fields, and own strides belong to no network: take a preset")
    small = preset.startswith("course")
    return cast(Callable[[Priors], Priors], view_of(rule, "small" if small else "resnet50_fpn"))(priors)


def _target(boxes: Tensor, question: Question, network: Network | None) -> dict[str, Tensor]:
    """The objects; only a network knows classes, and without one all are of the first."""
    if network is not None and question.priors == DETECTOR:
        return {"boxes": boxes, "labels": network.classes_of(boxes)}
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


def _sweep(question: Question, shift: Shift, boxes: Tensor, network: Network | None) -> dict[str, list[int]]:
    """How many positives the object has at every offset; all offsets are one batch, or a few."""
    targets = []
    for offset in shift.offsets:
        moved = boxes.clone()
        moved[shift.object, shift.axis :: 2] += offset
        targets.append(_target(moved, question, network))
    counts: dict[str, list[int]] = {}
    for text in question.rules:
        rule, seen = rule_of(text, question.size), _seen(text, question, network)
        each = len(seen.priors) if seen.network is None else seen.network.predictions.scores.numel()
        at_once = max(1, min(SLOTS, MOST_PAIRS // max(1, len(boxes))) // max(1, each))
        counts[text] = []
        for part in (targets[i : i + at_once] for i in range(0, len(targets), at_once)):
            found = rule(seen.priors, part, seen.predictions(len(part)))
            counts[text] += (found.gt == shift.object).sum(dim=1).tolist()
    return counts
