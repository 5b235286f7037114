"""What the network says of a pair: its score for the ground truth's class, and how well its box fits."""

from __future__ import annotations

from typing import cast

from jaxtyping import Float
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


def overlaps(
    pairs: Pairs, gts: GroundTruths, predictions: Predictions, overlap: Similarity = iou
) -> Float[Tensor, "n"]:
    """The similarity of each pair's decoded box and its ground truth."""
    decoded = predictions.boxes.reshape(-1, 4).index_select(0, gts.slot(pairs))
    return overlap(decoded, gts.boxes.index_select(0, pairs.gt))
