"""Mixtures fitted many at a time against scikit-learn's, fitted one by one, and against a slow loop."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from labelkit.assigners.mixture import Mixture, fit
from tests.oracles_mixtures import mixture_of_two

KINDS = ("two clusters", "even", "collapsed", "with two ends", "with equals")


def rows(kind: str, count: int, seed: int) -> list[torch.Tensor]:
    """Score vectors of 2 to 45 values, ascending, as k = 9 on five levels gives them."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        n = int(torch.randint(2, 46, (), generator=generator))
        value = 2 * torch.rand(n, generator=generator, dtype=torch.float64)
        if kind == "two clusters":
            few = n // 3 + 1
            value[:few] = 0.3 + 0.2 * value[:few]
            value[few:] = 1.5 + value[few:]
        if kind == "collapsed":
            value = 1 + 1e-3 * value
        if kind == "with two ends":
            value = 1 + 0.1 * value
            value[0], value[-1] = 0.5, 1.6
        if kind == "with equals":
            value = (value * 4).round() / 4
        made.append(value.sort().values)
    return made


def padded(made: list[torch.Tensor], width: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One table with a vector in each row, and which of its places are taken; the others hold nonsense."""
    table = torch.full((len(made), max(width, *map(len, made))), -1234.5, dtype=torch.float64)
    valid = torch.zeros_like(table, dtype=torch.bool)
    for row, value in enumerate(made):
        table[row, : len(value)], valid[row, : len(value)] = value, True
    return table, valid


def peers(value: torch.Tensor) -> GaussianMixture:
    numbers = value.numpy()[:, None]
    start = {"weights_init": [0.5, 0.5], "means_init": np.array([[numbers.min()], [numbers.max()]])}
    model = GaussianMixture(2, precisions_init=np.ones((2, 1, 1)), **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_scikit_learn(kind):
    made = rows(kind, 100, seed=0)
    table, valid = padded(made)
    mixture = fit(table, valid)
    joint = mixture.log_joint(table)
    compared = 0
    for row, value in enumerate(made):
        model = peers(value)
        assert mixture.weight[:, row].tolist() == pytest.approx(model.weights_.tolist(), abs=1e-7)
        assert mixture.mean[:, row].tolist() == pytest.approx(model.means_[:, 0].tolist(), abs=1e-7)
        assert mixture.variance[:, row].tolist() == pytest.approx(model.covariances_[:, 0, 0].tolist(), rel=1e-5)
        own = joint[:, row, : len(value)]
        assert own.logsumexp(0).tolist() == pytest.approx(model.score_samples(value.numpy()[:, None]), abs=1e-5)
        clear = (own[0] - own[1]).abs() > 1e-8
        components = torch.from_numpy(model.predict(value.numpy()[:, None]))
        assert torch.equal(own.argmax(dim=0)[clear], components[clear])
        compared += int(clear.sum())
    assert compared > 1000


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_slow_loop(kind):
    made = rows(kind, 30, seed=1)
    mixture = fit(*padded(made))
    for row, value in enumerate(made):
        for c, part in enumerate(mixture_of_two(value.tolist())):
            assert (mixture.weight[c, row], mixture.mean[c, row]) == pytest.approx(part[:2], abs=1e-8)
            assert mixture.variance[c, row] == pytest.approx(part.variance, rel=1e-6)


def test_a_row_does_not_know_its_neighbours():
    """Alone, in company, in a wider table, slow rows and quick ones."""
    made = [one for kind in KINDS for one in rows(kind, 4, seed=2)]
    together, wide = fit(*padded(made)), fit(*padded(made, width=90))
    for row, value in enumerate(made):
        alone = fit(*padded([value]))
        for name in ("weight", "mean", "variance"):
            for many in (together, wide):
                torch.testing.assert_close(
                    getattr(many, name)[:, row], getattr(alone, name)[:, 0], rtol=1e-8, atol=1e-10
                )


def test_the_published_example(device):
    scores = torch.tensor([[0.3, 0.35, 0.4, 0.5, 1.8, 2, 2.1, 2.4, 3]], dtype=torch.float64, device=device)
    mixture = fit(scores, torch.ones_like(scores, dtype=torch.bool))
    assert mixture.mean[:, 0].tolist() == pytest.approx([0.3875, 2.25996], abs=1e-5)
    assert mixture.variance[:, 0].tolist() == pytest.approx([0.00547, 0.174476], abs=1e-5)
    assert mixture.log_joint(scores)[:, 0].argmax(dim=0).tolist() == [0] * 4 + [1] * 5


def test_nothing_raises_and_nothing_is_nan():
    """Equal values, one value, none, values far apart, no row at all."""
    table, valid = padded([torch.tensor(v, dtype=torch.float64) for v in ([1.0] * 9, [1.0], [], [0, 1e6], [0.0, 1e-9])])
    mixture = fit(table, valid)
    for name in ("weight", "mean", "variance"):
        assert getattr(mixture, name).isfinite().all()
    assert (mixture.variance >= 1e-6).all()
    assert mixture.log_joint(table).masked_fill(~valid, 0).isfinite().all()
    assert mixture.mean[:, 0].tolist() == pytest.approx([1, 1]) and mixture.weight[:, 0].tolist() == [0.5, 0.5]
    assert fit(torch.zeros(0, 3).double(), torch.zeros(0, 3).bool()).mean.shape == (2, 0)


def test_the_joint_density_is_a_density():
    mixture = Mixture(
        *(torch.tensor(pair, dtype=torch.float64)[:, None] for pair in ((0.25, 0.75), (0.0, 3.0), (0.5, 2.0)))
    )
    place = torch.linspace(-20, 25, 20_001, dtype=torch.float64)[None]
    mass = torch.trapezoid(mixture.log_joint(place)[:, 0].exp(), place, dim=1)
    assert mass.tolist() == pytest.approx([0.25, 0.75], abs=1e-9)
