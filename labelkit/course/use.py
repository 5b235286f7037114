"""`use` puts a learner's passed answer into the demonstrations that follow; `assigner` hands it out.

A demonstration asks `course.assigner("atss", k=9)`. It gets the library's ATSS, or the learner's function dressed as
an assigner, where `course.use("09.3", my_atss)` has put one. Only a passed answer is taken, so a notebook without
answers runs on the library's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from labelkit.course import registry
from labelkit.course.checking import evaluate
from labelkit.course.message import Message, show

_taken: dict[str, tuple[str, Callable]] = {}  # registry name -> exercise id, the learner's function


def use(exercise_id: str, answer: Callable) -> None:
    """Let the demonstrations after this cell run on `answer`, if it passes its check."""
    exercise = registry.find(exercise_id)
    if not exercise.provides:
        raise ValueError(f"{exercise_id} provides no assigner")
    outcome = evaluate(exercise, answer)
    if outcome.state == "passed":
        _taken[exercise.provides] = exercise_id, answer
        show(Message("passed", f"From here on, {exercise.provides} is your own code."))
    else:
        _taken.pop(exercise.provides, None)
        show(Message("blank", f"{exercise_id} is {outcome.state}: {exercise.provides} stays labelkit's."))


def assigner(name: str, **arguments: Any) -> Callable:
    """The learner's assigner of this name if `use` took one, else labelkit's; `arguments` go to either."""
    from labelkit.assigners import ASSIGNERS

    if name not in _taken:
        return ASSIGNERS[name](**arguments)
    exercise_id, answer = _taken[name]
    adapt = registry.find(exercise_id).adapt or OneImage
    return adapt(answer, **arguments)


@dataclass(frozen=True)
class OneImage:
    """An assigner made of a function `answer(priors, gt_boxes, **arguments)` that returns, for each prior of one
    image, the index of its ground truth, NEGATIVE or IGNORED (int64 [P])."""

    answer: Callable
    arguments: tuple

    def __init__(self, answer: Callable, **arguments: Any):
        object.__setattr__(self, "answer", answer)
        object.__setattr__(self, "arguments", tuple(arguments.items()))

    def __call__(self, priors, target, predictions=None):
        from labelkit.assignment import Assignment

        targets = [target] if isinstance(target, dict) else target
        labels = [self.answer(priors, one["boxes"], **dict(self.arguments)).to(priors.boxes.device) for one in targets]
        similarity = [_overlap(priors.boxes, one["boxes"], gt) for one, gt in zip(targets, labels, strict=True)]
        if isinstance(target, dict):
            return Assignment.hard(labels[0], similarity[0])
        import torch

        return Assignment.hard(torch.stack(labels), torch.stack(similarity))


def _overlap(boxes: Tensor, gt_boxes: Tensor, gt: Tensor) -> Tensor:
    """IoU of each positive with its ground truth, 0 elsewhere."""
    from labelkit.similarity import iou

    overlap = boxes.new_zeros(len(boxes))
    positive = (gt >= 0).nonzero()[:, 0]
    overlap[positive] = iou(boxes[positive], gt_boxes[gt[positive]].to(boxes))
    return overlap
