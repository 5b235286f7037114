"""The sparse matching against dense scipy, and the cases that its shortcuts could get wrong."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from labelkit.search.matching import minimum_sum
from labelkit.search.pairs import Pairs

BIG = 1e4


def pairs_of(table: np.ndarray) -> Pairs:
    """[prior, gt], infinite where a pair is infeasible; ordered by ground truth."""
    gt, prior = np.nonzero(np.isfinite(table.T))
    value = torch.from_numpy(table[prior, gt])
    return Pairs(torch.from_numpy(prior), torch.from_numpy(gt), value)


def solve(table: np.ndarray) -> dict[int, int]:
    """Ground truth -> prior."""
    pairs = pairs_of(table)
    chosen = minimum_sum(pairs, pairs.prior, table.shape[1], pairs.value)
    assert len(torch.unique(pairs.prior[chosen])) == len(torch.unique(pairs.gt[chosen])) == int(chosen.sum())
    return dict(zip(pairs.gt[chosen].tolist(), pairs.prior[chosen].tolist(), strict=True))


def dense(table: np.ndarray) -> dict[int, int]:
    """The same by the whole table, where an infeasible pair costs more than any sum."""
    filled = np.where(np.isfinite(table), table, BIG)
    rows, columns = linear_sum_assignment(filled.T)
    return {int(g): int(p) for g, p in zip(rows, columns, strict=True) if np.isfinite(table[p, g])}


@pytest.mark.parametrize("seed", range(8))
def test_equals_dense_scipy(seed):
    generator = np.random.default_rng(seed)
    for _ in range(250):
        priors, gts = generator.integers(1, 24), generator.integers(1, 14)
        table = generator.random((priors, gts)) - 0.5
        table[generator.random(table.shape) < generator.choice([0.0, 0.5, 0.9])] = np.inf
        ours, theirs = solve(table), dense(table)
        assert len(ours) == len(theirs)
        assert sum(table[p, g] for g, p in ours.items()) == pytest.approx(sum(table[p, g] for g, p in theirs.items()))
        assert ours == theirs


def test_the_sum_and_not_each_alone():
    assert solve(np.array([[0.1, 0.2], [0.15, 0.9], [0.8, 0.85]])) == {0: 1, 1: 0}


def test_as_many_as_possible_are_served_first():
    """modern-assigners 1.3: DeFCN, which gives an infeasible pair the quality -1, leaves one of these without."""
    none = np.inf
    quality = np.array([[none, 0.9, 0.1], [0.8, 0.3, none], [0.1, none, none]]).T
    assert solve(-np.where(np.isfinite(quality), quality, -np.inf)) == {0: 2, 1: 1, 2: 0}


def test_more_ground_truths_than_priors_and_none_at_all():
    assert solve(np.array([[3.0, 1.0, 2.0]])) == {1: 0}
    nothing = Pairs(torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0))
    assert minimum_sum(nothing, nothing.prior, 3, nothing.value).tolist() == []


def test_images_do_not_meet():
    """Two images want the same prior: their slots differ."""
    pairs = Pairs(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0.5, 0.5]))
    assert minimum_sum(pairs, torch.tensor([0, 10]), 2, pairs.value).tolist() == [True, True]
    assert int(minimum_sum(pairs, torch.tensor([0, 0]), 2, pairs.value).sum()) == 1
