"""The sparse matching against dense scipy, and the cases that its shortcuts could get wrong."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from labelkit.search import matching
from labelkit.search.choosing import minimum_sum
from labelkit.search.pairs import Pairs
from tests.oracles_matching import brute, matching_of, order_of
from tests.oracles_matching import dense as dense_matching

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


def solve_copies(table: np.ndarray, copies: int) -> list[int]:
    """The ground truth of every prior, or -1."""
    pairs = pairs_of(table)
    chosen = minimum_sum(pairs, pairs.prior, table.shape[1], pairs.value, copies)
    gt = torch.full((len(table),), -1)
    gt[pairs.prior[chosen]] = pairs.gt[chosen]
    assert int((gt >= 0).sum()) == int(chosen.sum())
    return gt.tolist()


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_tiny_tables_equal_the_best_of_everything(copies):
    generator = np.random.default_rng(copies)
    for _ in range(60):
        table = generator.random((generator.integers(1, 7), generator.integers(1, 4))) - 0.5
        table[generator.random(table.shape) < generator.choice([0.0, 0.3, 0.6])] = np.inf
        best = brute(table, copies)
        assert solve_copies(table, copies) == best.gt
        assert order_of(dense_matching(table, copies)) == pytest.approx(order_of(best))


@pytest.mark.parametrize("limit", [0, matching.TABLE])
@pytest.mark.parametrize("copies", [1, 2, 4])
def test_copies_and_sparse_tables_equal_dense_scipy(copies, limit, monkeypatch):
    """With `limit` 0 every circle goes to the solver for sparse tables."""
    monkeypatch.setattr(matching, "TABLE", limit)
    generator = np.random.default_rng(10 * copies)
    for _ in range(150):
        table = generator.random((generator.integers(1, 40), generator.integers(1, 12))) - 0.5
        table[generator.random(table.shape) < generator.choice([0.0, 0.5, 0.9])] = np.inf
        ours, theirs = matching_of(table, solve_copies(table, copies), copies), dense_matching(table, copies)
        assert ours.gt == theirs.gt and ours.served == theirs.served


@pytest.mark.parametrize("circle", [1, 2, 30])
@pytest.mark.parametrize("priors", [1, 3, 40])
def test_circles_of_every_size(circle, priors):
    """Several groups that share no prior; with 3 priors for 30 ground truths most of a group must go without."""
    generator = np.random.default_rng(circle)
    table = np.full((4 * priors, 4 * circle), np.inf)
    for group in range(4):
        rows, columns = slice(group * priors, (group + 1) * priors), slice(group * circle, (group + 1) * circle)
        table[rows, columns] = generator.random((priors, circle))
    order = generator.permutation(4 * priors)
    ours = solve(table[order])
    assert ours == dense(table[order]) and len(ours) == 4 * min(priors, circle)


def test_a_chain_of_rivals_that_grows_link_by_link():
    """Ground truth g wants prior g most, then g + 1; the first two want prior 0: all the others move by one."""
    n = 25
    table = np.full((n + 1, n), np.inf)
    for g in range(n):
        table[g, g], table[g + 1, g] = 0.1, 0.11
    table[0, 1], table[1, 1], table[2, 1] = 0.0, np.inf, 0.1
    table[1, 0] = 0.9
    ours = solve(table)
    assert ours == dense(table) == {0: 0} | {g: g + 1 for g in range(1, n)}


def test_few_pairs_of_many_are_solved(monkeypatch):
    """Two of 200 ground truths collide: the table has their rows alone, and of each the two cheapest."""
    solved, generator = [], np.random.default_rng(0)
    original = matching._solved
    monkeypatch.setattr(matching, "_solved", lambda *given: solved.append(len(given[0])) or original(*given))
    table = 1 + generator.random((400, 200))
    table[np.arange(200), np.arange(200)] = 0
    table[7, 8], table[8, 8] = 0, 1.5
    table[300:302, 7:9] = [[0.5, 0.4], [0.7, 0.7]]
    assert solve(table) == dense(table) and solved == [4]


def test_the_sum_and_not_each_alone():
    assert solve(np.array([[0.1, 0.2], [0.15, 0.9], [0.8, 0.85]])) == {0: 1, 1: 0}


def test_as_many_as_possible_are_served_first():
    """modern-assigners 1.3: DeFCN, which gives an infeasible pair the quality -1, leaves one of these without."""
    none = np.inf
    quality = np.array([[none, 0.9, 0.1], [0.8, 0.3, none], [0.1, none, none]]).T
    assert solve(-np.where(np.isfinite(quality), quality, -np.inf)) == {0: 2, 1: 1, 2: 0}


def test_a_circle_with_fewer_priors_than_ground_truths():
    """Four ground truths want two priors; beside them one has a prior of its own."""
    table = np.array([[0.4, 0.1, 0.3, 0.2, np.inf], [0.5, 0.3, 0.9, 0.3, np.inf], [np.inf] * 4 + [0.7]])
    assert solve(table) == dense(table) == {1: 0, 3: 1, 4: 2}


def test_more_ground_truths_than_priors_and_none_at_all():
    assert solve(np.array([[3.0, 1.0, 2.0]])) == {1: 0}
    nothing = Pairs(torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0))
    assert minimum_sum(nothing, nothing.prior, 3, nothing.value).tolist() == []


def test_images_do_not_meet():
    """Two images want the same prior: their slots differ."""
    pairs = Pairs(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0.5, 0.5]))
    assert minimum_sum(pairs, torch.tensor([0, 10]), 2, pairs.value).tolist() == [True, True]
    assert int(minimum_sum(pairs, torch.tensor([0, 0]), 2, pairs.value).sum()) == 1
