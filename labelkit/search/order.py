"""Order: the first of every group, and the first k. What every choice is made of; ties are broken, never left open."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

FEW = 1 << 12  # so few pairs are sorted outright


def first_of(
    group: Int[Tensor, "n"],
    groups: int,
    criterion: Shaped[Tensor, "n"],
    *ties: Tensor,
    among: Bool[Tensor, "n"] | None = None,
) -> Bool[Tensor, "n"]:
    """Mark the first pair of every group: the smallest in `criterion`, ties by the next one, and so on.

    among: the pairs that count. Exactly one of them a group, provided the last criterion has no ties inside a group.
    Scatter-reduces of minima do not depend on the order of execution: the same answer on every device.
    """
    if among is None:
        alive = criterion == _least(group, groups, criterion, _top(criterion))
    elif among.device.type == "cpu":
        return _of_some(among, lambda group, *given: first_of(group, groups, *given), group, criterion, *ties)
    else:
        ties, alive = (criterion, *ties), among
    for tie in ties:
        top = _top(tie)
        tie = torch.where(alive, tie, top)
        alive = alive & (tie == _least(group, groups, tie, top))
    return alive


def _of_some(among: Tensor, choose: Callable[..., Tensor], *vectors: Tensor) -> Bool[Tensor, "n"]:
    """`choose` of the pairs of a mask alone; nobody waits for the CPU to count them."""
    some = among.nonzero().squeeze(1)
    return torch.zeros_like(among).index_copy_(0, some, choose(*(one.index_select(0, some) for one in vectors)))


def _top(criterion: Tensor) -> float:
    return math.inf if criterion.is_floating_point() else torch.iinfo(criterion.dtype).max


def _least(group: Tensor, groups: int, criterion: Tensor, top: float) -> Tensor:
    """Of the pair's own group. Where groups are the slots of a grid, only those that occur are written and read: to
    fill memory for all of them would take longer than everything else."""
    least = criterion.new_empty((groups,))
    least = least.fill_(top) if groups < len(group) else least.index_fill_(0, group, top)
    return least.scatter_reduce_(0, group, criterion, "amin").index_select(0, group)


def first_k(group: Int[Tensor, "n"], groups: int, k: int, *criteria: Tensor) -> Bool[Tensor, "n"]:
    """Mark the first k pairs of every group in the order of `criteria` (see `first_of`).

    Sorting all pairs is dear, so of many only those equal to their group's k-th least first criterion are sorted:
    what is below it is in, what is above it is out.
    """
    if group.device.type != "cpu":  # it sorts quickly, and would have to be waited for below
        return first_in_order(group, group.new_full((groups,), k), *criteria)
    if len(group) <= k:
        return torch.ones_like(group, dtype=torch.bool)
    if groups == 1 and len(group) <= FEW:
        return torch.zeros_like(group, dtype=torch.bool).index_fill_(0, _ordered(criteria)[:k], True)
    count = counts(group, groups)
    widest = int(count.max())
    if widest <= k:
        return torch.ones_like(group, dtype=torch.bool)
    if len(group) <= FEW or widest * groups > 4 * len(group):  # groups so uneven that their table would be empty
        return first_in_order(group, count.new_full((groups,), k), *criteria)
    least = _kth_least(group, count, widest, k, criteria[0]).index_select(0, group)
    chosen = criteria[0] < least
    tied = (criteria[0] == least).nonzero().squeeze(1)
    room = k - counts(group[chosen], groups)
    tied = tied[first_in_order(group[tied], room, *(criterion[tied] for criterion in criteria[1:]))]
    return chosen.index_fill_(0, tied, True)


def _kth_least(
    group: Int[Tensor, "n"], count: Int[Tensor, "groups"], widest: int, k: int, value: Float[Tensor, "n"]
) -> Float[Tensor, "groups"]:
    """The k-th least value of every group, infinity where it has fewer: from a table with a group in each row."""
    if widest < k:
        return value.new_full(count.shape, math.inf)
    if bool((group[1:] < group[:-1]).any()):
        order = group.argsort()
        group, value = group[order], value[order]
    before = (count.cumsum(0) - count).index_select(0, group)
    place = torch.arange(len(group), device=group.device) - before + group * widest
    table = value.new_full((len(count) * widest,), math.inf).index_copy_(0, place, value)
    return table.view(-1, widest).topk(k, dim=1, largest=False).values[:, -1]


def first_in_order(
    group: Int[Tensor, "n"], room: Int[Tensor, "groups"], *criteria: Tensor, among: Bool[Tensor, "n"] | None = None
) -> Bool[Tensor, "n"]:
    """Mark the first `room` pairs of every group: stable sorts, the last criterion first and the group at the end.

    Without a criterion the order is that of the pairs. among: the pairs that count.
    """
    if among is not None and among.device.type == "cpu":
        return _of_some(among, lambda group, *given: first_in_order(group, room, *given), group, *criteria)
    if among is not None:
        last = criteria[0].masked_fill(~among, _top(criteria[0]))
        return first_in_order(group, room, last, *criteria[1:]) & among
    several = room.shape[0] > 1
    order = _ordered((group, *criteria) if several or not criteria else criteria)
    place = torch.arange(len(order), device=order.device)
    if several:
        count = counts(group, room.shape[0])
        place -= (count.cumsum(0) - count).index_select(0, group.index_select(0, order))
    return torch.empty_like(order).index_copy_(0, order, place) < room.index_select(0, group)


def _ordered(criteria: Sequence[Tensor]) -> Int[Tensor, "n"]:
    """The indices in the order of these vectors: the first decides, ties go by the next, and last by the index."""
    *keys, last = criteria
    order = last.argsort(stable=True)
    for key in reversed(keys):
        order = order.index_select(0, key.index_select(0, order).argsort(stable=True))
    return order


def counts(group: Int[Tensor, "n"], groups: int, among: Bool[Tensor, "n"] | None = None) -> Int[Tensor, "groups"]:
    """How many pairs, or pairs `among` them, each group has. A GPU's own `bincount` would be waited for."""
    if group.device.type == "cpu":
        return torch.bincount(group if among is None else group[among], minlength=groups)
    one = torch.ones_like(group) if among is None else among.to(group.dtype)
    return group.new_zeros(groups).index_add_(0, group, one)


