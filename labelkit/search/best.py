"""The prior that suits a ground truth best, whoever takes it in the end."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.boxes import check_boxes
from labelkit.priors import Priors
from labelkit.search.candidates import Similarity, needs_size, plausible
from labelkit.search.elementwise import checked
from labelkit.search.order import first_of
from labelkit.search.plausible import scorer
from labelkit.similarity import iou

_AT_ONCE = 1 << 20  # pairs


@torch.no_grad()
def best_prior(
    priors: Priors, boxes: Float[Tensor, "G 4"], similarity: Similarity = iou
) -> tuple[Float[Tensor, "G"], Int[Tensor, "G"]]:
    """The highest similarity that any prior has with each ground truth, and the (lowest) index of such a prior.

    boxes: ground truths, xyxy in pixels of the network's input. What one place of the pyramid can offer an object at
    best, before any rule: with anchors and IoU the share of objects that reach 0.5 is what YOLO's authors call the
    best possible recall. Without priors the values are 0 and the indices -1.
    On a grid the work follows the pairs that may be the best; memory is bounded.
    """
    if isinstance(boxes, torch.Tensor) and boxes.device != priors.device:
        raise ValueError(f"boxes are on {boxes.device}, the priors are on {priors.device}")
    boxes = check_boxes(boxes, "boxes").to(priors.boxes)
    value, prior = boxes.new_zeros(len(boxes)), torch.full((len(boxes),), -1, device=priors.device)
    if len(priors) == 0 or len(boxes) == 0:
        return value, prior
    needs_size(priors, similarity)
    pairs = plausible(priors, boxes, similarity, floor=math.inf, k=1)
    pairs = pairs[first_of(pairs.gt, len(boxes), -pairs.value, pairs.prior)]
    value[pairs.gt], prior[pairs.gt] = pairs.value.to(value.dtype), pairs.prior
    # Pairs at 0 and below are not plausible: who has no other is held against all priors.
    alone = (prior < 0).nonzero().squeeze(1)
    everyone = torch.arange(len(priors), device=priors.device)
    score = scorer(priors, boxes, checked(similarity, priors, boxes))
    for gts in alone.split(max(1, _AT_ONCE // len(priors))):
        table = score(everyone.repeat(len(gts)), gts.repeat_interleave(len(priors))).view(len(gts), len(priors))
        value[gts] = table.amax(dim=1).to(value.dtype)
        prior[gts] = (table == table.amax(dim=1, keepdim=True)).int().argmax(dim=1)
    return value, prior
