"""What all assigners share: the checks at the door, and the way out as labels or as an explanation.

An assigner is a frozen dataclass with one method, `assign`, that reads as the four questions: who may match, how
well, who is chosen, who wins. A batch is not a special case: its ground truths are concatenated, a pair belongs to
its ground truth's image, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import ClassVar, cast

import torch
from torch import Tensor

from labelkit.assigners.explanation import Explanation, Steps, explanations, labels_of
from labelkit.assigners.ground_truths import GroundTruths, Target, collect
from labelkit.assigners.regions import REGION_THRESH, covered_slots
from labelkit.assignment import Assignment, Predictions
from labelkit.boxes import as_float
from labelkit.priors import Priors


class Assigner:
    """Call it with priors and one target, or a list of targets: `{"boxes": [G, 4] xyxy, "labels": [G]}` each.

    Returns an `Assignment`, for a list with a leading batch dimension. Runs without gradient, changes no input,
    stays on the device of the priors. `predictions` are asked for by methods that look at the network's output.

    A target may flag boxes as "iscrowd" or "ignore" ([G], 0 or 1): regions where nothing may be learned. They are
    assigned to no prior, take none from an object, and priors that are not positive and have at least `region_thresh`
    of their own area in one are IGNORED, whatever the rule. `gt` counts over all boxes, flagged ones included.
    """

    needs_predictions: ClassVar[bool] = False

    # assign(priors, gts) for all images at once; methods that need predictions take them as a third argument.
    assign: Callable[..., Steps]

    @torch.no_grad()
    def __call__(
        self,
        priors: Priors,
        target: Target | Sequence[Target],
        predictions: Predictions | None = None,
        *,
        region_thresh: float = REGION_THRESH,
    ) -> Assignment:
        gts, steps = self._run(priors, target, predictions)
        answer = labels_of(steps, gts, covered_slots(priors, gts, region_thresh))
        return answer if isinstance(target, Mapping) else _by_image(answer, gts)

    @torch.no_grad()
    def explain(
        self,
        priors: Priors,
        target: Target | Sequence[Target],
        predictions: Predictions | None = None,
        *,
        region_thresh: float = REGION_THRESH,
    ) -> Explanation | list[Explanation]:
        """What led to the labels: candidates, bars, chosen pairs, winners and losers; a list for a batch.

        The same run as a call of the assigner, so its `assignment` is the call's answer.
        """
        gts, steps = self._run(priors, target, predictions)
        answer = _by_image(labels_of(steps, gts, covered_slots(priors, gts, region_thresh)), gts)
        totals = [len(one["boxes"]) for one in _as_list(target)]
        found = explanations(steps, gts, [answer[image] for image in range(gts.images)], totals)
        return found[0] if isinstance(target, Mapping) else found

    def _run(
        self, priors: Priors, target: Target | Sequence[Target], predictions: Predictions | None
    ) -> tuple[GroundTruths, Steps]:
        single = isinstance(target, Mapping)
        gts = collect(_as_list(target), priors)
        if not self.needs_predictions:
            return gts, self.assign(priors, gts)
        return gts, self.assign(priors, gts, _check_predictions(predictions, gts, single))


def _as_list(target: Target | Sequence[Target]) -> Sequence[Target]:
    return cast(Sequence[Target], [target] if isinstance(target, Mapping) else target)


def _by_image(answer: Assignment, gts: GroundTruths) -> Assignment:
    """The flat answer with a leading batch dimension."""
    shape = (gts.images, gts.num_priors)
    return Assignment(*(getattr(answer, field.name).view(shape) for field in fields(Assignment)))


def _check_predictions(predictions: Predictions | None, gts: GroundTruths, single: bool) -> Predictions:
    """Predictions as [B, P, ...] in float32 or wider, detached; or an error that says what is missing."""
    if not isinstance(predictions, Predictions):
        raise ValueError("predictions must be given: Predictions(boxes=decoded boxes, scores=class probabilities)")
    if gts.labels is None:
        raise ValueError("target['labels'] must be given: this method asks for the score of each ground truth's class")
    boxes, scores = as_float(predictions.boxes.detach()), as_float(predictions.scores.detach())
    if single:
        boxes, scores = boxes[None], scores[None]
    lead = (gts.images, gts.num_priors)
    for name, value, shape in (("boxes", boxes, (*lead, 4)), ("scores", scores, (*lead, scores.shape[-1]))):
        if value.device != gts.boxes.device:
            raise ValueError(f"predictions.{name} is on {value.device}, the priors are on {gts.boxes.device}")
        if value.shape != shape:
            raise ValueError(f"predictions.{name} must have shape {list(shape)}, got {list(value.shape)}")
        if not _all_finite(value):
            index = (~torch.isfinite(value)).nonzero()[0].tolist()
            raise ValueError(f"predictions.{name}{index} must be finite, got {float(value[tuple(index)])}")
    _check_classes(gts, gts.labels, scores)
    return Predictions(boxes, scores)


def _all_finite(value: Tensor) -> bool:
    """In one pass over what may be millions of numbers: a NaN fails both comparisons."""
    if value.numel() == 0:
        return True
    low, high = torch.aminmax(value)
    return bool((low > -torch.inf) & (high < torch.inf))


def _check_classes(gts: GroundTruths, labels: Tensor, scores: Tensor) -> None:
    """Every label has a column, every score is a probability."""
    classes = scores.shape[-1]
    if len(gts) and int(labels.max()) >= classes:
        index = int(labels.argmax())
        image, own = int(gts.image[index]), int(gts.index_in_image[index])
        raise ValueError(
            f"target[{image}]['labels'][{own}] must be below the {classes} classes of predictions.scores, "
            f"got {int(labels[index])}"
        )
    if scores.numel() and not bool((scores.min() >= 0) & (scores.max() <= 1)):
        raise ValueError(
            f"predictions.scores must be probabilities in [0, 1], got values from {float(scores.min())} "
            f"to {float(scores.max())}: apply a sigmoid to logits first"
        )
