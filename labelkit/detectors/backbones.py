"""A backbone that two CPU cores can train: a feature pyramid from stride 4, for images of about 128 px."""

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork


def small_norm(channels: int) -> nn.GroupNorm:
    """Groups instead of a batch: the same gradients for a batch on one process and its halves on two."""
    return nn.GroupNorm(8, channels)


class SmallPyramid(nn.Module):
    """A convolution of stride 2, three stages of stride 2, and torchvision's pyramid on top of the stages.

    `strides` are 4, 8, 16; every level has `out_channels` channels. About 149 thousand parameters.
    `layers` are those of its three stages as `labelkit.receptive_field.receptive_fields` takes them.
    """

    strides = (4, 8, 16)
    layers = (((3, 2, 1), (3, 2, 1), (3, 1, 1)), ((3, 2, 1), (3, 1, 1)), ((3, 2, 1), (3, 1, 1)))

    def __init__(self, channels: tuple[int, int, int, int] = (24, 32, 48, 64), out_channels: int = 32):
        super().__init__()
        self.out_channels = out_channels
        self.stem = _conv(3, channels[0], stride=2)
        self.stages = nn.ModuleList(_Stage(channels[i], channels[i + 1]) for i in range(3))
        self.fpn = FeaturePyramidNetwork(list(channels[1:]), out_channels)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`[B, 3, H, W]`, H and W multiples of 16, to three maps named "0", "1", "2", finest first."""
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        features: dict[str, Tensor] = {}
        for level, stage in enumerate(self.stages):
            x = stage(x)
            features[str(level)] = x
        return self.fpn(features)


class NativeSize(GeneralizedRCNNTransform):
    """torchvision's transform without the resize: images are normalised and padded, boxes stay as they are."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class _Stage(nn.Module):
    """Halve the map, then refine it once with a residual."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.down = _conv(inputs, outputs, stride=2)
        self.refine = _conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.refine(x)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, small_norm(outputs), nn.ReLU(inplace=True))
