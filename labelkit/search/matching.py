"""Matching: the pairs of least total cost, one ground truth a prior and so many priors a ground truth, exactly.

The Hungarian algorithm on priors x ground truths costs seconds where there are thousands of each. It need not see them
all: among m rivals some optimal matching uses only the m cheapest candidates of each (one that uses a worse one finds,
among its m cheapest, one that the other m - 1 leave free, at no higher cost). Whoever shares no candidate is no rival.

So every ground truth starts with a list of its cheapest candidate alone. Those that share a listed candidate, directly
or through others, are rivals, and their lists grow to as many candidates as they are, until no list has to grow. The
rivals of one circle then match at the least sum that their circle alone could have, and no two circles meet: that is
the least sum of all. Most circles are one ground truth, whose cheapest candidate is its own; only the others go to
scipy, which is imported when the first of them comes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.devices import as_double
from labelkit.search.order import first_k, first_of
from labelkit.search.pairs import Pairs

TABLE = 1 << 22  # entries of a dense table (32 MiB); of a larger one only the pairs are kept, which takes longer


def minimum_sum(
    pairs: Pairs, slot: Int[Tensor, "n"], gts: int, cost: Float[Tensor, "n"], copies: int = 1
) -> Bool[Tensor, "n"]:
    """Mark the matching of least total `cost` among those that serve as many ground truths as candidates allow.

    slot: where the prior of each pair stands over the whole batch; a slot is used once at most. A ground truth without
    a pair stays without. Costs are finite. copies: how many priors a ground truth may have; of all matchings those that
    serve most ground truths once come first, then of these the ones that serve most of them twice, and so on.
    Of several matchings of one sum the answer is that of scipy's `linear_sum_assignment` on the reduced table, ground
    truths ascending as rows, slots ascending as columns (of `min_weight_full_bipartite_matching` beyond `TABLE`).
    """
    best = first_of(pairs.gt, gts, cost, slot) if copies == 1 else first_k(pairs.gt, gts, copies, cost, slot)
    taken = slot[best]
    if len(torch.unique(taken)) == len(taken):
        return best
    owner, column, price = (x.cpu().numpy() for x in (pairs.gt, slot, as_double(cost)))
    chosen = best.cpu().numpy()
    circle, listed = _circles(owner, column, price, chosen, gts, copies)
    chosen[(np.bincount(circle) > 1)[circle[owner]]] = False
    for part in np.split(listed, 1 + np.flatnonzero(np.diff(circle[owner[listed]]))):
        chosen[part[_solved(owner[part], column[part], price[part], copies)]] = True
    return torch.from_numpy(chosen).to(slot.device)


def _circles(
    owner: np.ndarray, column: np.ndarray, price: np.ndarray, best: np.ndarray, gts: int, copies: int
) -> tuple[np.ndarray, np.ndarray]:
    """The circle of each ground truth, and the listed pairs of those that have rivals, circle by circle.

    best: marks the first `copies` of each ground truth, the lists to begin with.
    """
    known = _in_order(owner, price, column)
    rank = _place_in_run(owner, gts) if known else np.where(best, 0, len(owner))
    need = np.full(gts, copies)
    while True:
        listed = np.flatnonzero(rank < need[owner])
        circle = _components(owner[listed], column[listed], gts)
        wanted = copies * np.bincount(circle)[circle]
        if (wanted <= need).all():
            break
        if not known:
            new = np.flatnonzero(((wanted > copies) & (need == copies))[owner])  # no rivals until now
            new = new[np.lexsort((column[new], price[new], owner[new]))]
            rank[new] = _place_in_run(owner[new], gts)
        need = np.maximum(need, wanted)
    listed = listed[(need > copies)[owner[listed]]]
    return circle, listed[np.argsort(circle[owner[listed]], kind="stable")]


def _in_order(owner: np.ndarray, price: np.ndarray, column: np.ndarray) -> bool:
    """Whether the pairs stand ground truth by ground truth, the cheapest first: nobody has to sort them then."""
    later = np.ones(len(owner) - 1, dtype=bool)
    for key in (column, price, owner):  # the last one decides
        later = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & later)
    return bool(later.all())


def _place_in_run(owner: np.ndarray, gts: int) -> np.ndarray:
    """0, 1, 2, ... for the pairs of each ground truth, which stand together, ascending."""
    times = np.bincount(owner, minlength=gts)
    return np.arange(len(owner)) - (np.cumsum(times) - times)[owner]


def _components(owner: np.ndarray, column: np.ndarray, gts: int) -> np.ndarray:
    """A number for each ground truth, the least index of those that it shares a column with, directly or not."""
    number, of_column = np.arange(gts), np.empty(column.max() + 1, dtype=np.int64)
    while True:
        known = number.copy()
        of_column[column] = gts
        np.minimum.at(of_column, column, number[owner])
        np.minimum.at(number, owner, of_column[column])
        if (number == known).all():
            return number


def _solved(owner: np.ndarray, column: np.ndarray, price: np.ndarray, copies: int) -> np.ndarray:
    """Which of these pairs the best matching takes: a row for each copy, and a private last resort for each row."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    (gts, gt), (columns, place) = _numbered(owner), _numbered(column)
    rows = gts * copies
    shape = rows, columns + rows
    # Dearer than any difference between two sums, so that as many as possible are served; dearest for first copies.
    resort = (np.ptp(price) + 1) * (rows + 1) * np.tile(np.arange(copies, 0, -1), gts)
    row = np.concatenate([gt * copies + copy for copy in range(copies)] + [np.arange(rows)])
    to = np.concatenate([place] * copies + [columns + np.arange(rows)])
    weight = np.concatenate([price - price.min() + 1] * copies + [resort + 1])  # a sparse table holds no zeros
    if shape[0] * shape[1] <= TABLE:
        table = np.full(shape, np.inf)
        table[row, to] = weight
        taken = linear_sum_assignment(table)[1]
    else:
        taken = min_weight_full_bipartite_matching(csr_array((weight, (row, to)), shape=shape))[1]
    return np.flatnonzero((taken.reshape(-1, copies)[gt] == place[:, None]).any(axis=1))


def _numbered(label: np.ndarray) -> tuple[int, np.ndarray]:
    """How many labels there are, and the number of each entry's label among them, ascending."""
    least = label.min()
    if label.max() - least >= 8 * len(label):  # counting would ask for more than sorting
        labels, number = np.unique(label, return_inverse=True)
        return len(labels), number
    used = np.bincount(label - least) > 0
    return int(used.sum()), (np.cumsum(used) - 1)[label - least]
