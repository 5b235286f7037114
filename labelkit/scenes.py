"""Six fixed small pictures, each with a difficulty of its own, that the chapters draw and assign on."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Scene:
    """A fixed small picture: `size` is (height, width) in pixels, `boxes` its ground truths, xyxy."""

    title: str
    boxes: Float[Tensor, "G 4"]
    size: tuple[int, int] = (128, 128)
    labels: Int64[Tensor, "G"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", torch.zeros(len(self.boxes), dtype=torch.int64))

    @property
    def target(self) -> dict[str, Tensor]:
        """The ground truths as an assigner takes them; copies, so a chapter may change them."""
        return {"boxes": self.boxes.clone(), "labels": self.labels.clone()}


def _crowd() -> Tensor:
    """Fifteen objects of 9 to 13 px in three rows, shoulder to shoulder."""
    sides = torch.tensor([12.0, 10, 13, 9, 11, 10, 13, 11, 12, 9, 13, 11, 9, 12, 10])
    column, row = torch.arange(15) % 5, torch.arange(15) // 5
    x, y = 39 + 11.5 * column + 2.0 * (row % 2), 48 + 15.0 * row
    return torch.stack([x - sides / 2, y - sides / 2, x + sides / 2, y + sides / 2], dim=1)


SCENES = {
    "one big": Scene("one big object", torch.tensor([[26.0, 18, 106, 114]])),
    "tiny between cells": Scene("a tiny object between the cells", torch.tensor([[61.0, 61, 67, 67]])),
    "two overlapping": Scene("two objects that overlap", torch.tensor([[14.0, 30, 90, 102], [58.0, 50, 112, 116]])),
    "crowd": Scene("a crowd of small objects", _crowd()),
    "thin": Scene("a long and thin object", torch.tensor([[12.0, 57, 116, 73]])),
    "four sizes": Scene(
        "8, 16, 32 and 64 px",
        torch.tensor([[9.0, 13, 17, 21], [27.0, 37, 43, 53], [81.0, 9, 113, 41], [50.0, 57, 114, 121]]),
    ),
}
