"""What a torchvision detector makes of a picture before its network sees it: its size, the padding, the feature maps.

torchvision's own code is asked, with shapes in place of pixels (the meta device), so that nothing is computed, no
parameter is touched, and whoever subclasses the transform or the backbone is asked as well.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labelkit.modes import evaluating

Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class NetworkInput:
    """One picture at a detector's input.

    image_size: as it comes. size: after the detector's resize. padded: of the batch, a multiple of what the backbone
    needs. feature_sizes: of every level's map. All (height, width) in pixels, or cells.
    """

    image_size: Size
    size: Size
    padded: Size
    feature_sizes: tuple[Size, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        image_size: Size,
        *,
        enlarge: float = 1.0,
        finer: int = 1,
        known: dict[Size, tuple[Size, ...]] | None = None,
    ) -> NetworkInput:
        """For a picture of `image_size`, alone in its batch, as the model in evaluation mode would take it.

        enlarge: were the picture that much larger after the resize. finer: were every stride that much smaller. Both
        ask what another setting of the same detector would see. known: the maps of the padded sizes that were asked
        before, which are not asked again; filled here.
        """
        parts: Any = model
        for name in ("transform", "backbone"):
            if not isinstance(getattr(model, name, None), nn.Module):
                raise TypeError(
                    f"model must be a detector of torchvision's, got a {type(model).__name__} without {name}"
                )
        if len(image_size) != 2 or not all(side >= 1 for side in image_size):
            raise ValueError(f"image_size must be (height, width), both at least 1, got {image_size}")
        height, width = image_size
        transform = copy.copy(parts.transform)
        transform.training = False
        picture, _ = transform.resize(torch.empty(3, height, width, device="meta"), None)
        size = int(picture.shape[-2] * enlarge), int(picture.shape[-1] * enlarge)
        batch = transform.batch_images([picture.new_empty(3, *size)], size_divisible=transform.size_divisible)
        padded = size_of(batch)
        known = {} if known is None else known
        if padded not in known:
            known[padded] = feature_sizes(parts.backbone, batch.new_empty(1, 3, padded[0] * finer, padded[1] * finer))
        return cls((height, width), size, padded, known[padded])

    def at_input(self, boxes: Float[Tensor, "G 4"]) -> Float[Tensor, "G 4"]:
        """Boxes of the picture in pixels of the network's input, as torchvision's `resize_boxes` scales them."""
        down, across = (new / old for new, old in zip(self.size, self.image_size, strict=True))
        return boxes * boxes.new_tensor([across, down, across, down])


def size_of(image: Tensor) -> Size:
    """Of pixels or a map, [..., H, W]."""
    return image.shape[-2], image.shape[-1]


def feature_sizes(backbone: nn.Module, batch: Tensor) -> tuple[Size, ...]:
    """(rows, columns) of every level's map for a batch [B, 3, H, W] on the meta device."""
    state = {name: value.to("meta") for name, value in (*backbone.named_parameters(), *backbone.named_buffers())}
    with evaluating(backbone):  # in training a batch norm refuses a map of one cell
        features = torch.func.functional_call(backbone, state, (batch,))
    maps = [features] if isinstance(features, Tensor) else list(features.values())
    return tuple(map(size_of, maps))
