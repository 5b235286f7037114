"""Detections drawn into their picture, by torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.utils import draw_bounding_boxes

from labelkit import plot
from labelkit.training import runs

WIDE_ENOUGH = 40  # px of a box, for words in it
YELLOW = "#F0E442"  # of the same set as plot's colours; too light for figures on a light ground
COLOURS = (plot.ORANGE, plot.SKY, plot.GREEN, YELLOW, plot.BLUE, plot.VERMILLION, plot.PURPLE)


def write_drawn(image: Tensor, found: dict[str, Tensor], classes: Sequence[str], path: Path) -> None:
    """Write the picture with its boxes, the best on top, in the format that `path` names (or PNG, as `path`.png).

    Every class has its colour; a box has class and score in it where it is wide enough to be seen beside them.
    """
    drawn = F.to_dtype(image, torch.uint8, scale=True)
    found = {name: value.flip(0) for name, value in found.items()}
    labels = found["labels"].tolist()
    if labels:
        wide = ((found["boxes"][:, 2] - found["boxes"][:, 0]) >= WIDE_ENOUGH).tolist()
        rows = zip(labels, found["scores"].tolist(), wide, strict=True)
        said = [f"{classes[label]} {score:.2f}" if room else None for label, score, room in rows]
        colours = [COLOURS[label % len(COLOURS)] for label in labels]
        width = max(1, round(min(image.shape[-2:]) / 400))
        drawn = draw_bounding_boxes(drawn, found["boxes"], said, colours, width=width)
    picture = F.to_pil_image(drawn)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        kind, path = "PNG", path.with_name(f"{path.name}.png")
    runs.write_whole(path, lambda file: picture.save(file, format=kind))
