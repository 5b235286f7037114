"""Sinkhorn on listed pairs against Sinkhorn on the whole table, and what a plan must be."""

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from labelkit.assigners.transport import Transport
from tests.oracles_mixtures import dense_sinkhorn


def problem(cost: torch.Tensor, supply: list[float], demand: list[float], eps: float = 0.1) -> Transport:
    """A table of costs, where infinity stands for a pair that cannot carry."""
    row, column = cost.isfinite().nonzero(as_tuple=True)
    supplied, demanded = (torch.tensor(x, dtype=torch.float64, device=cost.device) for x in (supply, demand))
    return Transport(row, column, cost[row, column].double(), supplied, demanded, eps)


def plan_of(given: Transport, iterations: int) -> torch.Tensor:
    """The plan as a table."""
    *_, last = islice(given.iterate(), iterations)
    plan = torch.zeros(len(given.supply), len(given.demand), dtype=torch.float64, device=last.device)
    return plan.index_put_((given.row, given.column), last.exp())


COST = [[0.2, 0.5, 1, 3, 1e6], [1e6, 0.9, 0.4, 0.6, 2], [0.8, 0.6, 0.5, 0.3, 0.1]]
SUPPLY, DEMAND = [2.0, 1, 2], [1.0] * 5


@pytest.mark.parametrize("left_out", [False, True])
def test_the_published_example(left_out, device):
    """Spec 6.1; to price a pair at 1e6 or to leave it out is the same to 1e-12."""
    cost = torch.tensor(COST, dtype=torch.float64, device=device)
    given = problem(cost.masked_fill(cost > 1e5, torch.inf) if left_out else cost, SUPPLY, DEMAND)
    plan = plan_of(given, 50)
    assert plan[0].tolist() == pytest.approx([1.00766, 0.98075, 0.01159, 0, 0], abs=5e-6)
    assert (plan / plan.amax(dim=1, keepdim=True)).argmax(dim=0).tolist() == [0, 0, 1, 2, 2]
    dense = dense_sinkhorn(cost.cpu(), *(torch.tensor(x).double() for x in (SUPPLY, DEMAND)), 0.1, 50).exp()
    torch.testing.assert_close(plan.cpu(), dense, rtol=1e-10, atol=1e-12)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 6),
    columns=st.integers(1, 12),
    eps=st.sampled_from([0.05, 0.1, 1.0]),
    iterations=st.sampled_from([1, 2, 50]),
)
def test_equals_the_whole_table(seed, rows, columns, eps, iterations):
    """The last row reaches every column, as the background does; of the others some pairs are missing."""
    generator = torch.Generator().manual_seed(seed)
    cost = 5 * torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    absent = torch.rand(rows, columns, generator=generator) < 0.4
    absent[-1] = False
    absent[:, 0] = False
    supply = torch.randint(0, 4, (rows,), generator=generator).tolist()
    demand = torch.randint(1, 3, (columns,), generator=generator).tolist()
    plan = plan_of(problem(cost.masked_fill(absent, torch.inf), supply, demand, eps), iterations)
    table = torch.where(absent, 1e6, cost)
    dense = dense_sinkhorn(table, *(torch.tensor(x).double() for x in (supply, demand)), eps, iterations).exp()
    torch.testing.assert_close(plan, dense, rtol=1e-7, atol=1e-12)


def test_rows_are_met_at_once_and_columns_nearer_and_nearer():
    given = problem(torch.tensor(COST[:2] + [[0.8, 0.6, 0.5, 0.3, 0.1]]), SUPPLY, DEMAND)
    off = []
    for log_plan in islice(given.iterate(), 200):
        sent = torch.zeros(3, dtype=torch.float64).index_add(0, given.row, log_plan.exp())
        assert sent.tolist() == pytest.approx(SUPPLY, abs=1e-6)
        off.append(float((given.received(log_plan) - given.demand).abs().max()))
    assert all(later <= sooner + 1e-12 for sooner, later in zip(off, off[1:], strict=False))
    assert 0.005 < off[49] < 0.01 and off[0] > 10 * off[49] and off[-1] < 1e-4


def test_with_little_entropy_it_is_the_cheapest_plan():
    generator = torch.Generator().manual_seed(3)
    cost = torch.rand(3, 8, generator=generator, dtype=torch.float64)
    supply, demand = [3.0, 1.0, 4.0], [1.0] * 8
    plan = plan_of(problem(cost, supply, demand, eps=0.002), 3000)
    sums = [torch.eye(3).repeat_interleave(8, dim=1), torch.eye(8).repeat(1, 3)]
    best = linprog(cost.flatten().numpy(), A_eq=torch.cat(sums).numpy(), b_eq=supply + demand)
    assert float((plan * cost).sum()) == pytest.approx(best.fun, abs=0.01)


def test_one_column_may_stand_for_many():
    """Columns that only the last row reaches are one column with their demands added: the rest of the plan is equal."""
    cost = torch.tensor([[0.3, 0.6, *[torch.inf] * 6], [0.2, 0.1, 5, 1, 7, 0, 2, 3]], dtype=torch.float64)
    apart = plan_of(problem(cost, [1.0, 7.0], [1.0] * 8), 50)
    merged = plan_of(problem(cost[:, :3], [1.0, 7.0], [1.0, 1.0, 6.0]), 50)
    torch.testing.assert_close(apart[:, :2], merged[:, :2], rtol=1e-7, atol=0)
    torch.testing.assert_close(apart[1, 2:], merged[1, 2:].repeat(6) / 6, rtol=1e-7, atol=0)


def test_nothing_to_carry():
    """A row without a pair and no pair at all."""
    inf = torch.inf
    assert plan_of(problem(torch.tensor([[inf, inf], [0.5, 1.0]]), [1.0, 2.0], [1.0, 1.0]), 3).isfinite().all()
    assert plan_of(problem(torch.full((2, 2), inf), [0.0, 0.0], [1.0, 1.0]), 3).sum() == 0
