"""NoisyAnchors against its slow loop, and where paper and code part."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import Predictions, Priors
from labelkit.assigners import NoisyAnchors
from labelkit.similarity import iou
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, predictions_for, scenes, stacked, target_of

rules = st.one_of(
    st.fixed_dictionaries({"n": st.sampled_from([1, 3, 30, 500]), "alpha": st.sampled_from([0.75, 0.0, 1.0])}),
    st.fixed_dictionaries(
        {
            "n": st.sampled_from([1, 3, 30]),
            "alpha": st.sampled_from([0.75, 0.5]),
            "gamma": st.sampled_from([1.0, 2.0, 0.5]),
            "variant": st.just("paper"),
        }
    ),
)


def expect(assigner: NoisyAnchors, priors, predictions: Predictions, target) -> oracles.Expected:
    found = (predictions.boxes, predictions.scores, target["boxes"], target["labels"].tolist())
    return oracles.noisy_anchors(priors.boxes, *found, iou, **vars(assigner))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(data=st.data(), scene=scenes("boxes"), rules=rules)
def test_equals_the_slow_loop(way, data, scene, rules):
    assigner = NoisyAnchors(**rules)
    predictions = data.draw(predictions_for(scene.priors, scene.boxes))
    with path(way, scene.priors) as priors:
        answer = assigner(priors, scene.target, predictions)
        oracles.assert_same(answer, expect(assigner, priors, predictions, scene.target), tolerance=1e-6)


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), batch=batches("boxes"), rules=rules)
def test_a_batch_is_its_images(way, data, batch, rules):
    assigner = NoisyAnchors(**rules)
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = assigner(priors, batch.targets, stacked(each))
        for image, target in enumerate(batch.targets):
            oracles.assert_same(together[image], expect(assigner, priors, each[image], target), tolerance=1e-6)


def example(device: torch.device | str = "cpu"):
    """Two objects, four anchors; what each prediction is worth can be read off."""
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [30, 0, 40, 10], [60, 60, 70, 70]]))
    target = target_of(torch.tensor([[0.0, 0, 10, 10], [30, 0, 40, 10]]))
    boxes = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 5], [30, 0, 40, 10], [0, 0, 10, 10]])
    scores = torch.tensor([[0.9, 0.1, 0], [0.5, 0.1, 0], [0.3, 0.7, 0], [0.9, 0.9, 0]])
    target = {name: value.to(device) for name, value in target.items()}
    return priors.to(device), target, Predictions(boxes.to(device), scores.to(device))


def test_the_papers_label_is_the_plain_blend(device):
    answer = NoisyAnchors(variant="paper", gamma=2.0)(*example(device))
    assert answer.gt.tolist() == [0, 0, 1, -1]
    assert answer.score_target.tolist() == pytest.approx([0.825, 0.5, 0.925, 0])
    steep = [(0.75 * 5 + 0.25 * 10) ** 2, (0.75 * 2 + 0.25 * 2) ** 2]
    assert answer.weight[:2].tolist() == pytest.approx(steep, rel=1e-5)


def test_the_codes_label_is_stretched_from_the_mean_to_one(device):
    answer = NoisyAnchors()(*example(device))
    mean = (0.8 + 0.5 + 1.0) / 3
    label = answer.score_target[:3].tolist()
    assert min(label) == pytest.approx(mean) and max(label) == pytest.approx(1)
    assert answer.weight[:3].mean().item() == pytest.approx(1)


def test_a_single_positive_is_a_hard_label_and_no_nan():
    priors, target, predictions = example()
    target = {name: value[:1] for name, value in target.items()}
    answer = NoisyAnchors(n=1)(priors, target, predictions)
    assert answer.score_target.tolist() == [1, 0, 0, 0]
    assert answer.weight.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_perfect_and_hopeless_predictions_stay_finite(variant):
    priors, target, predictions = example()
    gts = target["boxes"][[0, 0, 1, 1]]
    perfect = Predictions(gts, torch.ones(4, 3))
    hopeless = Predictions(gts + 500, torch.zeros(4, 3))
    for worth in (perfect, hopeless):
        answer = NoisyAnchors(variant=variant)(priors, target, worth)
        assert bool(torch.isfinite(answer.weight).all() and torch.isfinite(answer.score_target).all())
        assert bool((answer.score_target >= 0).all() and (answer.score_target <= 1).all())


def test_a_prior_belongs_to_its_own_best_ground_truth_even_if_another_listed_it():
    """The prior is among the n best of the small object only, but overlaps the large one more."""
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [0, 0, 12, 10]]))
    target = target_of(torch.tensor([[0.0, 0, 12, 10], [0, 0, 4, 4]]))
    predictions = Predictions(priors.boxes, torch.full((2, 3), 0.5))
    answer = NoisyAnchors(n=1)(priors, target, predictions)
    assert answer.gt.tolist() == [0, 0]
    assert answer.positives_per_gt(2).tolist() == [2, 0]


def test_no_gradient_flows_through_the_assignment():
    priors, target, predictions = example()
    predictions = Predictions(predictions.boxes.requires_grad_(), predictions.scores.requires_grad_())
    answer = NoisyAnchors()(priors, target, predictions)
    assert not answer.score_target.requires_grad and not answer.weight.requires_grad


def test_nothing_to_assign():
    priors, target, predictions = example()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert NoisyAnchors()(priors, empty, predictions).negative.all()
    nothing = Priors.from_boxes(torch.zeros(0, 4))
    none = Predictions(torch.zeros(0, 4), torch.zeros(0, 3))
    assert len(NoisyAnchors()(nothing, target, none).gt) == 0


def test_what_is_wrong_is_named(unchecked):
    with pytest.raises(ValueError, match="variant must be 'official' or 'paper', got 'code'"):
        NoisyAnchors(variant="code")
    with pytest.raises(ValueError, match="gamma must be 1 in the official variant"):
        NoisyAnchors(gamma=2)
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\], got 1.5"):
        NoisyAnchors(alpha=1.5)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        NoisyAnchors(n=0)
    priors, target, predictions = example()
    with pytest.raises(ValueError, match=r"target\['labels'\] must be given"):
        NoisyAnchors()(priors, {"boxes": target["boxes"]}, predictions)
