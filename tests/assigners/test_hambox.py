"""HAMBox against its slow loop, and its three steps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import IGNORED, NEGATIVE, Predictions, Priors
from labelkit.assigners import HAMBox
from labelkit.similarity import iou
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, predictions_for, scenes, stacked, target_of

rules = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1, 3, 5, 50]),
        "decoded_thresh": st.sampled_from([0.8, 0.5, 0.1]),
        "fg_thresh": st.sampled_from([0.35, 0.6]),
        "ignore_thresh": st.sampled_from([0.5, 0.9]),
    }
)


def expect(assigner: HAMBox, priors: Priors, decoded: torch.Tensor, gts: torch.Tensor) -> oracles.Expected:
    return oracles.hambox(priors.boxes, decoded, gts, iou, **vars(assigner))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(data=st.data(), scene=scenes("boxes"), rules=rules)
def test_equals_the_slow_loop(way, data, scene, rules):
    assigner = HAMBox(**rules)
    predictions = data.draw(predictions_for(scene.priors, scene.boxes))
    with path(way, scene.priors) as priors:
        answer = assigner(priors, scene.target, predictions)
        oracles.assert_same(answer, expect(assigner, priors, predictions.boxes, scene.boxes))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), batch=batches("boxes"), rules=rules)
def test_a_batch_is_its_images(way, data, batch, rules):
    assigner = HAMBox(**rules)
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = assigner(priors, batch.targets, stacked(each))
        for image, boxes in enumerate(batch.boxes):
            oracles.assert_same(together[image], expect(assigner, priors, each[image].boxes, boxes))


def predict(boxes: torch.Tensor) -> Predictions:
    return Predictions(boxes, torch.zeros(len(boxes), 3, device=boxes.device))


SPREAD = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]))


def test_three_steps(device):
    """One matched, two regress onto the object and one of them is needed, one regresses nowhere."""
    object_ = torch.tensor([0.0, 0, 10, 9])
    decoded = torch.stack((object_, object_ + 0.5, object_, object_ + 50)).to(device)
    target = {"boxes": object_[None].to(device), "labels": torch.tensor([1], device=device)}
    answer = HAMBox(k=2, decoded_thresh=0.8)(SPREAD.to(device), target, predict(decoded))
    assert answer.gt.tolist() == [0, IGNORED, 0, NEGATIVE]
    assert answer.similarity.tolist() == pytest.approx([0.9, 0, 1, 0])


def test_a_compensated_prior_weighs_its_decoded_iou():
    object_ = torch.tensor([0.0, 0, 10, 9])
    decoded = torch.stack((object_, object_ + 0.5, object_ + 30, object_ + 50))
    answer = HAMBox(k=3, decoded_thresh=0.5)(SPREAD, target_of(object_[None]), predict(decoded))
    assert answer.gt.tolist() == [0, 0, NEGATIVE, NEGATIVE]
    assert answer.weight.tolist() == pytest.approx([1, iou(decoded[1], object_).item(), 1, 1])
    assert answer.score_target.tolist() == [1, 1, 0, 0]


def test_no_face_forces_a_match():
    far = torch.tensor([[0.0, 0, 3, 3]])
    answer = HAMBox(k=3, decoded_thresh=0.8)(SPREAD, target_of(far), predict(SPREAD.boxes))
    assert answer.negative.all()


def test_a_regressor_that_has_learned_nothing_compensates_nothing():
    priors = Priors.anchors((64, 64), (8,), ((16.0,),))
    target = target_of(torch.tensor([[10.0, 10, 24, 24], [40, 40, 50, 50]]))
    answer = HAMBox(k=9, decoded_thresh=0.8)(priors, target, predict(priors.boxes))
    assert bool((answer.similarity[answer.positive] >= 0.35).all())
    assert bool((answer.weight == 1).all())


def test_the_best_pair_of_the_image_goes_first():
    """Both priors fit the second object better; it has room for one, the other goes to the first object."""
    gts = torch.tensor([[100.0, 0, 110, 10], [102, 0, 112, 10]])
    decoded = torch.stack((gts[1] - 0.25, gts[1] - 0.5, gts[0] + 50, gts[0] + 60))
    answer = HAMBox(k=1, decoded_thresh=0.5)(SPREAD, target_of(gts), predict(decoded))
    assert answer.gt.tolist() == [1, 0, NEGATIVE, NEGATIVE]


def test_inverted_predictions_are_no_match():
    decoded = torch.tensor([[10.0, 10, 0, 0]] * 4)
    answer = HAMBox(k=3, decoded_thresh=0.1)(SPREAD, target_of(torch.tensor([[0.0, 0, 4, 4]])), predict(decoded))
    assert answer.negative.all()


def test_nothing_to_assign():
    answer = HAMBox(3, 0.8)(SPREAD, target_of(torch.zeros(0, 4)), predict(SPREAD.boxes))
    assert answer.negative.all()
    nothing = Priors.from_boxes(torch.zeros(0, 4))
    target = target_of(torch.tensor([[0.0, 0, 1, 1]]))
    assert len(HAMBox(3, 0.8)(nothing, target, predict(nothing.boxes)).gt) == 0


def test_what_is_missing_is_named():
    with pytest.raises(TypeError, match="decoded_thresh"):
        HAMBox(k=3)
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        HAMBox(0, 0.8)
    with pytest.raises(ValueError, match="decoded_thresh must be above 0 and finite, got 0"):
        HAMBox(3, 0)
    with pytest.raises(ValueError, match="predictions must be given"):
        HAMBox(3, 0.8)(SPREAD, target_of(torch.zeros(0, 4)))
