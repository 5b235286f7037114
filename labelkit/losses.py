"""Elementwise losses that soft labels need and torchvision does not have.

All of them take logits, work in float32 or wider whatever comes in, return one value for every element and
leave weights and normalisers to the caller: a sum over anchors is divided by the number of positives (or by the sum
of the targets, where a method says so), never by the number of anchors. For hard 0/1 targets `focal_loss` is
`torchvision.ops.sigmoid_focal_loss`; box losses (GIoU, DIoU, CIoU) are torchvision's and are not repeated here.

Targets are constants: no gradient reaches them, even where they were computed from the network's own boxes. What the
gradient does with the factor before the cross entropy differs from loss to loss, and stands with each.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax, softplus


def focal_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Sigmoid focal loss of a target anywhere in [0, 1].

    -t * alpha * (1 - p)^gamma * log p  -  (1 - t) * (1 - alpha) * p^gamma * log(1 - p)

    alpha lies in [0, 1], or is -1: then neither term is weighted by it, as in torchvision's function.

    Lin et al., Focal Loss for Dense Object Detection, 2017; the soft target as in the code of Li et al., Learning
    from Noisy Anchors, 2020: the two terms are blended. torchvision's function blends inside the modulating
    factor instead, so the two agree at t = 0 and t = 1 and nowhere between.
    """
    logits, targets = _same_shape(logits, targets)
    probabilities = logits.sigmoid()
    if not (0 <= alpha <= 1 or alpha == -1):
        raise ValueError(f"alpha must lie in [0, 1], or be -1 for no weights, got {alpha!r}")
    of_positive, of_negative = (1, 1) if alpha == -1 else (alpha, 1 - alpha)
    as_positive = of_positive * (1 - probabilities) ** gamma * softplus(-logits)
    as_negative = of_negative * probabilities**gamma * softplus(logits)
    return targets * as_positive + (1 - targets) * as_negative


def quality_focal_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], beta: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Cross entropy with a quality (the IoU of the decoded box) as target, times |target - p|^beta.

    Zero where the score already equals the quality. The factor takes part in the gradient, as in focal loss.
    Li et al., Generalized Focal Loss, 2020, equation 2; no alpha.
    """
    logits, targets = _same_shape(logits, targets)
    return _cross_entropy(logits, targets) * (targets - logits.sigmoid()).abs() ** beta


def varifocal_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], alpha: float = 0.75, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Cross entropy weighted by the target where it is positive, by alpha * p^gamma elsewhere.

    Positives are not down-weighted, so that the rare good ones count fully; alpha scales the negatives only. The
    factor of a negative takes part in the gradient, as in the authors' code; RT-DETR's copy detaches it.
    Zhang et al., VarifocalNet, 2021, equation 2. A positive of quality 0 would become a negative: clamp before.
    """
    logits, targets = _same_shape(logits, targets)
    weights = torch.where(targets > 0, targets, alpha * logits.sigmoid() ** gamma)
    return weights * _cross_entropy(logits, targets)


def mal_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], gamma: float = 1.5
) -> Float[Tensor, "*shape"]:
    """Cross entropy with target^gamma as target where it is positive, p^gamma times that of target 0 elsewhere.

    The matchability-aware loss: a positive weighs 1 however bad its box, so that confidence in a bad match is
    punished, which varifocal loss leaves alone. No gradient goes through p^gamma. A positive of quality 0 would
    become a negative: clamp before. Huang et al., DEIM, 2025, section 3.3; the code's `mal_alpha` is None.
    """
    logits, targets = _same_shape(logits, targets)
    weights = torch.where(targets > 0, 1.0, logits.detach().sigmoid() ** gamma)
    return weights * _cross_entropy(logits, targets**gamma)


def ia_bce_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Cross entropy with t = p^alpha * target^(1 - alpha) as target, p^gamma times that of target 0 elsewhere.

    targets: the IoU of a positive's box, above 0; 0 elsewhere. t is at least 0.01 and a constant to the gradient,
    although it is made of p; p^gamma of the negatives takes part in it. Cai et al., Align-DETR, 2023, and
    RF-DETR's code: a positive's t rises with its own score, as task alignment's metric does.
    """
    logits, targets = _same_shape(logits, targets)
    scores = logits.sigmoid()
    aligned = (scores.detach() ** alpha * targets ** (1 - alpha)).clamp(min=0.01)
    as_negative = scores**gamma * softplus(logits)
    return torch.where(targets > 0, _cross_entropy(logits, aligned), as_negative)


def distribution_focal_loss(
    logits: Float[Tensor, "*shape n"], distances: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Cross entropy of the two bins beside a continuous distance, each weighted by its nearness.

    The n bins stand at 0, 1, ..., n - 1, in units of the stride (MMDetection's `reg_max` 16 is n = 17, Ultralytics'
    is n = 16). Distances are clamped to [0, n - 1.1], so that the right bin exists: a side longer than that can not
    be learnt on its level. Li et al., Generalized Focal Loss, 2020, equation 6; the clamp is the published code's.
    """
    logits = _wide(logits)
    if logits.ndim == 0 or logits.shape[:-1] != distances.shape or logits.shape[-1] < 2:
        raise ValueError(
            f"logits must be shaped as distances with at least 2 bins behind, got {tuple(logits.shape)} "
            f"and {tuple(distances.shape)}"
        )
    distances = distances.detach().to(logits.dtype).clamp(0, logits.shape[-1] - 1 - 0.1)
    left = distances.floor()
    cross_entropy = -log_softmax(logits, dim=-1)
    index = left.nan_to_num().long()[..., None]  # the loss of a distance that is NaN is NaN, as elsewhere
    at_left = cross_entropy.gather(-1, index)[..., 0]
    at_right = cross_entropy.gather(-1, index + 1)[..., 0]
    return (left + 1 - distances) * at_left + (distances - left) * at_right


def expected_distance(logits: Float[Tensor, "*shape n"]) -> Float[Tensor, "*shape"]:
    """The distance that a distribution over bins 0 to n - 1 stands for: its mean, in units of the stride."""
    logits = _wide(logits)
    bins = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return (logits.softmax(-1) * bins).sum(-1)


def keep_scale(losses: Float[Tensor, "*#shape"], weights: Float[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """Weighted losses, scaled so that their sum is that of the unweighted ones.

    The weights then move the loss between anchors and leave the balance with other losses alone. The scale is a
    constant to the gradient. Li et al., Learning from Noisy Anchors, 2020 (in the authors' code, not in the text).
    """
    weighted = losses * weights
    with torch.no_grad():
        total = weighted.sum()
        scale = torch.where(total > 0, losses.sum() / total.clamp(min=torch.finfo(total.dtype).tiny), 1.0)
    return weighted * scale


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return targets * softplus(-logits) + (1 - targets) * softplus(logits)


def _same_shape(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if logits.shape != targets.shape:
        raise ValueError(
            f"logits and targets must have one shape, got {tuple(logits.shape)} and {tuple(targets.shape)}"
        )
    logits = _wide(logits)
    return logits, targets.detach().to(logits.dtype)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
