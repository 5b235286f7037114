"""What the network says of a pair: focal costs against torchvision's loss, saturated scores, no table of classes."""

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from labelkit import Predictions, Priors
from labelkit.assigners.ground_truths import collect
from labelkit.assigners.predicted import focal_of_background, focal_of_class
from labelkit.search.candidates import Pairs
from tests.strategies import target_of


def costs(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[P] as background, [P, 3] as each of three ground truths, of classes 0, 1 and 2."""
    P = len(scores)
    gts = collect([target_of(torch.tensor([[0.0, 0, 9, 9]] * 3))], Priors.from_boxes(torch.zeros(P, 4)))
    pairs = Pairs(torch.arange(P).repeat_interleave(3), torch.arange(3).repeat(P), torch.zeros(3 * P))
    seen = Predictions(torch.zeros(1, P, 4), scores[None])
    background = focal_of_background(torch.arange(P), seen)
    return background, background[:, None] + focal_of_class(pairs, gts, seen).view(P, 3)


@pytest.mark.parametrize("classes", [3, 80])
def test_equal_to_torchvisions_loss_summed_over_the_classes(classes):
    logits = 4 * torch.randn(50, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    background, of_class = costs(logits.sigmoid())
    wanted = sigmoid_focal_loss(logits, torch.zeros_like(logits)).sum(dim=1)
    torch.testing.assert_close(background, wanted, rtol=1e-6, atol=1e-9)
    for c in range(3):
        one_hot = torch.zeros_like(logits)
        one_hot[:, c] = 1
        wanted = sigmoid_focal_loss(logits, one_hot).sum(dim=1)
        torch.testing.assert_close(of_class[:, c], wanted, rtol=1e-6, atol=1e-9)


def test_the_published_values():
    """Spec 10: z = -2 .. 2, target 1 and target 0."""
    scores = torch.linspace(-2, 2, 5).sigmoid()[:, None].repeat(1, 3)
    background, of_class = costs(scores)
    absent = torch.tensor([0.0013527, 0.0169935, 0.1299651, 0.5264013, 1.2375586])
    present = torch.tensor([0.4125196, 0.1754671, 0.0433217, 0.0056645, 0.0004509])
    torch.testing.assert_close(background, 3 * absent, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(of_class[:, 1], 2 * absent + present, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_scores_cost_much_and_not_infinitely(dtype):
    background, of_class = costs(torch.tensor([[0.0, 0, 0], [1, 1, 1]], dtype=dtype))
    assert background.isfinite().all() and of_class.isfinite().all()
    assert background[0] == 0 and background[1] > 30
    assert (of_class[0] > 20).all() and (of_class[1] < background[1]).all()
