"""Detectron2: an assignment as its `Matcher` answers."""

import torch
from jaxtyping import Int, Int8
from torch import Tensor

from labelkit.assignment import Assignment
from labelkit.interop.left_out import say_left_out


def to_detectron2(assignment: Assignment) -> tuple[Int[Tensor, "*batch P"], Int8[Tensor, "*batch P"]]:
    """(matches, labels), what detectron2's `Matcher` returns for an image (v0.6, modeling/matcher.py).

    matches: int64, the index of the ground truth. labels: int8, 1 positive, 0 negative, -1 ignored. The matcher always
    names a ground truth; where there is none to name, matches are 0, as its own are for an image without objects.
    For a batch both have a leading dimension: a row is what one image's matcher would say. Soft targets and weights
    have no place there, which is said in a warning.
    """
    say_left_out(assignment, "detectron2's Matcher", ("score_target", "weight"))
    labels = torch.where(assignment.ignored, -1, assignment.positive.long()).to(torch.int8)
    return assignment.gt.clamp(min=0), labels
