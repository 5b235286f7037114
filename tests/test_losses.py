"""Golden values of the published losses, their limits, and their gradients."""

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from labelkit.losses import (
    distribution_focal_loss,
    expected_distance,
    focal_loss,
    keep_scale,
    quality_focal_loss,
    varifocal_loss,
)

LOGITS = [-2.0, -1.0, 0.0, 1.0, 2.0]
GOLDEN = [
    (focal_loss, 1.0, [0.4125196, 0.1754671, 0.0433217, 0.0056645, 0.0004509]),
    (focal_loss, 0.0, [0.0013527, 0.0169935, 0.1299651, 0.5264013, 1.2375586]),
    (quality_focal_loss, 0.6, [0.30674, 0.10009, 0.00693, 0.01225, 0.07309]),
    (quality_focal_loss, 0.0, [0.0018036, 0.0226581, 0.1732868, 0.7018684, 1.6500781]),
    (varifocal_loss, 0.6, [0.79616, 0.54796, 0.41589, 0.42796, 0.55616]),
    (varifocal_loss, 0.0, [0.0013527, 0.0169935, 0.1299651, 0.5264013, 1.2375586]),
]


@pytest.mark.parametrize(("loss", "target", "expected"), GOLDEN)
def test_published_values(loss, target, expected, device):
    logits = torch.tensor(LOGITS, device=device)
    result = loss(logits, torch.full_like(logits, target))
    torch.testing.assert_close(result, torch.tensor(expected, device=device), rtol=0, atol=6e-6)


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 2.0), (0.25, 0.0)])
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


def test_distribution_focal_loss_teaches_the_expected_distance():
    logits = torch.zeros(3, 9, requires_grad=True)
    targets = torch.tensor([0.4, 3.0, 7.25])
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        distribution_focal_loss(logits, targets).sum().backward()
        optimizer.step()
    torch.testing.assert_close(expected_distance(logits.detach()), targets, atol=0.02, rtol=0)


@pytest.mark.parametrize("loss", [focal_loss, quality_focal_loss, varifocal_loss])
def test_extreme_and_half_precision_logits_stay_finite(loss):
    logits = torch.tensor([-300.0, -20.0, 0.0, 20.0, 300.0], dtype=torch.float16, requires_grad=True)
    for target in (0.0, 0.5, 1.0):
        result = loss(logits, torch.full((5,), target))
        assert result.dtype == torch.float32 and result.isfinite().all()
        assert torch.autograd.grad(result.sum(), logits)[0].isfinite().all()


def test_keep_scale_moves_the_loss_but_not_its_sum():
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    scaled = keep_scale(losses, torch.tensor([3.0, 1.0, 0.0]))
    torch.testing.assert_close(scaled, torch.tensor([3.6, 2.4, 0.0]))
    torch.testing.assert_close(torch.autograd.grad(scaled.sum(), losses)[0], torch.tensor([3.6, 1.2, 0.0]))
    assert keep_scale(torch.zeros(2), torch.ones(2)).tolist() == [0.0, 0.0]


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        focal_loss(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="2 bins"):
        distribution_focal_loss(torch.zeros(3, 1), torch.zeros(3))