def first_in_rows(value: Float[Tensor, "G n"], sizes: Sequence[int], k: int) -> Int[Tensor, "G m"]:
    """The columns of the k least of every row in each run of so many columns, ties to the lower column; values at
    least 0.

    A float32 that is not negative has the order of its bits, and the column stands behind them.
    """
    if value.dtype == torch.float32:
        return _first_by_bits(value.view(torch.int32), sizes, k)
    order = [run.argsort(dim=1, stable=True)[:, :k] for run in value.split(sizes, dim=1)]
    return torch.cat([one + start for one, start in zip(order, accumulate(sizes, initial=0), strict=False)], dim=1)


def least_in_rows(value: Float[Tensor, "G n"], k: int) -> Int[Tensor, "G m"]:
    """The same of whole rows, whose values may be negative."""
    if value.dtype != torch.float32:
        return first_in_rows(value, value.shape[1:], k)
    bits = (value + 0).view(torch.int32)  # -0 is 0; below it the bits are turned round
    return _first_by_bits(bits ^ ((bits >> 31) & 0x7FFFFFFF), value.shape[1:], k)


def _first_by_bits(bits: Int[Tensor, "G n"], sizes: Sequence[int], k: int) -> Int[Tensor, "G m"]:
    key = (bits.long() << 32) | torch.arange(bits.shape[1], device=bits.device)
    runs = key.split(list(sizes), dim=1)
    return torch.cat([run.topk(min(k, run.shape[1]), dim=1, largest=False).values for run in runs], 1) & 0xFFFFFFFF
