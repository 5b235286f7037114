"""PAA against its slow loop in both readings, the published examples, and scikit-learn's mixture as its peer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import Predictions, Priors
from labelkit.assigners import PAA
from labelkit.assigners.mixture import fit
from labelkit.assigners.paa import below_the_bar
from tests import oracles, oracles_mixtures
from tests.assigners.paths import PATHS, path
from tests.assigners.test_mixture import KINDS, padded, peers
from tests.assigners.test_mixture import rows as score_rows
from tests.strategies import batches, predictions_for, scenes, stacked, target_of

VARIANTS = ("official", "mmdet")
rules = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1, 2, 9, 500]),
        "iou_thresh": st.sampled_from([0.1, 0.3]),
        "variant": st.sampled_from(VARIANTS),
    }
)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(data=st.data(), scene=scenes("boxes"), rules=rules)
def test_equals_the_slow_loop(way, data, scene, rules):
    predictions = data.draw(predictions_for(scene.priors, scene.boxes))
    with path(way, scene.priors) as priors:
        answer = PAA(**rules)(priors, scene.target, predictions)
    oracles.assert_same(answer, oracles_mixtures.paa(scene.priors, scene.target, predictions, **rules))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), batch=batches("boxes"), rules=rules)
def test_a_batch_is_its_images(way, data, batch, rules):
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = PAA(**rules)(priors, batch.targets, stacked(each))
    for image, target in enumerate(batch.targets):
        wanted = oracles_mixtures.paa(batch.priors, target, each[image], **rules)
        oracles.assert_same(together[image], wanted)


def passed(scores: list[float], variant: str) -> list[int]:
    found = below_the_bar(*padded([torch.tensor(scores, dtype=torch.float64)], width=len(scores) + 2), variant)
    return found[0].nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("scores", "official", "mmdet"),
    [
        ([0.3, 0.35, 0.4, 0.5, 1.8, 2, 2.1, 2.4, 3], [0, 1, 2], [0, 1, 2]),  # spec, section 5
        ([1, 1, 1], [0], [0]),  # all of component 0 and equally likely
        ([0.5, 2], [0], [0]),
        ([1, 1.0001], [0], [0]),  # "full" and "diag" of scikit-learn differ here: both are equally likely
        ([1, 1.2, 3, 3.1, 3.4, 3.9], [0], [0]),  # two members about their mean are equally likely: the lower
        ([1], [0], []),
        ([], [], []),
        ([1.0026, 1.0044, 1.0045], [0, 1, 2], []),  # collapsed: component 0 is empty
        ([0.021, 0.564, 0.621, 0.628, 0.692, 1.543], [0, 1, 2, 3], [1, 2, 3]),  # the broad component 1 has both ends
        ([0.45, 1.09, 1.16, 1.2, 1.25, 1.8], [0, 1, 2, 3, 4, 5], [0, 5]),  # component 0 has: the worst is the bar
    ],
)
def test_the_readings(scores, official, mmdet):
    assert passed(scores, "official") == official
    assert passed(scores, "mmdet") == mmdet
    for variant, wanted in (("official", official), ("mmdet", mmdet)):
        assert oracles_mixtures.positives_of_scores([float(s) for s in scores], variant) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_the_positives_are_those_of_scikit_learn(kind):
    made = score_rows(kind, 60, seed=4)
    table, valid = padded(made)
    joint, compared, differ = fit(table, valid).log_joint(table), 0, 0
    found = {variant: below_the_bar(table, valid, variant) for variant in VARIANTS}
    for row, value in enumerate(made):
        own = joint[:, row, : len(value)]
        if bool(((own[0] - own[1]).abs() < 1e-8).any()):
            continue  # a rounding decides which component is likelier
        model, numbers = peers(value), value.numpy()[:, None]
        first, likelihood = torch.from_numpy(model.predict(numbers) == 0), model.score_samples(numbers)
        likelihood = torch.from_numpy(likelihood).masked_fill(~first, -torch.inf)
        # The peer takes any of the values that are equally likely but for a rounding, we take the lowest.
        bar = int((likelihood >= likelihood.max() - 1e-9).nonzero()[0])
        upto = (torch.arange(len(value)) <= bar) | (not bool(first.any()))
        for variant, wanted in (("official", upto), ("mmdet", upto & first)):
            assert torch.equal(found[variant][row, : len(value)], wanted), (variant, value)
            assert not found[variant][row, len(value) :].any()
        compared, differ = compared + 1, differ + int(not torch.equal(upto, upto & first))
    assert compared >= 50 and (differ > 10 or kind != "with two ends")


def example(device="cpu"):
    """One object, four anchors on it and one elsewhere; two predictions are good, two are bad."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 2, 10, 12], [3, 3, 13, 13], [50, 50, 60, 60]])
    decoded = torch.tensor([[0.0, 0, 10, 9.9], [0, 0, 10, 9], [30, 30, 40, 40], [5, 5, 30, 30], [0, 0, 10, 10]])
    scores = torch.tensor([[0.9, 0, 0], [0.8, 0, 0], [0.1, 0.5, 0.2], [0.3, 0, 0], [1, 0, 0]])
    target = {key: value.to(device) for key, value in target_of(torch.tensor([[0.0, 0, 10, 10]])).items()}
    return Priors.from_boxes(boxes.to(device)), target, Predictions(decoded.to(device), scores.to(device))


