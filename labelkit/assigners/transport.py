"""Optimal transport on a sparse table: Sinkhorn's iteration in the log domain, on the pairs that may carry anything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_LEAST = 1e-8  # added to supply and demand, so that nothing has a logarithm too


@dataclass(frozen=True, eq=False)
class Transport:
    """Rows supply, columns demand, and only the n listed pairs of both can carry, at a cost a unit.

    Wanted is the plan whose sums over rows and columns are `supply` and `demand`, of least cost minus `eps` times its
    entropy (Cuturi 2013, arXiv 1306.0895): the smaller eps, the nearer to the cheapest plan and the slower. Memory is
    vectors over pairs. A row without a pair carries nothing. Take float64: eps divides the cost.
    """

    row: Int[Tensor, "n"]
    column: Int[Tensor, "n"]
    cost: Float[Tensor, "n"]
    supply: Float[Tensor, "rows"]
    demand: Float[Tensor, "columns"]
    eps: float

    def iterate(self) -> Iterator[Float[Tensor, "n"]]:
        """The logarithm of the plan after every iteration, for ever: the columns are scaled first, then the rows.

        So the rows' sums are always met and the columns' only in the end: `received` tells how nearly.
        """
        kernel = -self.cost / self.eps
        supply, demand = (self.supply + _LEAST).log(), (self.demand + _LEAST).log()
        of_row = torch.zeros_like(supply)
        while True:
            of_column = demand - _log_sum(kernel + of_row.index_select(0, self.row), self.column, len(demand))
            scaled = kernel + of_column.index_select(0, self.column)
            of_row = supply - _log_sum(scaled, self.row, len(supply))
            yield scaled + of_row.index_select(0, self.row)

    def received(self, log_plan: Float[Tensor, "n"]) -> Float[Tensor, "columns"]:
        """What every column gets under a plan, to be held against its demand."""
        return torch.zeros_like(self.demand).index_add(0, self.column, log_plan.exp())


def _log_sum(value: Float[Tensor, "n"], group: Int[Tensor, "n"], groups: int) -> Float[Tensor, "groups"]:
    """log(sum(exp(value))) of every group; -inf for an empty one."""
    top = value.new_full((groups,), -math.inf).scatter_reduce(0, group, value, "amax")
    rest = (value - top.index_select(0, group)).exp()
    return top + value.new_zeros(groups).index_add(0, group, rest).log()
