"""FCOS heads beyond torchvision's: no third branch, and sides that are distributions over bins."""

import math

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSHead, FCOSRegressionHead

RARE = -math.log((1 - 0.01) / 0.01)  # objectness begins at 0.01, as torchvision's class scores do


def shaped(head: FCOSHead, quality: str | None, bins: int | None) -> FCOSHead:
    """torchvision's head as a method wants it, made of its layers: see `LossRule.quality`, and `PointHead` for bins.

    Without bins, and with a third branch, it is torchvision's own.
    """
    if bins is not None and bins < 2:
        raise ValueError(f"bins must be at least 2, got {bins}")
    if quality == "objectness":
        nn.init.constant_(head.regression_head.bbox_ctrness.bias, RARE)
    return head if quality is not None and bins is None else PointHead(head, quality is not None, bins)


class PointHead(FCOSHead):
    """torchvision's FCOS head with or without its third branch, with distances or a distribution for every side.

    scored: whether there is a third branch. Without one "bbox_ctrness" is a constant, and the score sqrt(class).
    bins: n, the number of bins at 0, 1, ..., n - 1 strides. "bbox_regression" is then the expectation, in strides as
    torchvision's decoding takes it, and "bbox_distribution" [B, P, 4, n] the logits behind it. None: one number a side.
    """

    def __init__(self, head: FCOSHead, scored: bool, bins: int | None):
        nn.Module.__init__(self)
        self.box_coder, self.classification_head = head.box_coder, head.classification_head
        self.regression_head = PointRegressionHead(head.regression_head, scored, bins)
        self.scored = scored

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        distances, quality, distribution = self.regression_head(x)
        outputs = {"cls_logits": self.classification_head(x), "bbox_regression": distances, "bbox_ctrness": quality}
        if self.regression_head.bins > 0:
            outputs["bbox_distribution"] = distribution
        return outputs


class PointRegressionHead(nn.Module):
    """Distances [B, P, 4], third branch [B, P, 1] and distribution [B, P, 4, bins], from a head of torchvision's."""

    def __init__(self, head: FCOSRegressionHead, scored: bool, bins: int | None):
        super().__init__()
        self.bins = bins or 0
        self.conv = head.conv
        self.bbox_reg = head.bbox_reg
        if bins is not None:
            self.bbox_reg = nn.Conv2d(head.bbox_reg.in_channels, bins * head.bbox_reg.out_channels, 3, padding=1)
            nn.init.normal_(self.bbox_reg.weight, std=0.01)
            nn.init.zeros_(self.bbox_reg.bias)
        self.bbox_ctrness = head.bbox_ctrness if scored else None

    def forward(self, x: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        distances: list[Tensor] = []
        qualities: list[Tensor] = []
        distributions: list[Tensor] = []
        for level in x:
            features = self.conv(level)
            numbers = self.bbox_reg(features).permute(0, 2, 3, 1)
            batch = numbers.size(0)
            if self.bins > 0:
                logits = numbers.reshape(batch, -1, 4, self.bins)
                # labelkit.losses.expected_distance, as TorchScript reads it
                at = torch.arange(self.bins, dtype=torch.float32, device=logits.device)
                distances.append((logits.float().softmax(-1) * at).sum(-1))
                distributions.append(logits)
            else:
                distances.append(numbers.reshape(batch, -1, 4).relu())
                distributions.append(numbers.new_empty((batch, 0, 4, 0)))
            if self.bbox_ctrness is not None:
                qualities.append(self.bbox_ctrness(features).permute(0, 2, 3, 1).reshape(batch, -1, 1))
            else:
                # a logit whose sigmoid is 1: the score is sqrt(class)
                qualities.append(numbers.new_full((batch, numbers.size(1) * numbers.size(2), 1), 100.0))
        return torch.cat(distances, dim=1), torch.cat(qualities, dim=1), torch.cat(distributions, dim=1)
