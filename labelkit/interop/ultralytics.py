"""Ultralytics: any assigner in the place of its `TaskAlignedAssigner`.

    loss = model.init_criterion()
    loss.assigner = UltralyticsAssigner(SimOTA(), strides=model.stride.tolist())

Conventions of ultralytics 8.4.190, ultralytics/utils/tal.py and loss.py. Nothing of it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor, nn

from labelkit.assignment import Predictions
from labelkit.detectors.assigning import check_assigner
from labelkit.detectors.fields import check_fields
from labelkit.interop.lattice import on_lattice
from labelkit.interop.left_out import say_left_out
from labelkit.priors import Priors


class UltralyticsAssigner(nn.Module):
    """`forward` takes and answers what Ultralytics' `TaskAlignedAssigner.forward` does.

    rule: any assigner. strides: those of the model's levels. assignment_priors: what turns the points into the priors
    that the rule sees, as in labelkit's detectors; rules that compare boxes with objects (ATSS, TopK, MaxIoU, RKA with
    IoU) ask for boxes: `receptive_field_view((32, 64, 128), fraction=1.0)` puts squares of four strides there.

    What has no place there: an ignored point is background to Ultralytics' loss, and it takes the weight of a box from
    its class target, so that weights of the assignment are left out. Either is said in a warning. Soft targets have
    theirs: `target_scores`.
    """

    def __init__(
        self,
        rule: Callable,
        strides: Sequence[float] = (8, 16, 32),
        assignment_priors: Callable[[Priors], Priors] | None = None,
    ) -> None:
        super().__init__()
        check_assigner(rule)
        check_fields(rule, assignment_priors, "assignment_priors=receptive_field_view(fields), a field a level")
        self.rule, self.strides, self.view = rule, tuple(float(stride) for stride in strides), assignment_priors
        self._latest: tuple[Tensor, Priors] | None = None

    @torch.no_grad()
    def forward(
        self,
        pd_scores: Float[Tensor, "B A C"],
        pd_bboxes: Float[Tensor, "B A 4"],
        anc_points: Float[Tensor, "A 2"],
        gt_labels: Num[Tensor, "B M 1"],
        gt_bboxes: Float[Tensor, "B M 4"],
        mask_gt: Shaped[Tensor, "B M 1"],
    ) -> tuple[
        Int[Tensor, "B A"], Float[Tensor, "B A 4"], Float[Tensor, "B A C"], Bool[Tensor, "B A"], Int[Tensor, "B A"]
    ]:
        """target_labels, target_bboxes, target_scores, fg_mask, target_gt_idx.

        pd_scores: class probabilities. Boxes and points in pixels. mask_gt: nonzero for rows that are ground truths,
        wherever they stand; a box without a size is padding too, and one that is not finite or turned inside out is
        refused. Background has the class C, a box of zeros, no score, and the index 0.
        """
        real = mask_gt[..., 0].bool() & (gt_bboxes[..., 2:] != gt_bboxes[..., :2]).all(dim=-1)
        targets = [
            {"boxes": boxes[keep], "labels": labels[keep, 0].long()}
            for boxes, labels, keep in zip(gt_bboxes, gt_labels, real, strict=True)
        ]
        assignment = self.rule(self._priors(anc_points), targets, Predictions(pd_bboxes, pd_scores))
        say_left_out(assignment, "Ultralytics' loss", ("ignored", "weight"))
        image, point = assignment.positive.nonzero(as_tuple=True)
        starts = real.sum(dim=1).cumsum(0) - real.sum(dim=1)
        row = real.nonzero()[:, 1][starts[image] + assignment.gt[image, point]]  # among all rows, padding included
        labels = torch.full_like(assignment.gt, pd_scores.shape[-1])
        labels[image, point] = gt_labels[image, row, 0].long()
        boxes = gt_bboxes.new_zeros(*assignment.gt.shape, 4)
        boxes[image, point] = gt_bboxes[image, row]
        scores = torch.zeros_like(pd_scores)
        scores[image, point, labels[image, point]] = assignment.score_target[image, point].to(scores.dtype)
        index = torch.zeros_like(assignment.gt)
        index[image, point] = row
        return labels, boxes, scores, assignment.positive, index

    def _priors(self, points: Tensor) -> Priors:
        if (
            self._latest is not None
            and points.device == self._latest[0].device
            and torch.equal(points, self._latest[0])
        ):
            return self._latest[1]
        first = [torch.full((1, 4), stride / 2) for stride in self.strides]
        priors = on_lattice(points.float().repeat(1, 2), first, [(stride, stride) for stride in self.strides])
        if priors is None:
            raise ValueError(f"anc_points must be the middles of the cells of strides {self.strides}, row by row")
        self._latest = points, priors if self.view is None else self.view(priors)
        return self._latest[1]
