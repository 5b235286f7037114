"""The peers of PAA, OTA and DCFL: as published, on the whole table; see `dense`."""

from __future__ import annotations

import math

import numpy as np
import torch
from dense import ranking, torchvision_matcher
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.ops import box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from labelkit import Predictions, Priors
from labelkit.boxes import centers, sizes
from labelkit.similarity import gjsd


def paa(priors: Priors, gt: Tensor, predictions: Predictions, labels: Tensor, k: int = 9) -> Tensor:
    """The authors' PAA: the matrix of IoUs, then for one ground truth after another scikit-learn's mixture."""
    stage_one = torchvision_matcher(priors, gt, 0.1, 0.1)
    positive = (stage_one >= 0).nonzero().squeeze(1)
    owner, level = stage_one[positive], priors.levels[positive]
    scores = predictions.scores[positive]
    score = sigmoid_focal_loss(scores.logit(), one_hot(labels[owner], scores.shape[1]).to(scores)).sum(dim=1)
    score = score + generalized_box_iou_loss(predictions.boxes[positive], gt[owner])
    answer = torch.full_like(stage_one, -1)
    for g in range(len(gt)):
        parts = [((owner == g) & (level == one)).nonzero().squeeze(1) for one in range(len(priors.level_sizes))]
        own = torch.cat([part[score[part].topk(min(k, len(part)), largest=False).indices] for part in parts])
        own = own[score[own].argsort()]
        if len(own) < 2:
            answer[positive[own]] = g
            continue
        value = score[own].cpu().double().numpy()[:, None]
        start = {"weights_init": [0.5, 0.5], "means_init": value[[0, -1]], "precisions_init": np.ones((2, 1, 1))}
        mixture = GaussianMixture(2, **start).fit(value)
        likelihood = np.where(mixture.predict(value) == 0, mixture.score_samples(value), -np.inf)
        bar = len(own) - 1 if np.isinf(likelihood).all() else int(likelihood.argmax())
        answer[positive[own[: bar + 1]]] = g
    return answer


def ota(
    priors: Priors, gt: Tensor, predictions: Predictions, labels: Tensor, eps: float = 0.1, iterations: int = 50
) -> Tensor:
    """The authors' OTA: ground truths x priors x classes of focal losses, and Sinkhorn on the whole table."""
    G, P = len(gt), len(priors)
    sides = torch.cat((priors.centers - gt[:, None, :2], gt[:, None, 2:] - priors.centers), dim=2)
    offset = (priors.centers - centers(gt)[:, None]).abs().amax(dim=2)
    feasible = (sides.amin(dim=2) > 0.01) & (offset < 2.5 * priors.strides)
    overlap = box_iou(gt, predictions.boxes)
    logits = predictions.scores.logit()
    target = one_hot(labels, logits.shape[1]).to(logits)[:, None].repeat(1, P, 1)
    of_class = sigmoid_focal_loss(logits.expand(G, -1, -1), target).sum(dim=2)
    cost = of_class - 1.5 * overlap.clamp(min=torch.finfo(torch.float32).eps).log() + 1e6 * ~feasible
    background = sigmoid_focal_loss(logits, torch.zeros_like(logits)).sum(dim=1)
    cost = torch.cat((cost, background[None]))
    k = (overlap * feasible).topk(20, dim=1).values.sum(dim=1).int().clamp(min=1)
    mu, nu = torch.cat((k, (P - k.sum())[None])).to(cost.dtype), torch.ones_like(background)
    u, v = torch.ones_like(mu), torch.ones_like(nu)
    for _ in range(iterations):
        v = v + eps * ((nu + 1e-8).log() - ((-cost + u[:, None] + v) / eps).logsumexp(dim=0))
        u = u + eps * ((mu + 1e-8).log() - ((-cost + u[:, None] + v) / eps).logsumexp(dim=1))
    plan = ((-cost + u[:, None] + v) / eps).exp()
    owner = (plan / plan.amax(dim=1, keepdim=True)).argmax(dim=0)
    return torch.where(owner < G, owner, -1)


def dcfl(priors: Priors, gt: Tensor, predictions: Predictions, labels: Tensor, k: int = 16, q: int = 12) -> Tensor:
    """DCFL in the library's reading, on the matrices of similarities, of IoUs and of Gaussians."""
    coarse = ranking(priors, gt, gjsd, k)
    quality = box_iou(predictions.boxes, gt) + predictions.scores[:, labels]
    quality = quality.masked_fill(coarse[:, None] != torch.arange(len(gt), device=gt.device), -1)
    best, kept = quality.topk(min(q, len(priors)), dim=0)
    place, middle, half = priors.centers, centers(gt), torch.stack(sizes(gt), dim=1) / 2
    mean = (place[kept] * (best >= 0)[..., None]).sum(0) / (best >= 0).sum(0).clamp(min=1)[:, None]
    near = [torch.exp(-(((place[:, None] - about) / half) ** 2).sum(dim=2) / 2) for about in (middle, mean)]
    passed = (0.7 * near[0] + 0.3 * near[1] >= math.exp(-0.6)).gather(0, kept) & (best >= 0)
    answer = torch.full_like(coarse, -1)
    owner = torch.arange(len(gt), device=gt.device).expand_as(kept)
    answer[kept[passed]] = owner[passed]
    return answer
