"""Hungarian: set prediction as DETR trains it: every ground truth has one prediction, and the total cost is least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

from jaxtyping import Float
from torch import Tensor

from labelkit.assigners.arguments import check_count
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import check_read, class_scores, overlaps
from labelkit.assignment import Predictions
from labelkit.boxes import centers, sizes
from labelkit.checks import is_finite
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, cheapest, inside
from labelkit.search.choosing import minimum_sum
from labelkit.similarity import giou

_CLASS_COSTS, _CANDIDATES = ("focal", "softmax", None), ("all", "inside", "center")
_RADIUS = 1.5  # strides, for "center": POTO's
_SMALLEST = 1e-8  # a probability is held so far from 0 and 1


@dataclass(frozen=True)
class Hungarian(Assigner):
    """The bipartite matching of DETR (Carion 2020, arXiv 2005.12872, section 3.1) between priors and ground truths.

    With (w_c, w_1, w_g) = `weights`, a pair costs w_c * class + w_1 * L1 - w_g * GIoU, GIoU and L1 of the decoded box;
    the positives are the one-to-one matching of least total cost among those that serve as many ground truths as
    possible; of equal ones scipy's solver says which (`minimum_sum`). All others are negative, none is ignored.
    `similarity` is the IoU of the decoded box.

    class_cost: "focal", the difference of the focal losses of yes and no, 0.25 (1 - p)^2 (-ln p) - 0.75 p^2
        (-ln(1 - p)), which may be negative, for sigmoid scores (Deformable DETR and its successors, weights 2, 5, 2);
        "softmax", -p, for softmaxed scores without the column of the background (DETR, weights 1, 5, 2); or None.
        p is held within 1e-8 of 0 and 1, in float64. DETR's descendants add 1e-8 inside the logarithms, mmdet 3.3.0
        1e-12, RF-DETR (35ac6ab) nothing: that matters to saturated scores alone.
    L1 is over (cx, cy, w, h) in units of the image: image_size is (height, width) of the network's input in pixels and
        must be given unless w_1 is 0. OneNet and mmdet's default take it over (x1, y1, x2, y2), another number.
    candidates: "all", every prior, as queries have no place (of many priors that is slow, but nothing of size P x G is
        held: only each ground truth's cheapest, as many as the image has ground truths, can be in the answer, and only
        these `explain` shows); "inside", priors whose centre lies strictly inside the ground truth; "center", of
        these the ones strictly within 1.5 strides of its centre, as POTO's.
    repeat: a ground truth has so many positives at most, at the least sum of all, as if it stood there so often
        (DDQ; mmdet's TopkHungarianAssigner, which lowers it to P // G where there are fewer priors: here those that
        are there are shared out, nobody getting a second one where another could have had a first).

    A ground truth without candidates gets nothing and takes nothing. Of more ground truths than priors some are left
    out, those that make the sum of the others least, as in every DETR.
    """

    class_cost: Literal["focal", "softmax"] | None = "focal"
    weights: Sequence[float] = (2, 5, 2)
    candidates: Literal["all", "inside", "center"] = "all"
    image_size: Sequence[float] | None = None
    repeat: int = 1

    needs_predictions = True

    def __post_init__(self) -> None:
        check_count("repeat", self.repeat)
        for name, known in (("class_cost", _CLASS_COSTS), ("candidates", _CANDIDATES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        for name in ("weights", "image_size"):
            if isinstance(getattr(self, name), Sequence):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        weights, size = self.weights, self.image_size
        if not isinstance(weights, tuple) or len(weights) != 3 or not all(is_finite(x) and x >= 0 for x in weights):
            raise ValueError(f"weights must be three numbers of at least 0 (class, L1, GIoU), got {self.weights!r}")
        known_size = isinstance(size, tuple) and len(size) == 2 and all(is_finite(side) and side > 0 for side in size)
        if weights[1] != 0 and not known_size:
            raise ValueError(
                f"image_size must be (height, width) in pixels of the network's input, which L1 divides by unless "
                f"weights[1] is 0, got {self.image_size!r}"
            )

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        # Who may match, and how well: the cost negated, so that more is better.
        if self.candidates == "all":
            pairs = self._cheapest(priors, gts, predictions)
        else:
            near = inside(priors, gts.boxes, radius=_RADIUS if self.candidates == "center" else None)
            pairs = Pairs(near.prior, near.gt, -self._cost_of(near, gts, predictions))
        # Who is chosen, and wins: the least sum.
        chosen = pairs[minimum_sum(pairs, gts.slot(pairs), len(gts), -pairs.value, self.repeat)]
        return Steps(pairs, chosen, Pairs(chosen.prior, chosen.gt, overlaps(chosen, gts, predictions)))

    def _cheapest(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Pairs:
        """Of each ground truth the cheapest priors, as many as all ground truths of its image could take."""
        parts = []
        for image, own in enumerate(gts.spans):
            cost = partial(self._table, gts, predictions, image, own.start)
            gt = range(own.start, own.stop)
            parts.append(cheapest(priors, gt, len(gt) * self.repeat, cost))
        return Pairs.cat(parts, priors)

    def _table(
        self, gts: GroundTruths, predictions: Predictions, image: int, start: int, place: slice, some: slice
    ) -> Float[Tensor, "m n"]:
        """What some ground truths of an image, the first of which is number `start`, cost with a range of priors."""
        own, score = slice(start + some.start, start + some.stop), None
        if self.class_cost is not None:
            score = predictions.scores[image, place].index_select(1, cast(Tensor, gts.labels)[own]).T
            check_read(score, predictions)
        return self._cost(predictions.boxes[image, place], gts.boxes[own, None], score)

    def _cost_of(self, pairs: Pairs, gts: GroundTruths, predictions: Predictions) -> Float[Tensor, "n"]:
        boxes = predictions.boxes.reshape(-1, 4).index_select(0, gts.slot(pairs))
        score = None if self.class_cost is None else class_scores(pairs, gts, predictions)
        return self._cost(boxes, gts.boxes.index_select(0, pairs.gt), score)

    def _cost(
        self, boxes: Float[Tensor, "*#n 4"], objects: Float[Tensor, "*#n 4"], score: Float[Tensor, "*#n"] | None
    ) -> Float[Tensor, "*n"]:
        """In float64 and rounded at the end, so that every device orders the pairs alike."""
        dtype, device = objects.dtype, objects.device
        boxes, objects = as_double(boxes), as_double(objects)
        cost = -self.weights[2] * giou(boxes, objects)
        if score is not None:
            cost += self.weights[0] * self._class_cost(as_double(score))
        if self.weights[1] != 0:
            cost += self.weights[1] * self._l1(boxes, objects)
        return cost.to(dtype).to(device)

    def _class_cost(self, score: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        if self.class_cost == "softmax":
            return -score
        score = score.clamp(_SMALLEST, 1 - _SMALLEST)
        return -0.25 * (1 - score) ** 2 * score.log() + 0.75 * score**2 * (1 - score).log()

    def _l1(self, boxes: Float[Tensor, "*#n 4"], objects: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
        height, width = cast(Sequence[float], self.image_size)
        dx, dy = (centers(boxes) - centers(objects)).abs().unbind(-1)
        dw, dh = ((ours - theirs).abs() for ours, theirs in zip(sizes(boxes), sizes(objects), strict=True))
        return (dx + dw) / width + (dy + dh) / height
