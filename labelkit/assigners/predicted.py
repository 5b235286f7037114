"""What the network says of a pair: its score for the ground truth's class, what that costs, how well its box fits."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assignment import Predictions
from labelkit.search.candidates import Pairs, Similarity
from labelkit.similarity import iou


def class_scores(pairs: Pairs, gts: GroundTruths, predictions: Predictions) -> Float[Tensor, "n"]:
    """The probability that each pair's prior gives to the class of its ground truth."""
    labels = cast(Tensor, gts.labels)  # the door has seen to it
    columns = predictions.scores.shape[-1]
    return predictions.scores.flatten()[gts.slot(pairs) * columns + labels.index_select(0, pairs.gt)]


def focal_of_background(slot: Int[Tensor, "n"], predictions: Predictions) -> Float[Tensor, "n"]:
    """The focal loss of each slot's class probabilities, summed over the classes, if the prior is background."""
    scores = predictions.scores
    return _focal_of_absent(scores.reshape(-1, scores.shape[-1]).index_select(0, slot)).sum(dim=-1)


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
