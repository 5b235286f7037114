"""Golden values of the published losses, their limits, and their gradients."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from labelkit.losses import (
    distribution_focal_loss,
    expected_distance,
    focal_loss,
    ia_bce_loss,
    keep_scale,
    mal_loss,
    quality_focal_loss,
    varifocal_loss,
)
from tests import slow_losses

LOGITS = [-2.0, -1.0, 0.0, 1.0, 2.0]
GOLDEN = [
    (focal_loss, 1.0, [0.4125196, 0.1754671, 0.0433217, 0.0056645, 0.0004509]),
    (focal_loss, 0.0, [0.0013527, 0.0169935, 0.1299651, 0.5264013, 1.2375586]),
    (quality_focal_loss, 0.6, [0.30674, 0.10009, 0.00693, 0.01225, 0.07309]),
    (quality_focal_loss, 0.0, [0.0018036, 0.0226581, 0.1732868, 0.7018684, 1.6500781]),
    (varifocal_loss, 0.6, [0.79616, 0.54796, 0.41589, 0.42796, 0.55616]),
    (varifocal_loss, 0.0, [0.0013527, 0.0169935, 0.1299651, 0.5264013, 1.2375586]),
    (mal_loss, 0.6, [1.056444, 0.778020, 0.693147, 0.848504, 1.197412]),
    (mal_loss, 0.1, [0.190174, 0.344885, 0.693147, 1.281639, 2.063683]),
    (mal_loss, 1e-6, [0.126928, 0.313262, 0.693147, 1.313262, 2.126928]),  # a positive of quality 0
    (mal_loss, 0.0, [0.005224, 0.043691, 0.245065, 0.820880, 1.758193]),
    (ia_bce_loss, 0.0, [0.0018036, 0.0226581, 0.1732868, 0.7018684, 1.6500781]),  # as the quality focal loss
]


@pytest.mark.parametrize(("loss", "target", "expected"), GOLDEN)
def test_published_values(loss, target, expected, device):
    logits = torch.tensor(LOGITS, device=device)
    result = loss(logits, torch.full_like(logits, target))
    torch.testing.assert_close(result, torch.tensor(expected, device=device), rtol=0, atol=6e-6)


NAMED = {
    "focal": focal_loss, "qfl": quality_focal_loss, "vfl": varifocal_loss, "mal": mal_loss, "ia_bce": ia_bce_loss
}  # fmt: skip
ELEMENTWISE = list(NAMED.values())


@pytest.mark.parametrize("name", NAMED)
def test_values_and_gradients_are_those_of_the_definition_and_targets_get_none(name):
    loss = NAMED[name]
    grid = [(z, t) for z in (-9.0, -2.5, -0.3, 0.0, 0.7, 3.0, 8.0) for t in (0.0, 1e-6, 0.004, 0.2, 0.5, 0.93, 1.0)]
    logits, targets = torch.tensor(grid, dtype=torch.float64).T.contiguous().requires_grad_().unbind()
    result = loss(logits, targets)
    of_logits, of_targets = torch.autograd.grad(result.sum(), (logits, targets), allow_unused=True)
    assert of_targets is None or not of_targets.any()
    for index, (z, t) in enumerate(grid):
        one = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        expected = slow_losses.one(name, one, torch.tensor(t, dtype=torch.float64))
        torch.testing.assert_close(result[index], expected, rtol=1e-9, atol=1e-12)
        (slope,) = torch.autograd.grad(expected, one)
        torch.testing.assert_close(of_logits[index], slope, rtol=1e-9, atol=1e-12)


def test_factors_that_papers_detach_are_constants_to_the_gradient():
    """Against a central difference: through focal factors the gradient is the slope, through detached ones it isn't."""
    step = 1e-6
    for loss, target, whole in [
        (quality_focal_loss, 0.6, True),
        (varifocal_loss, 0.0, True),
        (ia_bce_loss, 0.0, True),
        (mal_loss, 0.6, True),
        (mal_loss, 0.0, False),
        (ia_bce_loss, 0.6, False),
    ]:
        logits = torch.tensor([-1.5, 0.4, 2.0], dtype=torch.float64, requires_grad=True)
        targets = torch.full_like(logits, target)
        (gradient,) = torch.autograd.grad(loss(logits, targets).sum(), logits)
        slope = (loss(logits + step, targets) - loss(logits - step, targets)) / (2 * step)
        assert bool(((gradient - slope).abs() < 1e-7).all()) is whole
        assert bool(((gradient - slope).abs() > 1e-3).all()) is not whole


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 2.0), (0.25, 0.0), (-1, 0.0), (-1, 2.0)])
def test_hard_focal_loss_is_torchvisions_in_value_and_gradient(target, alpha, gamma):
    logits = torch.linspace(-20, 20, 81, dtype=torch.float64, requires_grad=True)
    targets = torch.full_like(logits, target)
    ours, theirs = focal_loss(logits, targets, alpha, gamma), sigmoid_focal_loss(logits, targets, alpha, gamma)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, theirs)))


