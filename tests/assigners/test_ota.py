"""OTA against the dense table of its published form, on every path; what ground truths without a chance get."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import OTA
from tests import oracles, oracles_mixtures
from tests.assigners.paths import PATHS, path
from tests.assigners.test_regions import with_regions
from tests.strategies import batches, predictions_for, scenes, stacked, target_of

rules = st.fixed_dictionaries(
    {
        "eps": st.sampled_from([0.1, 0.5]),
        "iterations": st.sampled_from([1, 10, 50]),
        "iou_weight": st.sampled_from([1.5, 0.5]),
        "k": st.sampled_from([1, 3, 20]),
        "radius": st.sampled_from([0.5, 1.5, 2.5, 100.0]),
        "min_side": st.sampled_from([None, 8.0]),
    }
)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(data=st.data(), scene=scenes(), rules=rules)
def test_equals_the_dense_table(way, data, scene, rules):
    predictions = data.draw(predictions_for(scene.priors, scene.boxes))
    with path(way, scene.priors) as priors:
        answer = OTA(**rules)(priors, scene.target, predictions)
    oracles.assert_same(answer, oracles_mixtures.ota(scene.priors, scene.target, predictions, **rules))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), batch=batches(), rules=rules)
def test_a_batch_is_its_images(way, data, batch, rules):
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = OTA(**rules)(priors, batch.targets, stacked(each))
    for image, target in enumerate(batch.targets):
        wanted = oracles_mixtures.ota(batch.priors, target, each[image], **rules)
        oracles.assert_same(together[image], wanted)


def points() -> Priors:
    """64 points 8 px apart."""
    return Priors.points((64, 64), (8,))


def seen(priors: Priors, box: tuple, score: float = 0.5) -> Predictions:
    """Every prior predicts the same."""
    boxes = torch.tensor([box], dtype=torch.float32).repeat(len(priors), 1).to(priors.device)
    return Predictions(boxes, torch.full((len(priors), 3), score, device=priors.device))


MIDDLE = (12.0, 12, 52, 52)


def test_only_the_middle_of_an_object_is_asked(device):
    priors = points().to(device)
    target = {key: value.to(device) for key, value in target_of(torch.tensor([MIDDLE])).items()}
    found = OTA().explain(priors, target, seen(priors, MIDDLE))
    offset = (priors.centers[found.candidates.prior] - 32).abs().amax(dim=1)
    assert len(found.candidates) == 16 and (offset < 20).all()  # 2.5 strides; there are 25 inside


def test_a_prior_on_the_border_by_a_hundredth_of_a_pixel_is_no_candidate():
    """Its centre is 4 px from the corner."""
    priors = points()
    for inside, expected in ((0.02, 1), (0.005, 0)):
        box = (4 - inside, 4 - inside, 9, 9)
        found = OTA().explain(priors, target_of(torch.tensor([box])), seen(priors, box))
        assert len(found.candidates) == expected


def test_dynamic_k_is_the_sum_of_the_best_overlaps_rounded_down():
    """Every prior predicts the object with IoU 1: it supplies as many as it has candidates, up to k."""
    priors, target = points(), target_of(torch.tensor([MIDDLE]))
    good = seen(priors, MIDDLE)
    good.scores[:, 1:] = 0.01
    good.scores[:, 0] = 0.5
    assert OTA()(priors, target, good).positive.sum() == 16
    # With equal priors a share is 1 for all of them whatever is supplied: only the background's share speaks against.
    good.scores[:, 0] = torch.linspace(0.2, 0.6, 64)
    count = [int(OTA(k=k)(priors, target, good).positive.sum()) for k in (1, 4, 8, 16)]
    assert count == sorted(count) and count[0] < count[-1] == 16


def test_a_ground_truth_without_a_feasible_prior_gets_nothing_and_changes_nothing():
    """In the published code it ships one unit at a price of 1e6, to a prior that rounding chooses."""
    priors, small = points(), (9.0, 9, 11, 11)
    target = target_of(torch.tensor([MIDDLE, small, (500, 500, 600, 600)]))
    answer = OTA()(priors, target, seen(priors, MIDDLE))
    assert answer.positives_per_gt(3).tolist() == [16, 0, 0]
    alone = OTA()(priors, target_of(torch.tensor([MIDDLE])), seen(priors, MIDDLE))
    assert torch.equal(answer.gt, alone.gt)
    found = OTA().explain(priors, target, seen(priors, MIDDLE))
    assert found.story(1) == "Ground truth 1: no prior was a candidate."
    floored = OTA(min_side=8)(priors, target, seen(priors, MIDDLE))
    assert floored.positives_per_gt(3).tolist() == [16, 1, 0]


def test_of_two_equal_ground_truths_the_second_gets_nothing():
    """Their rows are equal: every share is a tie, and the lower one wins. The loser is told to whom."""
    priors, twins = points(), target_of(torch.tensor([MIDDLE, MIDDLE])) | {"labels": torch.tensor([1, 1])}
    assert OTA()(priors, twins, seen(priors, MIDDLE)).positives_per_gt(2).tolist() == [16, 0]
    found = OTA().explain(priors, twins, seen(priors, MIDDLE))
    assert len(found.losers) == 16 and found.losers.gt.tolist() == [1] * 16 and set(found.taken_by.tolist()) == {0}
    generator = torch.Generator().manual_seed(0)
    noisy = Predictions(
        seen(priors, MIDDLE).boxes + 4 * torch.randn(64, 4, generator=generator),
        torch.rand(64, 3, generator=generator),
    )
    once = OTA()(priors, twins, noisy).positives_per_gt(2).tolist()
    assert once[0] > 0 and once[1] == 0


def test_one_candidate():
    priors, box = points(), (1.0, 1, 7, 7)
    answer = OTA()(priors, target_of(torch.tensor([box])), seen(priors, box))
    assert answer.gt.tolist() == [0] + [NEGATIVE] * 63 and answer.similarity[0] == 1


@pytest.mark.parametrize("score", [0.0, 1.0, 1e-30])
@pytest.mark.parametrize("box", [MIDDLE, (0.0, 0, 0, 0), (9.0, 9, 1, 1), (900.0, 900, 950, 950)])
def test_saturated_scores_and_hopeless_boxes_are_no_exception(score, box):
    priors, target = points(), target_of(torch.tensor([MIDDLE, (0.0, 0, 30, 30)]))
    answer = OTA()(priors, target, seen(priors, box, score))
    assert answer.similarity.isfinite().all()
    wanted = oracles_mixtures.ota(priors, target, seen(priors, box, score))
    oracles.assert_same(answer, wanted)


def test_more_ground_truths_than_priors():
    """Four priors, nine objects that all want them: the background has nothing left to supply."""
    priors = Priors.points((16, 16), (8,))
    generator = torch.Generator().manual_seed(1)
    boxes = torch.tensor([[0.0, 0, 16, 16]]) + torch.rand(9, 4, generator=generator)
    predictions = Predictions(boxes[:4], torch.rand(4, 3, generator=generator))
    answer = OTA()(priors, target_of(boxes), predictions)
    assert answer.positive.all()
    oracles.assert_same(answer, oracles_mixtures.ota(priors, target_of(boxes), predictions))


def test_half_precision_predictions_are_read_as_numbers():
    priors, target = points(), target_of(torch.tensor([MIDDLE]))
    generator = torch.Generator().manual_seed(2)
    half = Predictions(
        (seen(priors, MIDDLE).boxes + torch.randn(64, 4, generator=generator)).half(),
        torch.rand(64, 3, generator=generator).half(),
    )
    whole = Predictions(half.boxes.float(), half.scores.float())
    assert torch.equal(OTA()(priors, target, half).gt, OTA()(priors, target, whole).gt)


def test_a_flagged_region_supplies_nothing():
    """A region on top of the object takes none of its priors; priors in it that are not positive are ignored."""
    priors, target = points(), target_of(torch.tensor([(0.0, 0, 24, 24)]))
    answer = OTA()(priors, with_regions(target, MIDDLE), seen(priors, (0.0, 0, 24, 24)))
    plain = OTA()(priors, target, seen(priors, (0.0, 0, 24, 24)))
    assert torch.equal(answer.positive, plain.positive) and answer.ignored.sum() > 10


def test_a_share_is_what_the_explanation_shows():
    priors = points()
    found = OTA().explain(priors, target_of(torch.tensor([MIDDLE])), seen(priors, MIDDLE))
    assert found.candidates.value.max() == 1 and (found.candidates.value >= 0).all()
    assert (found.winners.value == 1).all(), "the IoU of the decoded box"


def test_what_is_wrong_is_named(unchecked):
    for name, value in (("eps", 0), ("iou_weight", -1), ("radius", 0)):
        with pytest.raises(ValueError, match=f"{name} must be above 0 and finite, got {value}"):
            OTA(**{name: value})
    for name in ("iterations", "k"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
            OTA(**{name: 0})
    with pytest.raises(ValueError, match="min_side must be"):
        OTA(min_side=0)
    priors = Priors.from_boxes(points().boxes)
    with pytest.raises(ValueError, match="priors have no strides"):
        OTA()(priors, target_of(torch.tensor([MIDDLE])), seen(priors, MIDDLE))
