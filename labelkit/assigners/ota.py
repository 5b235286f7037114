"""OTA: ground truths and the background supply labels, priors demand one each, and a transport plan deals them out."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.assigners.arguments import check_count, check_min_side, check_threshold
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import focal_of_background, focal_of_class, overlaps
from labelkit.assigners.transport import Transport
from labelkit.assignment import Predictions
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, inside
from labelkit.search.choosing import counts, first_of, top_k

_INSIDE = 0.01  # pixels; a prior's centre has to lie more than this far inside the ground truth
_LEAST_IOU = torch.finfo(torch.float32).eps
_ROUNDING = 1e-9  # of a log-share; the order of a sum in float64 must not decide which of two equals is larger


@dataclass(frozen=True)
class OTA(Assigner):
    """Optimal transport assignment (Ge 2021, arXiv 2103.14259, section 3), with the details of the authors' code.

    1. Candidates: priors whose centre lies more than 0.01 px inside a ground truth and strictly within `radius` strides
       of its centre (the paper's centre prior). `min_side` floors short sides for the inside test.
    2. The cost of a pair: the focal loss (0.25, 2) of the prior's class probabilities with the ground truth's class as
       target, summed over the classes, plus `iou_weight` times -ln(IoU of the decoded box), IoU at least 1.2e-7. The
       cost of background: the same loss with no class as target.
    3. A ground truth supplies as many units as the sum of the `k` largest IoUs of its candidates says, rounded down, 1
       at least (dynamic k); the background supplies what is left of the image's priors; a prior demands one. Sinkhorn's
       iteration, `iterations` times with `eps`, gives the plan (`labelkit.assigners.transport`).
    4. Every supplier's row is divided by its largest entry, and a prior goes to the supplier with the largest share of
       it: to the lower ground truth on ties, to the background last. Nothing is ignored.

    So there is no threshold, and a ground truth's positives need not be as many as it supplied. Of two equal ground
    truths the second gets nothing. One without a candidate gets nothing and supplies nothing; the authors' code
    (Megvii OTA 2c85b4d), which prices what is not feasible at 1e6 instead of leaving it out, has it ship its one unit
    to a prior that float32 happens to choose. Where ground truths supply more than there are priors the background
    supplies nothing.

    `similarity` of a positive is the IoU of its decoded box. In an explanation the value of a pair is its share, 1 for
    the best of a row; chosen are the pairs that the background does not outbid.
    """

    eps: float = 0.1
    iterations: int = 50
    iou_weight: float = 1.5
    k: int = 20
    radius: float = 2.5
    min_side: float | None = None

    needs_predictions = True

    def __post_init__(self) -> None:
        for name in ("eps", "iou_weight", "radius"):
            check_threshold(name, getattr(self, name))
        for name in ("iterations", "k"):
            check_count(name, getattr(self, name))
        check_min_side(self.min_side)

    def assign(self, priors: Priors, gts: GroundTruths, predictions: Predictions) -> Steps:
        # Who may match: the priors in the middle of a ground truth.
        near = inside(priors, gts.boxes, self.min_side, self.radius)
        near = near[near.value > _INSIDE]
        near = near[(near.gt * gts.num_priors + near.prior).argsort()]
        pairs = Pairs(near.prior, near.gt, overlaps(near, gts, predictions))
        # How well: the share of its ground truth's plan that a pair has, and the share of the background's.
        slot, column = torch.unique(gts.slot(pairs), return_inverse=True)
        share, of_background = self._shares(pairs, slot, column, gts, predictions)
        column, gt = column.to(share.device), pairs.gt.to(share.device)
        # Who is chosen: who is worth no less than the background. Who wins: the largest share.
        enough = (share >= of_background.index_select(0, column)).nonzero().squeeze(1)
        first = enough[first_of(column[enough], len(slot), -share[enough], gt[enough])]
        dealt = Pairs(pairs.prior, pairs.gt, share.exp().to(pairs.value.dtype).to(priors.device))
        return Steps(dealt, dealt[enough.to(priors.device)], pairs[first.to(priors.device)])

    def _shares(
        self,
        pairs: Pairs,
        slot: Int[Tensor, "m"],
        column: Int[Tensor, "n"],
        gts: GroundTruths,
        predictions: Predictions,
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]]:
        """The logarithm of what each pair, and the background on each of m slots, has in units of its row's largest.

        pairs: valued by IoU. A prior that is nobody's candidate gets its unit from the background, whatever that costs:
        all such priors of an image are one column that demands as many.
        """
        background = focal_of_background(slot, predictions)
        cost = background.index_select(0, column) + focal_of_class(pairs, gts, predictions)
        cost = as_double(cost - self.iou_weight * pairs.value.clamp(min=_LEAST_IOU).log())
        home = cost.device
        gt, column, slot, image_of = (x.to(home) for x in (pairs.gt, column, slot, gts.image))
        image = torch.div(slot, max(gts.num_priors, 1), rounding_mode="floor")
        supply, rest = self._supply(pairs, gts, image_of)
        lonely = gts.num_priors - counts(image, gts.images)
        some = lonely.nonzero().squeeze(1)  # the images that have such priors
        problem = Transport(
            row=torch.cat((gt, len(gts) + image, len(gts) + some)),
            column=torch.cat((column, torch.arange(len(slot) + len(some), device=home))),
            cost=torch.cat((cost, as_double(background), cost.new_zeros(len(some)))),
            supply=torch.cat((supply, rest)),
            demand=torch.cat((cost.new_ones(len(slot)), lonely[some].to(cost.dtype))),
            eps=self.eps,
        )
        plan = deque(islice(problem.iterate(), self.iterations), maxlen=1).pop()
        plan = plan - problem.demand.log().index_select(0, problem.column)  # of one prior, where a column is many
        largest = torch.full_like(problem.supply, -math.inf).scatter_reduce(0, problem.row, plan, "amax")
        share = ((plan - largest.index_select(0, problem.row)) / _ROUNDING).round() * _ROUNDING
        return share[: len(pairs)], share[len(pairs) : len(pairs) + len(slot)]

    def _supply(self, pairs: Pairs, gts: GroundTruths, image: Tensor) -> tuple[Float[Tensor, "G"], Float[Tensor, "B"]]:
        """What each ground truth supplies, and what is left for the background of each image."""
        best = pairs[top_k(pairs, len(gts), self.k)]
        overlap = as_double(best.value)
        gt = best.gt.to(overlap.device)
        supply = overlap.new_zeros(len(gts)).index_add(0, gt, overlap).trunc().clamp(min=1)
        supply = supply * (counts(gt, len(gts)) > 0)
        given = supply.new_zeros(gts.images).index_add(0, image, supply)
        return supply, (gts.num_priors - given).clamp(min=0)
