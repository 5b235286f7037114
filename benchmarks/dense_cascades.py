"""Dense peers of the rules that make up for what a threshold leaves: S3FD, HAMBox, noisy anchors.

No authors' training code of the first two is public, so these are their papers' steps on the whole matrix, with the
loops over ground truths or pairs that ports of them have.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from labelkit import Predictions, Priors
from labelkit.similarity import iou


def s3fd(priors: Priors, gt: Tensor, fg: float = 0.35, least: float = 0.1, n: int = 6) -> Tensor:
    """Threshold and forced priors as in SSD; then each ground truth with fewer than n takes more of its own."""
    value = box_iou(priors.boxes, gt)
    best, owner = value.max(dim=1)
    answer = torch.where(best >= fg, owner, -1)
    most, forced = value.max(dim=0)
    for g in range(len(gt)):
        if most[g] > 0:
            answer[forced[g]] = g
    for g in range(len(gt)):
        missing = n - int((answer == g).sum())
        if missing > 0:
            free = ((answer < 0) & (owner == g) & (best > least)).nonzero().squeeze(1)
            answer[free[best[free].topk(min(missing, len(free))).indices]] = g
    return answer


def hambox(
    priors: Priors, gt: Tensor, predictions: Predictions, labels: Tensor, k=5, good=0.6, fg=0.35, ignore=0.5
) -> Tensor:
    """Two matrices, of anchors and of decoded boxes; the best decoded pairs one after another."""
    best, owner = box_iou(priors.boxes, gt).max(dim=1)
    matched = best >= fg
    answer = torch.where(matched, owner, -1)
    decoded = box_iou(predictions.boxes, gt).masked_fill(matched[:, None], 0)
    room = (k - torch.bincount(owner[matched], minlength=len(gt))).tolist()
    prior, index = (decoded >= good).nonzero(as_tuple=True)
    order = decoded[prior, index].argsort(descending=True, stable=True)
    for p, g in zip(prior[order].tolist(), index[order].tolist(), strict=True):
        if room[g] > 0 and answer[p] < 0:
            answer[p], room[g] = g, room[g] - 1
    return torch.where((answer < 0) & (decoded.amax(dim=1) >= ignore), -2, answer)


def noisy_anchors(
    priors: Priors, gt: Tensor, predictions: Predictions, labels: Tensor, n: int = 30, alpha: float = 0.75
) -> Tensor:
    """The n best of every ground truth, each for its own best one; labels and weights of the positives."""
    value = box_iou(priors.boxes, gt)
    best, owner = value.max(dim=1)
    overlap, listed = value.topk(n, dim=0)
    listed = listed[overlap > 0]
    loc = iou(predictions.boxes[listed], gt[owner[listed]])
    cls = predictions.scores[listed, labels[owner[listed]]]
    share = alpha * loc / loc.mean() + (1 - alpha) * cls / cls.mean()
    soft = loc.mean() + (share - share.min()) * (1 - loc.mean()) / (share.max() - share.min())
    steep = [1 / (1 - x.clamp(max=1 - 1e-6)) for x in (loc, cls)]
    weight = alpha * steep[0] / steep[0].mean() + (1 - alpha) * steep[1] / steep[1].mean()
    answer = torch.full_like(owner, -1)
    targets = value.new_zeros(2, len(owner))
    answer[listed], targets[:, listed] = owner[listed], torch.stack((soft, weight))
    return answer