def test_good_predictions_are_told_from_bad_ones(device):
    """The fifth prior is predicted perfectly and overlaps nothing: it is no candidate."""
    for variant in VARIANTS:
        answer = PAA(variant=variant)(*example(device))
        assert answer.gt.tolist() in ([0, 0, -1, -1, -1], [0, -1, -1, -1, -1])
        assert answer.similarity[0].item() == pytest.approx(0.99) and answer.similarity[4] == 0


def test_one_candidate_is_positive_in_one_reading_and_background_in_the_other():
    priors, target, predictions = example()
    alone = Priors.from_boxes(priors.boxes[[0, 4]])
    seen = Predictions(predictions.boxes[[0, 4]], predictions.scores[[0, 4]])
    assert PAA()(alone, target, seen).gt.tolist() == [0, -1]
    assert PAA(variant="mmdet")(alone, target, seen).gt.tolist() == [-1, -1]


def test_who_gets_a_low_quality_match_depends_on_the_reading():
    """Prior 0 is the best of object 1, and overlaps object 0 more."""
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [0, 0, 10, 12]]))
    target = target_of(torch.tensor([[0.0, 0, 10, 14], [0, 0, 2, 3]]))
    seen = Predictions(priors.boxes, torch.full((3, 3), 0.5))
    owned = {variant: PAA(variant=variant).explain(priors, target, seen).candidates for variant in VARIANTS}
    assert owned["official"].gt.tolist() == [0, 0, 0]
    assert sorted(zip(owned["mmdet"].prior.tolist(), owned["mmdet"].gt.tolist(), strict=True))[0] == (0, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_decoded_box_of_infinite_area_is_a_bad_one_and_no_nan(variant):
    """A score of NaN would decide for all candidates of the ground truth."""
    priors, target, predictions = example()
    found = []
    for far in (1e6, 1e20, 3e38):
        boxes = predictions.boxes.clone()
        boxes[3] = torch.tensor([-far, -far, far, far])
        answer = PAA(variant=variant).explain(priors, target, Predictions(boxes, predictions.scores))
        assert bool(answer.candidates.value.isfinite().all())
        found.append(answer.assignment.gt.tolist())
    assert found[0] == found[1] == found[2] and 0 < found[0].count(0) < 4


def test_only_the_k_cheapest_of_a_level_are_asked():
    priors, target, predictions = example()
    two = Priors.from_boxes(priors.boxes, level_sizes=(2, 3))
    found = PAA(k=1).explain(two, target, predictions)
    assert sorted(found.candidates.prior.tolist()) == [0, 3]  # each the cheaper one of its level
    value = dict(zip(found.candidates.prior.tolist(), found.candidates.value.tolist(), strict=True))
    assert value[0] > value[3] and found.bar.tolist() == [pytest.approx(value[0])]


@pytest.mark.parametrize("score", [0.0, 1.0])
@pytest.mark.parametrize("variant", VARIANTS)
def test_collapsed_and_saturated_scores_never_raise(score, variant):
    priors, target, _ = example()
    for decoded in (priors.boxes, target["boxes"].repeat(5, 1), torch.zeros(5, 4)):
        answer = PAA(variant=variant)(priors, target, Predictions(decoded, torch.full((5, 3), score)))
        assert answer.similarity.isfinite().all() and not answer.positive[4]


def test_half_precision_predictions_are_read_as_numbers():
    priors, target, predictions = example()
    half = Predictions(predictions.boxes.half(), predictions.scores.half())
    whole = Predictions(half.boxes.float(), half.scores.float())
    oracles.assert_same(PAA()(priors, target, half), oracles_mixtures.paa(priors, target, whole))


def test_identical_ground_truths_and_more_of_them_than_priors():
    """Max-IoU gives every prior to the first of them."""
    priors, target, predictions = example()
    crowd = target_of(target["boxes"].repeat(7, 1)) | {"labels": torch.zeros(7, dtype=torch.int64)}
    once, many = PAA()(priors, target, predictions), PAA()(priors, crowd, predictions)
    assert torch.equal(once.gt, many.gt) and many.positives_per_gt(7)[1:].sum() == 0


def test_what_is_wrong_is_named(unchecked):
    with pytest.raises(ValueError, match="variant must be 'official' or 'mmdet', got 'paper'"):
        PAA(variant="paper")
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        PAA(k=0)
    with pytest.raises(ValueError, match="iou_thresh must be above 0 and finite, got 0"):
        PAA(iou_thresh=0)
