"""Matching: the pairs of least total cost, one prior a ground truth and one ground truth a prior, exactly and sparsely.

The Hungarian algorithm on priors x ground truths costs seconds where there are thousands of each. It need not see them
all. Join ground truths that share a candidate: components are independent, and in a component of m ground truths some
optimal matching uses only the m cheapest candidates of each (one that uses a worse one finds, among its m cheapest, one
that the other m - 1 leave free, at no higher cost). Most components have one ground truth, or several whose cheapest
candidates differ: their cheapest candidates are the answer, and only the others go to scipy.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from labelkit.search.choosing import first_in_order, first_of
from labelkit.search.pairs import Pairs


def minimum_sum(pairs: Pairs, slot: Int[Tensor, "n"], gts: int, cost: Float[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Mark the matching of least total `cost` among those that serve as many ground truths as candidates allow.

    slot: where the prior of each pair stands over the whole batch; a slot is used once at most. A ground truth without
    a pair stays without. Costs are finite. Of several matchings of one sum the answer is that of scipy's
    `linear_sum_assignment` on the reduced table, ground truths ascending as rows, slots ascending as columns.
    """
    best = first_of(pairs.gt, gts, cost, slot)
    wanted, times = torch.unique(slot[best], return_counts=True)
    if bool((times <= 1).all()):
        return best
    owner, column, price = (x.cpu().numpy() for x in (pairs.gt, slot, cost.double()))
    component = _components(owner, column, gts)
    crowded = np.isin(component[owner], component[owner[best.cpu().numpy() & np.isin(column, wanted[times > 1].cpu())]])
    size = np.bincount(component, minlength=component.max() + 1)[component]
    left = np.flatnonzero(crowded)
    room = torch.from_numpy(np.where(np.bincount(owner[left], minlength=gts) > 0, size, 0))
    group = torch.from_numpy(owner[left])
    cheap = first_in_order(group, room, torch.from_numpy(price[left]), torch.from_numpy(column[left])).numpy()
    left = left[cheap]
    chosen = best.clone()
    chosen[torch.from_numpy(np.flatnonzero(crowded)).to(chosen.device)] = False
    for one in np.unique(component[owner[left]]):
        part = left[component[owner[left]] == one]
        chosen[torch.from_numpy(part[_solved(owner[part], column[part], price[part])]).to(chosen.device)] = True
    return chosen


def _components(owner: np.ndarray, column: np.ndarray, gts: int) -> np.ndarray:
    """The component of each ground truth; one without a pair is one by itself."""
    columns, place = np.unique(column, return_inverse=True)
    size = gts + len(columns)
    graph = coo_array((np.ones(len(owner), dtype=np.int8), (owner, gts + place)), shape=(size, size))
    return connected_components(graph, directed=False)[1][:gts]


def _solved(owner: np.ndarray, column: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Which of these pairs the best matching takes: a dense table with a private last resort for each ground truth."""
    rows, row = np.unique(owner, return_inverse=True)
    columns, place = np.unique(column, return_inverse=True)
    table = np.full((len(rows), len(columns) + len(rows)), np.inf)
    table[row, place] = price - price.min()
    # Dearer than any difference between two sums, so that as many as possible are served.
    table[np.arange(len(rows)), len(columns) + np.arange(len(rows))] = (np.ptp(price) + 1) * (len(rows) + 1)
    taken = np.full(len(rows), -1)
    where, to = linear_sum_assignment(table)
    taken[where] = to
    return np.flatnonzero(taken[row] == place)
