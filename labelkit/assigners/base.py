"""What all assigners share: the checks at the door, and the way out as labels or as an explanation.

An assigner is a frozen dataclass with one method, `assign`, that reads as the four questions: who may match, how
well, who is chosen, who wins. A batch is not a special case: its ground truths are concatenated, a pair belongs to
its ground truth's image, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import ClassVar, cast

import torch

from labelkit.assigners.explanation import Explanation, Steps, explanations, labels_of
from labelkit.assigners.ground_truths import GroundTruths, Target, collect
from labelkit.assigners.predicted import check_predictions, check_scores
from labelkit.assigners.regions import REGION_THRESH, covered_slots
from labelkit.assignment import Assignment, Predictions
from labelkit.priors import Priors
from labelkit.uncompiled import uncompiled

SLOTS = 1 << 20  # places of a batch that are labelled together on the CPU: 8 MiB of int64


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

    @uncompiled
    @torch.no_grad()
    def __call__(
        self,
        priors: Priors,
        target: Target | Sequence[Target],
        predictions: Predictions | None = None,
        *,
        region_thresh: float = REGION_THRESH,
    ) -> Assignment:
        gts, run = self._run(priors, target, predictions)
        answer = _together(
            (labels_of(steps, part, covered_slots(priors, part, region_thresh)) for part, steps in run), gts
        )
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
        _, run = self._run(priors, target, predictions)
        totals = iter([len(one["boxes"]) for one in _as_list(target)])
        found: list[Explanation] = []
        for part, steps in run:
            answer = _by_image(labels_of(steps, part, covered_slots(priors, part, region_thresh)), part)
            answers = [answer[image] for image in range(part.images)]
            found += explanations(steps, part, answers, list(islice(totals, part.images)))
        return found[0] if isinstance(target, Mapping) else found

    def _run(
        self, priors: Priors, target: Target | Sequence[Target], predictions: Predictions | None
    ) -> tuple[GroundTruths, Iterator[tuple[GroundTruths, Steps]]]:
        """What came through the door, and each part of it with what the rule finds there."""
        gts = collect(_as_list(target), priors)
        if not self.needs_predictions:
            return gts, ((part, self.assign(priors, part)) for _, part in parts(gts))
        seen = check_predictions(predictions, gts, isinstance(target, Mapping))
        return gts, ((part, self._assign_seen(priors, part, seen, images)) for images, part in parts(gts))

    def _assign_seen(self, priors: Priors, part: GroundTruths, seen: Predictions, images: slice) -> Steps:
        try:
            return self.assign(priors, part, Predictions(seen.boxes[images], seen.scores[images]))
        except ValueError:
            check_scores(seen.scores)  # a score that was read there is named by its image in the whole batch
            raise


def parts(gts: GroundTruths) -> list[tuple[slice, GroundTruths]]:
    """A batch in runs of images that are labelled together. On the CPU vectors over all slots of a large batch would be
    so long that the system gives their memory anew each time, which costs more than what they are filled with."""
    some = max(1, SLOTS // max(1, gts.num_priors))
    if gts.images <= some or gts.boxes.device.type != "cpu":
        return [(slice(None), gts)]
    return [(slice(i, i + some), gts.of_images(i, i + some)) for i in range(0, gts.images, some)]


def _together(answers: Iterable[Assignment], gts: GroundTruths) -> Assignment:
    """The flat answers of the parts of a batch in one; each is copied as it comes, and its memory serves the next."""
    whole, end = None, 0
    for answer in answers:
        fields, size = vars(answer), len(answer.gt)
        if size == gts.slots:
            return answer
        whole = whole or Assignment(**{name: value.new_empty(gts.slots) for name, value in fields.items()})
        for name, value in fields.items():
            getattr(whole, name)[end : end + size] = value
        end += size
    return cast(Assignment, whole)


def _as_list(target: Target | Sequence[Target]) -> Sequence[Target]:
    return cast(Sequence[Target], [target] if isinstance(target, Mapping) else target)


def _by_image(answer: Assignment, gts: GroundTruths) -> Assignment:
    """The flat answer with a leading batch dimension."""
    shape = (gts.images, gts.num_priors)
    return Assignment(*(getattr(answer, field.name).view(shape) for field in fields(Assignment)))
