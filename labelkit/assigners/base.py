"""What all assigners share: the ground truths of a batch as one list, the checks at the door, the way out.

An assigner is a frozen dataclass with one method, `assign`, that reads as the four questions: who may match, how
well, who is chosen, who wins. A batch is not a special case: its ground truths are concatenated, a pair belongs to
its ground truth's image, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.assignment import IGNORED, NEGATIVE, Assignment, Predictions
from labelkit.boxes import as_float, check_boxes
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs

Target = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class GroundTruths:
    """The ground truths of a batch, concatenated. A global index counts over the batch, a slot is image * P + prior."""

    boxes: Float[Tensor, "G 4"]
    labels: Int[Tensor, "G"] | None
    counts: tuple[int, ...]
    num_priors: int

    def __len__(self) -> int:
        return self.boxes.shape[0]

    @property
    def images(self) -> int:
        return len(self.counts)

    @property
    def slots(self) -> int:
        return self.images * self.num_priors

    @cached_property
    def image(self) -> Int[Tensor, "G"]:
        """Which image of the batch each ground truth belongs to."""
        return torch.repeat_interleave(torch.tensor(self.counts, dtype=torch.int64)).to(self.boxes.device)

    @cached_property
    def index_in_image(self) -> Int[Tensor, "G"]:
        """The index of each ground truth in its own image."""
        own = [torch.arange(count) for count in self.counts]
        return torch.cat([torch.zeros(0, dtype=torch.int64), *own]).to(self.boxes.device)

    def slot(self, pairs: Pairs) -> Int[Tensor, "n"]:
        """Where the prior of each pair stands over the whole batch: a prior serves every image separately."""
        return pairs.prior if self.images == 1 else self.image.index_select(0, pairs.gt) * self.num_priors + pairs.prior

    def mark(self, pairs: Pairs) -> Bool[Tensor, "slots"]:
        """Which slots the priors of these pairs stand in."""
        marked = torch.zeros(self.slots, dtype=torch.bool, device=self.boxes.device)
        return marked.index_fill_(0, self.slot(pairs), True)

    def assignment(
        self,
        positive: Pairs,
        ignored: Int[Tensor, "m"] | None = None,
        score_target: Float[Tensor, "n"] | float = 1.0,
        weight: Float[Tensor, "n"] | None = None,
    ) -> Assignment:
        """The flat answer [B * P]: `positive` pairs (one a slot), `ignored` slots, all other slots negative.

        A slot that is positive and ignored is positive. score_target and weight belong to the positive pairs.
        """
        slot, real = self.slot(positive), positive.value
        gt = torch.full((self.slots,), NEGATIVE, dtype=torch.int64, device=self.boxes.device)
        if ignored is not None:
            gt.index_fill_(0, ignored, IGNORED)
        gt.index_copy_(0, slot, positive.gt if self.images == 1 else self.index_in_image.index_select(0, positive.gt))
        similarity, score = real.new_zeros(self.slots), real.new_zeros(self.slots)
        similarity.index_copy_(0, slot, real)
        if isinstance(score_target, Tensor):
            score.index_copy_(0, slot, score_target)
        else:
            score.index_fill_(0, slot, score_target)
        if isinstance(weight, Tensor):
            loss_weight = real.new_ones(self.slots).index_copy_(0, slot, weight)
        else:
            loss_weight = real.new_ones(()).expand(self.slots)
        return Assignment(gt, similarity, score, loss_weight)


class Assigner:
    """Call it with priors and one target, or a list of targets: `{"boxes": [G, 4] xyxy, "labels": [G]}` each.

    Returns an `Assignment`, for a list with a leading batch dimension. Runs without gradient, changes no input,
    stays on the device of the priors. `predictions` are asked for by methods that look at the network's output.
    """

    needs_predictions = False

    @torch.no_grad()
    def __call__(
        self, priors: Priors, target: Target | Sequence[Target], predictions: Predictions | None = None
    ) -> Assignment:
        single = isinstance(target, dict)
        gts = collect([target] if single else target, priors)
        if self.needs_predictions:
            predictions = _check_predictions(predictions, gts, single)
            answer = self.assign(priors, gts, predictions)
        else:
            answer = self.assign(priors, gts)
        if single:
            return answer
        return Assignment(*(getattr(answer, field.name).view(gts.images, len(priors)) for field in fields(Assignment)))

    def assign(self, priors: Priors, gts: GroundTruths) -> Assignment:
        """The flat answer for all images, [B * P]; methods that need predictions take them as a third argument."""
        raise NotImplementedError


def collect(targets: Sequence[Target], priors: Priors) -> GroundTruths:
    """Check every target and concatenate them. The errors name the target, the index and the value."""
    if not isinstance(priors, Priors):
        raise ValueError(f"priors must be a labelkit.Priors, got {type(priors).__name__}: see Priors.from_boxes")
    boxes = [_check_target(target, f"target[{i}]", priors) for i, target in enumerate(targets)]
    labels = [target.get("labels") for target in targets]
    flat = boxes[0] if len(boxes) == 1 else torch.cat([priors.boxes.new_zeros(0, 4), *boxes])
    if flat.dtype != priors.boxes.dtype:
        flat = flat.to(torch.promote_types(flat.dtype, priors.boxes.dtype))
    known = all(label is not None for label in labels)
    none = torch.zeros(0, dtype=torch.int64, device=priors.device)
    return GroundTruths(flat, torch.cat([none, *labels]) if known else None, tuple(map(len, boxes)), len(priors))


def _check_target(target: Target, name: str, priors: Priors) -> Tensor:
    if not isinstance(target, dict) or "boxes" not in target:
        raise ValueError(f"{name} must be a dict with 'boxes' [G, 4] and 'labels' [G], got {target!r:.80}")
    boxes, labels = target["boxes"], target.get("labels")
    for key, value in (("boxes", boxes), ("labels", labels)):
        if isinstance(value, Tensor) and value.device != priors.device:
            raise ValueError(f"{name}['{key}'] is on {value.device}, the priors are on {priors.device}")
    if isinstance(boxes, Tensor) and boxes.numel() == 0:
        boxes = boxes.reshape(-1, 4)
    boxes = check_boxes(boxes.as_subclass(Tensor) if isinstance(boxes, Tensor) else boxes, f"{name}['boxes']")
    if labels is not None:
        _check_labels(labels, f"{name}['labels']", len(boxes))
    return boxes


def _check_labels(labels: Tensor, name: str, count: int) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise ValueError(f"{name} must be a tensor of whole numbers, got {kind}")
    if labels.shape != (count,):
        raise ValueError(f"{name} must have shape [{count}], one class for each box, got {list(labels.shape)}")
    if count and int(labels.min()) < 0:
        index = int((labels < 0).nonzero()[0])
        raise ValueError(f"{name}[{index}] must be a class counted from 0, got {int(labels[index])}")


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
        if not bool(torch.isfinite(value).all()):
            index = (~torch.isfinite(value)).nonzero()[0].tolist()
            raise ValueError(f"predictions.{name}{index} must be finite, got {float(value[tuple(index)])}")
    if len(gts) and int(gts.labels.max()) >= scores.shape[-1]:
        index = int(gts.labels.argmax())
        raise ValueError(
            f"labels[{index}] must be below the {scores.shape[-1]} classes of predictions.scores, "
            f"got {int(gts.labels[index])}"
        )
    if scores.numel() and not bool((scores.min() >= 0) & (scores.max() <= 1)):
        raise ValueError(
            f"predictions.scores must be probabilities in [0, 1], got values from {float(scores.min())} "
            f"to {float(scores.max())}: apply a sigmoid to logits first"
        )
    return Predictions(boxes, scores)
