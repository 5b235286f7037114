"""Pairs: the sparse candidates (prior, ground truth) in which every assigner is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.priors import Priors

Similarity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Vectors of equal length: the prior's index, the ground truth's index over the whole batch, their similarity."""

    prior: Int[Tensor, "n"]
    gt: Int[Tensor, "n"]
    value: Float[Tensor, "n"]

    def __len__(self) -> int:
        return self.prior.shape[0]

    def __getitem__(self, keep: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> Pairs:
        if keep.dtype == torch.bool:
            keep = keep.nonzero().squeeze(1)
        return Pairs(*(part.index_select(0, keep) for part in (self.prior, self.gt, self.value)))

    @classmethod
    def cat(cls, parts: list[Pairs], like: Priors) -> Pairs:
        if len(parts) == 1:
            return parts[0]
        if not parts:
            nothing = torch.zeros(0, dtype=torch.int64, device=like.device)
            return cls(nothing, nothing, like.boxes.new_zeros(0))
        return cls.join(parts)

    @classmethod
    def join(cls, parts: Sequence[Pairs]) -> Pairs:
        """One after another; at least one."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("prior", "gt", "value")))
