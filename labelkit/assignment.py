"""Assignment: what an assigner answers, one number a prior; Predictions: what a dynamic one may ask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEGATIVE = -1  # background; the codes of torchvision's Matcher
IGNORED = -2  # neither: left out of the classification loss


@dataclass(frozen=True)
class Predictions:
    """What the network says of every prior: decoded boxes in xyxy pixels, class probabilities (not logits)."""

    boxes: Float[Tensor, "*batch P 4"]
    scores: Float[Tensor, "*batch P C"]


@dataclass(frozen=True, eq=False)
class Assignment:
    """The labels of all priors of one image, or of a batch (then every field has a leading batch dimension).

    gt: index of the ground truth in its own image, or NEGATIVE, or IGNORED.
    similarity: the prior's similarity with that ground truth (for cost-based methods the IoU); 0 elsewhere.
    score_target: classification target in the column of the ground truth's class: 1 for positives of hard methods,
        something in [0, 1] for soft ones; 0 for all that is not positive.
    weight: weight of the prior in the loss; 1 by default.
    """

    gt: Int[Tensor, "*batch P"]
    similarity: Float[Tensor, "*batch P"]
    score_target: Float[Tensor, "*batch P"]
    weight: Float[Tensor, "*batch P"]

    @property
    def positive(self) -> Bool[Tensor, "*batch P"]:
        """Which priors have a ground truth."""
        return self.gt >= 0

    @property
    def negative(self) -> Bool[Tensor, "*batch P"]:
        """Which are background."""
        return self.gt == NEGATIVE

    @property
    def ignored(self) -> Bool[Tensor, "*batch P"]:
        """Which are neither, and left out of the classification loss."""
        return self.gt == IGNORED

    def class_targets(self, labels: Int[Tensor, "G"] | list[Int[Tensor, "_"]]) -> Int[Tensor, "*batch P"]:
        """0 for background, -1 for ignored, label + 1 for positives.

        labels: the class of every ground truth, counted from 0; for a batch a list of one tensor an image. What is no
        such class is a ValueError with its place.
        """
        if self.gt.ndim == 1:
            if not isinstance(labels, Tensor):
                found = type(labels).__name__
                raise ValueError(f"labels must be a tensor for the assignment of one image, got {found}")
            return _class_targets(self.gt, labels, "labels")
        if isinstance(labels, Tensor) or len(labels) != len(self.gt):
            raise ValueError(f"labels must be a list of {len(self.gt)} tensors, one an image of the batch")
        rows = [_class_targets(gt, labels[i], f"labels[{i}]") for i, gt in enumerate(self.gt)]
        return torch.stack(rows) if rows else torch.zeros_like(self.gt)

    def positives_per_gt(self, num_gts: int | list[int]) -> Int[Tensor, "_"] | list[Int[Tensor, "_"]]:
        """How many priors each ground truth got: a tensor [num_gts], or for a batch a list of one tensor an image.

        A ValueError where a prior is of a ground truth that `num_gts` does not count.
        """
        if self.gt.ndim == 1:
            if not isinstance(num_gts, int):
                raise ValueError(f"num_gts must be one count for the assignment of one image, got {num_gts!r}")
            return _positives_per_gt(self.gt, num_gts, "num_gts")
        if isinstance(num_gts, int) or len(num_gts) != len(self.gt):
            raise ValueError(f"num_gts must be a list of {len(self.gt)} counts, one an image of the batch")
        return [_positives_per_gt(gt, num_gts[i], f"num_gts[{i}]") for i, gt in enumerate(self.gt)]

    def pairs(self) -> tuple[Int[Tensor, "_"], Int[Tensor, "_"]] | list[tuple[Int[Tensor, "_"], Int[Tensor, "_"]]]:
        """(prior, gt) of the positives, by prior; for a batch a list of one such couple an image."""
        if self.gt.ndim == 1:
            prior = (self.gt >= 0).nonzero().squeeze(1)
            return prior, self.gt[prior]
        return [(prior, gt[prior]) for gt in self.gt for prior in ((gt >= 0).nonzero().squeeze(1),)]

    def __getitem__(self, image: int) -> Assignment:
        """The assignment of one image of a batch."""
        if self.gt.ndim == 1:
            raise ValueError("this is the assignment of one image; only a batch can be indexed")
        return Assignment(self.gt[image], self.similarity[image], self.score_target[image], self.weight[image])

    def __repr__(self) -> str:
        counts = ", ".join(f"{int(getattr(self, role).sum())} {role}" for role in ("positive", "negative", "ignored"))
        return f"Assignment({list(self.gt.shape)} priors: {counts})"


def _positives_per_gt(gt: Tensor, num_gts: int, name: str) -> Tensor:
    counts = torch.bincount(gt[gt >= 0])
    if not isinstance(num_gts, int) or num_gts < len(counts):
        raise ValueError(f"{name} must be a count of at least {len(counts)} ground truths, got {num_gts!r}")
    return torch.nn.functional.pad(counts, (0, num_gts - len(counts)))


def _class_targets(gt: Tensor, labels: Tensor, name: str) -> Tensor:
    _check_labels(labels, name)
    highest = int(gt.max()) if gt.numel() else -1
    if highest >= len(labels):
        raise ValueError(f"{name} must hold a class for ground truth {highest}, got {len(labels)} labels")
    background = torch.where(gt == IGNORED, -1, 0)
    if len(labels) == 0:
        return background
    labels = labels.to(device=gt.device, dtype=torch.int64)
    return torch.where(gt >= 0, labels[gt.clamp(min=0)] + 1, background)


def _check_labels(labels: Tensor, name: str) -> None:
    """Classes counted from 0; no labels need no dtype and no shape."""
    if isinstance(labels, Tensor) and labels.numel() == 0:
        return
    if not isinstance(labels, Tensor) or labels.ndim != 1:
        found = list(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"{name} must be a tensor of shape [G], one class for each ground truth, got {found}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be a tensor of whole numbers, got {labels.dtype}")
    for index in (labels < 0).nonzero()[:1, 0].tolist():
        raise ValueError(f"{name}[{index}] must be a class counted from 0, got {int(labels[index])}")
