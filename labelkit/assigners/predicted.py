"""What the network says of a pair: its score for the ground truth's class, what that costs, how well its box fits.

Boxes are checked at the door. Scores, one number for each prior and class, are checked where they are read: most rules
read few of them.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assignment import Predictions
from labelkit.boxes import TOO_LONG, as_float
from labelkit.devices import read
from labelkit.search.candidates import Pairs, Similarity
from labelkit.similarity import iou


def check_predictions(predictions: Predictions | None, gts: GroundTruths, single: bool) -> Predictions:
    """Predictions as [B, P, ...], detached, boxes finite in float32 or wider; or an error that says what is wrong.

    A box that reaches farther than 1e18 px, as a network's that runs away does, ends there.
    """
    if not isinstance(predictions, Predictions):
        raise ValueError("predictions must be given: Predictions(boxes=decoded boxes, scores=class probabilities)")
    if gts.labels is None:
        raise ValueError("target['labels'] must be given: this method asks for the score of each ground truth's class")
    lead = (gts.num_priors,) if single else (gts.images, gts.num_priors)
    for name, last in (("boxes", 4), ("scores", None)):
        value = getattr(predictions, name)
        if not isinstance(value, Tensor):
            raise ValueError(f"predictions.{name} must be a tensor, got {type(value).__name__}")
        if value.device != gts.boxes.device:
            raise ValueError(f"predictions.{name} is on {value.device}, the priors are on {gts.boxes.device}")
        if value.shape[:-1] != lead or last not in (None, value.shape[-1]):
            wanted = ", ".join(map(str, (*lead, last or "classes")))
            raise ValueError(f"predictions.{name} must have shape [{wanted}], got {list(value.shape)}")
    boxes, scores = as_float(predictions.boxes.detach()), predictions.scores.detach()
    if single:
        boxes, scores = boxes[None], scores[None]
    least, most = read(*_ends(boxes))
    if not -TOO_LONG <= least <= most <= TOO_LONG:  # a NaN fails
        _check_finite("boxes", boxes)
        boxes = boxes.clamp(-TOO_LONG, TOO_LONG)
    _check_classes(gts, gts.labels, scores.shape[-1])
    return Predictions(boxes, scores)


def _check_classes(gts: GroundTruths, labels: Tensor, classes: int) -> None:
    """Every label has a column."""
    if len(gts) and int(labels.max()) >= classes:
        index = int(labels.argmax())
        image, own = int(gts.image[index]), int(gts.index_in_image[index])
        raise ValueError(
            f"target[{image}]['labels'][{own}] must be below the {classes} classes of predictions.scores, "
            f"got {int(labels[index])}"
        )


def check_scores(scores: Float[Tensor, "B P C"]) -> None:
    """Every score is a probability, or an error names the first that is none."""
    _check_finite("scores", scores)
    low, high = _ends(scores)
    if not bool((low >= 0) & (high <= 1)):
        raise ValueError(
            f"predictions.scores must be probabilities in [0, 1], got values from {float(low)} to {float(high)}: "
            "apply a sigmoid to logits first"
        )


def check_read(scores: Float[Tensor, "..."], predictions: Predictions) -> None:
    """The same for those that were read, in one short pass."""
    low, high = read(*_ends(scores))
    if not 0 <= low <= high <= 1:  # a NaN fails
        check_scores(predictions.scores)


def _check_finite(name: str, value: Tensor) -> None:
    for index in (~torch.isfinite(value)).nonzero()[:1].tolist():
        raise ValueError(f"predictions.{name}{index} must be finite, got {float(value[tuple(index)])}")


def _ends(value: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.aminmax(value) if value.numel() else value.new_zeros(2)
    return low, high


def class_scores(pairs: Pairs, gts: GroundTruths, predictions: Predictions) -> Float[Tensor, "n"]:
    """The probability that each pair's prior gives to the class of its ground truth."""
    labels = cast(Tensor, gts.labels)  # the door has seen to it
    columns = predictions.scores.shape[-1]
    place = gts.slot(pairs) * columns + labels.index_select(0, pairs.gt)
    scores = predictions.scores.flatten().index_select(0, place)
    check_read(scores, predictions)
    return as_float(scores)


def focal_of_background(slot: Int[Tensor, "n"], predictions: Predictions) -> Float[Tensor, "n"]:
    """The focal loss of each slot's class probabilities, summed over the classes, if the prior is background."""
    scores = predictions.scores.flatten(0, -2).index_select(0, slot)
    check_read(scores, predictions)
    return _focal_of_absent(as_float(scores)).sum(dim=-1)


def focal_of_class(pairs: Pairs, gts: GroundTruths, predictions: Predictions) -> Float[Tensor, "n"]:
    """What that loss changes by if the prior is of its ground truth's class instead.

    The loss is a sum over classes, so one column tells: no table of pairs x classes is built.
    """
    score = class_scores(pairs, gts, predictions)
    return _focal_of_present(score) - _focal_of_absent(score)


# Focal loss with alpha = 0.25 and gamma = 2 from probabilities (Lin 2017, section 3.2). A probability of 0 or 1 comes
# from a saturated logit or a short number: it counts as the nearest number between, so that every loss is finite.


def _focal_of_present(score: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    return -0.25 * (1 - score).square() * score.clamp(min=torch.finfo(score.dtype).tiny).log()


def _focal_of_absent(score: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    return -0.75 * score.square() * torch.log1p(-score.clamp(max=1 - torch.finfo(score.dtype).eps))


def overlaps(
    pairs: Pairs, gts: GroundTruths, predictions: Predictions, overlap: Similarity = iou
) -> Float[Tensor, "n"]:
    """The similarity of each pair's decoded box and its ground truth."""
    decoded = predictions.boxes.reshape(-1, 4).index_select(0, gts.slot(pairs))
    return overlap(decoded, gts.boxes.index_select(0, pairs.gt))
