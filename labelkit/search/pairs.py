"""Pairs: the sparse candidates (prior, ground truth) in which every assigner is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

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
            if keep.shape[0] == len(self):
                return self
        return Pairs(*(part.index_select(0, keep) for part in (self.prior, self.gt, self.value)))

    @classmethod
    def cat(cls, parts: list[Pairs], like: Priors) -> Pairs:
        """One after another; of none no pair, on the device and in the dtype of the priors."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            nothing = torch.zeros(0, dtype=torch.int64, device=like.device)
            return cls(nothing, nothing, like.boxes.new_zeros(0))
        return cls.join(parts)

    @staticmethod
    def join(parts: Sequence[Pairs]) -> Pairs:
        """One after another; at least one."""
        tables, masks = [part.table for part in parts], [part.mask for part in parts]
        whole = Pairs(*(torch.cat([getattr(table, name) for table in tables]) for name in ("prior", "gt", "value")))
        if all(mask is None for mask in masks):
            return whole
        every = zip(tables, masks, strict=True)
        return Marked(whole, torch.cat([torch.ones_like(t.gt, dtype=torch.bool) if m is None else m for t, m in every]))

    @property
    def table(self) -> Pairs:
        """The pairs that `mask` speaks of."""
        return self

    @property
    def mask(self) -> Bool[Tensor, "n"] | None:
        """Which of `table` these are; None: all."""
        return None

    def some(self, mask: Bool[Tensor, "n"]) -> Pairs:
        """Those of a mask: gathered on the CPU, `Marked` where their number would have to be waited for."""
        return self[mask] if mask.device.type == "cpu" else Marked(self, mask)


@dataclass(frozen=True, eq=False)
class OfTable(Pairs):
    """Pairs of so few priors and ground truths that every value was computed at once: whoever needs another finds it
    in the `whole`."""

    whole: Float[Tensor, "G P"]


class Marked(Pairs):
    """Some of the pairs of a table, by a mask: they are counted and gathered when somebody asks for them.

    To gather them a GPU's count has to be waited for. What only needs to know where pairs stand takes `table` and
    `mask`.
    """

    def __init__(self, table: Pairs, mask: Bool[Tensor, "n"]) -> None:
        vars(self).update(_table=table, _mask=mask)

    @property
    def table(self) -> Pairs:
        return vars(self)["_table"]

    @property
    def mask(self) -> Bool[Tensor, "n"]:
        return vars(self)["_mask"]

    def some(self, mask: Bool[Tensor, "n"]) -> Pairs:
        """Of these those of a mask over the table."""
        return Marked(self.table, self.mask & mask)

    @cached_property
    def _found(self) -> Pairs:
        return self.table[self.mask]

    @property
    def prior(self) -> Tensor:
        return self._found.prior

    @property
    def gt(self) -> Tensor:
        return self._found.gt

    @property
    def value(self) -> Tensor:
        return self._found.value
