"""`use` puts a learner's passed answer into the demonstrations that follow; `assigner` hands it out.

A demonstration asks `course.assigner("atss", k=9)`. It gets labelkit's ATSS, or the learner's function dressed as an
assigner where `course.use("09.3", my_atss)` took one. Only a passed answer is taken, so a notebook without answers
runs on labelkit's. The text of a taken answer is kept in work/.labelkit/answers, for the chapters after; it is checked
again before it is used there. While tests run the chapters nothing is kept and nothing kept is used.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelkit.assigners import ASSIGNERS
from labelkit.assignment import Assignment, Predictions
from labelkit.priors import Priors
from labelkit.similarity import iou
from labelkit_course import chapter, progress, registry
from labelkit_course.exercise import Exercise
from labelkit_course.judging import evaluate
from labelkit_course.message import Message, show

_taken: dict[str, Callable] = {}  # exercise id -> the learner's function


def use(exercise_id: str, answer: Callable) -> None:
    """Let later demonstrations run on `answer`, if it passes its check; otherwise they run on labelkit's."""
    exercise = registry.find(exercise_id)
    if not exercise.provides:
        raise ValueError(f"Exercise {exercise_id} is not an assigner, so no demonstration can use it.")
    outcome = evaluate(exercise, answer)
    if outcome.state != "passed":
        forget(exercise_id)
        show(Message("blank", f"{exercise_id} is {outcome.state}: {exercise.provides} stays labelkit's."))
        return
    _taken[exercise_id] = answer
    _keep(exercise_id, answer)
    show(Message("passed", f"From here on, {exercise.provides} is your own code."))


def assigner(name: str, **arguments: Any) -> Callable:
    """The learner's assigner of this registry name if `use` took one, else labelkit's; `arguments` go to either."""
    for exercise in registry.every():
        if exercise.provides == name:
            answer = _taken.get(exercise.id) or _kept(exercise)
            if answer is not None:
                return (exercise.adapt or OneImage)(answer, arguments)
    return ASSIGNERS[name](**arguments)


def forget(exercise_id: str | None = None) -> None:
    """Take an answer, or all of them, out of the demonstrations."""
    for taken in [exercise_id] if exercise_id else list(_taken):
        _taken.pop(taken, None)
    for file in _folder().glob(f"{exercise_id or '*'}.py"):
        file.unlink()


def _folder() -> Path:
    """Where answers are kept, those of the first edition under today's numbers."""
    progress.carry_over()
    return progress.answers()


def _keep(exercise_id: str, answer: Callable) -> None:
    """Save the text of an answer. One whose text can't be had, or a folder that can't be written, is for now only."""
    if os.environ.get("LABELKIT_EXPECT"):
        return
    try:
        text = inspect.getsource(answer)
        _folder().mkdir(parents=True, exist_ok=True)
        (_folder() / f"{exercise_id}.py").write_text(text, encoding="utf-8")
    except (OSError, TypeError):
        return


def _kept(exercise: Exercise) -> Callable | None:
    """The answer kept from an earlier chapter, if its text still runs among that chapter's imports and passes."""
    file = _folder() / f"{exercise.id}.py"
    if os.environ.get("LABELKIT_EXPECT") or not file.exists():
        return None
    try:
        answer = chapter.run(exercise.id, file.read_text(encoding="utf-8"))
    except Exception:  # a learner's text may fail in any way
        return None
    if evaluate(exercise, answer).state != "passed":
        return None
    _taken[exercise.id] = answer
    return answer


@dataclass(frozen=True)
class OneImage:
    """An assigner made of a function `answer(priors, gt_boxes, **arguments)` that returns, for each prior of one
    image, the index of its ground truth, NEGATIVE or IGNORED (int64 [P])."""

    answer: Callable
    arguments: dict = field(default_factory=dict)

    def __call__(
        self,
        priors: Priors,
        target: dict[str, Tensor] | Sequence[dict[str, Tensor]],
        predictions: Predictions | None = None,
    ) -> Assignment:
        if not isinstance(target, dict):
            images = [self(priors, one) for one in target]
            columns = ([getattr(image, one.name) for image in images] for one in fields(Assignment))
            return Assignment(*map(torch.stack, columns))
        gt = self.answer(priors, target["boxes"], **self.arguments).to(priors.boxes.device)
        score = (gt >= 0).to(priors.boxes.dtype)
        return Assignment(gt, _overlap(priors.boxes, target["boxes"], gt), score, torch.ones_like(score))


def _overlap(boxes: Tensor, gt_boxes: Tensor, gt: Tensor) -> Tensor:
    """IoU of each positive with its ground truth, 0 elsewhere."""
    overlap = boxes.new_zeros(len(boxes))
    positive = (gt >= 0).nonzero()[:, 0]
    overlap[positive] = iou(boxes[positive], gt_boxes.to(boxes)[gt[positive]])
    return overlap
