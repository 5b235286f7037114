"""Receptive fields: how much of the image a feature sees, and the priors of RFLA that are made of them.

The field of a layer is the side of the square of pixels that can change one of its features. It grows by
(kernel - 1) * dilation * jump with every layer, and the jump, the distance in pixels between two neighbouring
features, is multiplied by every stride (RFLA, Xu 2022, arXiv 2208.08738, equation 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from labelkit.priors import Priors

Layer = tuple[int, int, int]  # kernel, stride, dilation


def receptive_fields(stages: Sequence[Sequence[Layer]]) -> tuple[int, ...]:
    """Side of the theoretical receptive field in pixels after each stage of a chain of layers.

    stages: for each stage its layers (kernel, stride, dilation), in the order they are applied; parallel
    branches are described by the one that sees most.
    """
    field, jump, fields = 1, 1, []
    for stage in stages:
        for kernel, stride, dilation in stage:
            field += (kernel - 1) * dilation * jump
            jump *= stride
        fields.append(field)
    return tuple(fields)


def resnet_stages(model: nn.Module, extra_levels: int = 2) -> list[list[Layer]]:
    """The layers between the image and each level P2, P3, P4, P5 and `extra_levels` more of a ResNet pyramid.

    model: a torchvision ResNet (any depth; on the meta device it costs nothing). Its residual branches see most.
    The pyramid's own convolutions on P2 to P5 are not counted, and an extra level counts as a subsampling by 2
    followed by a 3 x 3 convolution: so does the authors' code, whose table for ResNet-50 is 35, 91, 267, 427,
    555, 811. Convolutions 3 x 3 with stride 2, as RetinaNet has them, would end in 491, 619.
    """
    stem = [_layer(model.get_submodule(name)) for name in ("conv1", "maxpool")]
    parts = [model.get_submodule(name) for name in ("layer1", "layer2", "layer3", "layer4")]
    stages = [[_layer(conv) for conv in _residual_branch(part)] for part in parts]
    stages[0] = stem + stages[0]
    return stages + [[(1, 2, 1), (3, 1, 1)]] * extra_levels


def _residual_branch(stage: nn.Module) -> Iterator[nn.Module]:
    for block in stage.children():
        yield from (module for name, module in block.named_children() if name.startswith("conv"))


def _layer(module: nn.Module) -> Layer:
    def first(value: int | tuple[int, ...]) -> int:
        return value if isinstance(value, int) else value[0]

    if not isinstance(module, nn.Conv2d | nn.MaxPool2d):
        raise ValueError(f"model must be a ResNet of convolutions and a max-pool, got a {type(module).__name__}")
    return first(module.kernel_size), first(module.stride), first(module.dilation)


def rf_priors(
    image_size: tuple[int, int],
    strides: Sequence[float],
    fields: Sequence[float],
    *,
    fraction: float = 0.5,
    ratios: Sequence[float] = (1.0,),
    offset: float = 0.5,
) -> Priors:
    """Receptive-field boxes on the grid of a pyramid: what `RFLA` assigns.

    fields: one theoretical field a stride, in pixels. The side of a box is fraction * field: 0.5 in all of the
    authors' configurations, because the effective field is about half the theoretical one; as a Gaussian the
    box then has sigma = field / 4. ratios: (1,) for a point-based detector, (0.5, 1, 2) in their anchor-based ones.
    """
    if len(fields) != len(strides):
        raise ValueError(f"fields must have one entry for each of the {len(strides)} strides, got {len(fields)}")
    sizes = [(fraction * field,) for field in fields]
    return Priors.anchors(image_size=image_size, strides=strides, sizes=sizes, ratios=ratios, offset=offset)
