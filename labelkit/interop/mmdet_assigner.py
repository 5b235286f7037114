"""Any assigner in MMDetection's heads. Importing this file registers it, where mmdet is installed:

    custom_imports = dict(imports=["labelkit.interop.mmdet_assigner"])
    train_cfg = dict(assigner=dict(type="LabelkitAssigner", rule=dict(name="atss", k=9), anchor_generator=...))

Conventions of mmdet 3.3.0, mmdet/models/task_modules/assigners/*.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from labelkit.assignment import Predictions
from labelkit.detectors.assigning import check_assigner
from labelkit.detectors.fields import check_fields, receptive_field_view
from labelkit.interop.mmdetection import as_boxes, plain, recognised, to_mmdet
from labelkit.priors import Priors
from labelkit.training.rules import build_assigner


class LabelkitAssigner:
    """An assigner of labelkit as one of mmdet's, for heads that ask `assigner.assign(pred_instances, ...)`.

    rule: an assigner, its registry name, or a dict of its name and arguments, as a configuration file holds them.
    anchor_generator: the generator of the priors that the assigner sees (the head's own; YOLOX's adds an offset of 0.5
    first), an object or its configuration. By it the priors know their grid and their levels, also where the head has
    left out what lies beyond a padded picture. None is for boxes without a grid, such as proposals: all on one level,
    unless the head names its levels.
    logits: whether the head hands over logits as scores, as RTMDet's does; TOOD's and YOLOX's hand over probabilities.
    receptive_fields: for RFLA, the theoretical field of every level in pixels.

    The answer is mmdet's `AssignResult`; `assign_metrics` in it are the soft targets, which TOOD's head reads. Weights
    have no place there, and other heads read no soft targets: both is said in a warning. `gt_instances_ignore` are
    regions as labelkit knows them, whatever `ignore_iof_thr` a head's own assigner would have. What a head passes on
    beside the instances (TOOD: alpha, beta) is the rule's to say, and is not looked at.
    """

    def __init__(
        self,
        rule: Callable | str | Mapping[str, Any],
        anchor_generator: Any,
        *,
        logits: bool = False,
        receptive_fields: Sequence[float] | None = None,
    ) -> None:
        if isinstance(rule, str | Mapping):
            arguments = {"name": rule} if isinstance(rule, str) else dict(rule)
            rule = build_assigner(str(arguments.pop("name", None)), arguments)
        check_assigner(rule)
        if isinstance(anchor_generator, Mapping):
            from mmdet.registry import TASK_UTILS

            anchor_generator = TASK_UTILS.build(anchor_generator)
        self.rule, self.generator, self.logits = rule, anchor_generator, logits
        self.view = None if receptive_fields is None else receptive_field_view(receptive_fields)
        check_fields(self.rule, self.view, "receptive_fields=(...), one a level")
        self._latest: Priors | None = None

    def assign(
        self,
        pred_instances: Any,
        *others: Any,
        gt_instances: Any = None,
        gt_instances_ignore: Any = None,
        num_level_priors: Sequence[int] | None = None,
        **_: Any,
    ) -> Any:
        """mmdet's call: (pred_instances, gt_instances, gt_instances_ignore), with num_level_priors as the second where
        the head is ATSS's or its like."""
        given = list(others)
        if given and isinstance(given[0], list | tuple):
            num_level_priors = given.pop(0)
        gt_instances = given.pop(0) if given else gt_instances
        gt_instances_ignore = given.pop(0) if given else gt_instances_ignore
        priors = self._priors(as_boxes(pred_instances.priors, self.generator), num_level_priors)
        target = _target(gt_instances, gt_instances_ignore)
        predictions = None
        if getattr(self.rule, "needs_predictions", True):
            scores = pred_instances.scores
            predictions = Predictions(plain(pred_instances.bboxes), scores.sigmoid() if self.logits else scores)
        assignment = self.rule(priors if self.view is None else self.view(priors), target, predictions)
        labels = to_mmdet(assignment, target["labels"])

        from mmdet.models.task_modules.assigners import AssignResult

        result = AssignResult(len(gt_instances.labels), *labels)
        result.assign_metrics = assignment.score_target
        return result

    def _priors(self, boxes: Tensor, level_sizes: Sequence[int] | None) -> Priors:
        if self._latest is not None and boxes.device == self._latest.device and torch.equal(self._latest.boxes, boxes):
            return self._latest
        priors = None if self.generator is None else recognised(boxes, self.generator)
        if priors is None and level_sizes is None and self.generator is not None:
            raise ValueError(
                f"the {len(boxes)} priors are not those of the anchor_generator, or only some of them: give the "
                "generator that the head has, and set train_cfg.allowed_border to -1, which keeps anchors at borders"
            )
        if priors is None:
            strides = None if self.generator is None else [max(pair) for pair in self.generator.strides]
            priors = Priors.from_boxes(boxes, level_sizes, strides)
        self._latest = priors
        return priors


def _target(gt_instances: Any, ignored: Any) -> dict[str, Tensor]:
    """The objects, then the regions."""
    boxes, labels = plain(gt_instances.bboxes), gt_instances.labels
    if ignored is None or not len(ignored.bboxes):
        return {"boxes": boxes, "labels": labels}
    regions = plain(ignored.bboxes)
    return {
        "boxes": torch.cat((boxes, regions)),
        "labels": torch.cat((labels, labels.new_zeros(len(regions)))),
        "ignore": torch.cat((torch.zeros_like(boxes[:, 0]), torch.ones_like(regions[:, 0]))),
    }


with suppress(ImportError):
    from mmdet.registry import TASK_UTILS as _registry

    _registry.register_module(module=LabelkitAssigner, force=True)
