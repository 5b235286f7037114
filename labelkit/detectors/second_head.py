"""A second head that answers without suppression, on features that it cannot change: consistent dual assignment.

The first head is trained by a one-to-many rule and the backbone learns from it alone; the second, a copy of it, reads
detached features and is trained by a one-to-one rule, so it is a probe on exactly the ordinary detector. At test time
the second answers. Wang et al., YOLOv10, 2024, section 3.1, and the code of YOLO26 (Ultralytics 8.4) for the weights.
"""

import copy
from typing import Any

from torch import Tensor, nn

SECOND = "second_"  # before the names of its outputs and losses


class TwoHeads(nn.Module):
    """Where a detector of torchvision's has its head: in training mode the outputs of both, else of one.

    answers: which one answers in evaluation mode, "second", or "first" to see what the ordinary detector finds.
    """

    def __init__(self, first: nn.Module):
        super().__init__()
        self.first = first
        self.second = copy.deepcopy(first)
        self.answers = "second"
        self.training = first.training

    @property
    def answering(self) -> Any:
        """The head that answers in evaluation mode."""
        return self.first if self.answers == "first" else self.second

    @property
    def classification_head(self) -> Any:
        return self.first.classification_head

    @property
    def regression_head(self) -> Any:
        return self.first.regression_head

    @property
    def scored(self) -> bool:
        return getattr(self.first, "scored", True)

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        if not self.training:
            return self.answering(features)
        outputs = self.second([level.detach() for level in features])
        return self.first(features) | {SECOND + name: output for name, output in outputs.items()}


def progressive_weights(epoch: int, epochs: int) -> tuple[float, float]:
    """Weights of the two heads' losses that shift from the first to the second: (w, 1 - w).

    w falls linearly from 0.8 in epoch 0 to 0.1 in the last and stays there (Ultralytics 8.4.0 to 8.4.190; equal
    weights, as in YOLOv10, are the plain sum of the losses).
    """
    weight = max(1 - epoch / max(epochs - 1, 1), 0) * 0.7 + 0.1
    return weight, 1 - weight