def test_soft_focal_loss_blends_the_two_terms():
    logits, soft = torch.tensor(LOGITS), torch.full((5,), 0.3)
    blend = 0.3 * focal_loss(logits, torch.ones(5)) + 0.7 * focal_loss(logits, torch.zeros(5))
    torch.testing.assert_close(focal_loss(logits, soft), blend)
    assert not torch.allclose(focal_loss(logits, soft), sigmoid_focal_loss(logits, soft))


def test_quality_focal_loss_is_least_where_score_equals_quality():
    logits = torch.linspace(-4, 4, 801)
    quality = torch.full_like(logits, 0.7)
    losses = quality_focal_loss(logits, quality)
    assert losses.min() < 1e-5
    assert logits[losses.argmin()].sigmoid().sub(0.7).abs() < 0.01


@pytest.mark.parametrize(
    ("target", "expected"), [(0.0, 3.44019), (1.25, 2.19019), (2.0, 1.44019), (2.9, 0.54019), (7.0, 0.54019)]
)
def test_distribution_focal_loss_published_values(target, expected):
    result = distribution_focal_loss(torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor(target))
    assert result.item() == pytest.approx(expected, abs=1e-5)


def test_distribution_focal_loss_is_its_definition_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 5, dtype=torch.float64, generator=generator).mul(3).requires_grad_()
    distances = torch.tensor([[0.0, 0.3, 1.0, 2.5, 3.0, 3.9, 4.0], [-1.0, 0.999, 1.7, 3.2, 3.95, 17.0, 2.0]]).double()
    result = distribution_focal_loss(logits, distances.requires_grad_())
    (of_logits,) = torch.autograd.grad(result.sum(), logits)
    assert distances.grad is None and not torch.autograd.grad(result.sum(), distances, allow_unused=True)[0]
    for i, j in [(i, j) for i in range(2) for j in range(7)]:
        one = logits[i, j].detach().requires_grad_()
        expected = slow_losses.of_bins(one, distances[i, j].item())
        torch.testing.assert_close(result[i, j], expected)
        torch.testing.assert_close(of_logits[i, j], torch.autograd.grad(expected, one)[0])


def test_the_expected_distance_is_the_mean_of_the_bins_also_under_autocast():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 2, 17, generator=generator) * 4
    expected = torch.tensor(
        [[sum(i * float(p) for i, p in enumerate(row.double().softmax(0))) for row in two] for two in logits]
    )
    torch.testing.assert_close(expected_distance(logits), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(expected_distance(logits), expected)
    assert expected_distance(logits.half()).dtype == torch.float32
    sure = torch.full((5,), -200.0)
    sure[3] = 200.0
    assert expected_distance(sure) == 3


def test_the_distribution_loss_of_extreme_and_half_precision_logits_stays_finite():
    for logits in (torch.tensor([-200.0, 200.0, -200.0, 200.0]), torch.full((4,), 200.0), torch.full((4,), -200.0)):
        half = logits.half().requires_grad_()
        for distance in (0.0, 1.5, 9.0):
            result = distribution_focal_loss(half, torch.tensor(distance))
            assert result.dtype == torch.float32 and result.isfinite()
            assert torch.autograd.grad(result, half)[0].isfinite().all()


def test_a_distance_that_is_no_number_has_a_loss_that_is_none():
    """As in the other losses; a GPU would end the process at an index that is none."""
    result = distribution_focal_loss(torch.zeros(2, 4), torch.tensor([math.nan, 1.0]))
    assert result[0].isnan() and result[1] == pytest.approx(math.log(4))


def test_distribution_focal_loss_teaches_the_expected_distance():
    logits = torch.zeros(3, 9, requires_grad=True)
    targets = torch.tensor([0.4, 3.0, 7.25])
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        distribution_focal_loss(logits, targets).sum().backward()
        optimizer.step()
    torch.testing.assert_close(expected_distance(logits.detach()), targets, atol=0.02, rtol=0)


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_extreme_and_half_precision_logits_stay_finite(loss):
    logits = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0], dtype=torch.float16, requires_grad=True)
    for target in (0.0, 1e-6, 0.5, 1.0):
        result = loss(logits, torch.full((5,), target))
        assert result.dtype == torch.float32 and result.isfinite().all()
        assert torch.autograd.grad(result.sum(), logits)[0].isfinite().all()


def test_keep_scale_moves_the_loss_but_not_its_sum():
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    scaled = keep_scale(losses, torch.tensor([3.0, 1.0, 0.0]))
    torch.testing.assert_close(scaled, torch.tensor([3.6, 2.4, 0.0]))
    torch.testing.assert_close(torch.autograd.grad(scaled.sum(), losses)[0], torch.tensor([3.6, 1.2, 0.0]))
    assert keep_scale(torch.zeros(2), torch.ones(2)).tolist() == [0.0, 0.0]
    assert keep_scale(torch.ones(2), torch.zeros(2)).tolist() == [0.0, 0.0]  # where nothing weighs anything


@pytest.mark.parametrize("alpha", [-0.5, 1.5, math.nan])
def test_a_weight_that_is_none_is_named(alpha):
    with pytest.raises(ValueError, match=rf"alpha must lie in \[0, 1\], or be -1 for no weights, got {alpha}"):
        focal_loss(torch.zeros(2), torch.zeros(2), alpha)


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        focal_loss(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="2 bins"):
        distribution_focal_loss(torch.zeros(3, 1), torch.zeros(3))
