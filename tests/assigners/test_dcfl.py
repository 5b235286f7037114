"""DCFL against its slow loop, the examples of both readings, and what the authors' code does otherwise."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import IGNORED, NEGATIVE, Predictions, Priors
from labelkit.assigners import DCFL
from labelkit.similarity import gjsd, nwd
from tests import oracles, oracles_mixtures
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, predictions_for, scenes, stacked, target_of

rules = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1, 4, 16, 500]),
        "q": st.sampled_from([1, 3, 12, 500]),
        "gate": st.sampled_from([0.6, 0.8, 5.0]),
        "mix": st.sampled_from([0.7, 0.0, 1.0]),
        "similarity": st.sampled_from([gjsd, partial(nwd, constant=12.8)]),
        "bg_thresh": st.sampled_from([0.8, 0.5]),
    }
)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(data=st.data(), scene=scenes("boxes"), rules=rules)
def test_equals_the_slow_loop(way, data, scene, rules):
    predictions = data.draw(predictions_for(scene.priors, scene.boxes))
    with path(way, scene.priors) as priors:
        answer = DCFL(**rules)(priors, scene.target, predictions)
    oracles.assert_same(answer, oracles_mixtures.dcfl(scene.priors, scene.target, predictions, **rules))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), batch=batches("boxes"), rules=rules)
def test_a_batch_is_its_images(way, data, batch, rules):
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = DCFL(**rules)(priors, batch.targets, stacked(each))
    for image, target in enumerate(batch.targets):
        oracles.assert_same(together[image], oracles_mixtures.dcfl(batch.priors, target, each[image], **rules))


def boxes_of(*rows: tuple[float, float, float, float]) -> torch.Tensor:
    """From centre and size."""
    row = torch.tensor(rows)
    return torch.cat((row[:, :2] - row[:, 2:] / 2, row[:, :2] + row[:, 2:] / 2), dim=1)


PAIR = ((21.0, 19, 14, 10), (43.0, 37, 12, 18))
AT_ONE_PLACE = ((21.0, 19, 14, 10), (21.5, 19, 14, 10))


def example(rows=PAIR, labels=(0, 1), device="cpu") -> tuple[Priors, dict[str, torch.Tensor], Predictions]:
    """The scene of spec 7.2: priors of 4 strides without an offset; every box is predicted 1 px off, two classes."""
    priors = Priors.anchors((64, 64), (8, 16, 32), ((32.0,), (64.0,), (128.0,)), offset=0)
    center = priors.centers + torch.tensor([1.0, -1])
    scores = ((priors.centers - torch.tensor([30.0, 20])) / 20).sigmoid()
    target = {"boxes": boxes_of(*rows).to(device), "labels": torch.tensor(labels[: len(rows)], device=device)}
    decoded = torch.cat((center - 7, center + 7), dim=1)
    return priors.to(device), target, Predictions(decoded.to(device), scores.to(device))


def positives(gt: torch.Tensor | list[int]) -> dict[int, list[int]]:
    gt = list(map(int, gt))
    return {g: [p for p, owner in enumerate(gt) if owner == g] for g in sorted({g for g in gt if g >= 0})}


def test_the_published_example(device):
    """Spec 7.3: 14 and 16 coarse, 12 and 12 medium; the class of the ground truth counts."""
    answer = DCFL()(*example(device=device))
    assert positives(answer.gt) == {0: [18, 19], 1: [37, 38, 45, 46]}
    assert answer.ignored.sum() == 0
    assert positives(DCFL()(*example(labels=(1, 1), device=device)).gt)[0] == [18, 19, 26]
    everywhere = DCFL(gate=1e6)(*example(device=device))
    assert everywhere.positives_per_gt(2).tolist() == [12, 12]
    assert DCFL(gate=1e6, q=99)(*example(device=device)).positives_per_gt(2).tolist() == [14, 16]


def test_the_authors_code_on_the_same_scene():
    """Spec 7.2. Its class score is the highest of any class, so prior 27 survives and the labels don't matter."""
    found = oracles_mixtures.dcfl_authors(*example())
    assert [[labels.count(g) for g in (0, 1)] for labels in found] == [[14, 16], [12, 12], [3, 4]]
    assert positives(found.fine) == {0: [18, 19, 27], 1: [37, 38, 45, 46]}
    assert oracles_mixtures.dcfl_authors(*example(labels=(1, 1))) == found


@pytest.mark.parametrize("q", [4, 12])
def test_the_authors_code_fills_one_list_with_anothers_rejects(q):
    """Two objects at one place: the first keeps one coarse prior, and its list restores what the second's dropped."""
    both = oracles_mixtures.dcfl_authors(*example(AT_ONE_PLACE), q=q)
    assert [both.coarse.count(g) for g in (0, 1)] == [1, 16]
    alone = oracles_mixtures.dcfl_authors(*example(AT_ONE_PLACE[1:]), q=q)
    assert alone.medium.count(0) == q < both.medium.count(1)
    clean = DCFL(q=q, gate=1e6)(*example(AT_ONE_PLACE)).positives_per_gt(2)
    assert (clean <= q).all() and clean[1] <= both.coarse.count(1)


def test_a_candidate_that_fails_is_negative_and_a_similar_prior_that_is_none_is_ignored():
    """Nine equal priors on the object, of which two are candidates and one survives."""
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10]] * 9 + [[40.0, 40, 50, 50]]))
    predictions = Predictions(priors.boxes, torch.linspace(0, 0.9, 10)[:, None].repeat(1, 3))
    answer = DCFL(k=2, q=1)(priors, target_of(torch.tensor([[0.0, 0, 10, 10]])), predictions)
    assert answer.gt.tolist() == [NEGATIVE, 0, *[IGNORED] * 7, NEGATIVE]
    open_gate = DCFL(k=2, q=1, bg_thresh=1.1)(priors, target_of(torch.tensor([[0.0, 0, 10, 10]])), predictions)
    assert open_gate.gt.tolist() == [NEGATIVE, 0, *[NEGATIVE] * 8]


def test_the_gate_is_a_mean_of_two_gaussians():
    """One prior, dx = 2 from the centre of a 10 px box and nothing from the mean of the priors, which it is."""
    priors = Priors.from_boxes(torch.tensor([[2.0, 0, 12, 10]]))
    target, seen = target_of(torch.tensor([[0.0, 0, 10, 10]])), Predictions(priors.boxes, torch.full((1, 3), 0.5))
    value = 0.7 * torch.exp(torch.tensor(-0.5 * (2 / 5) ** 2, dtype=torch.float64)) + 0.3
    needed = float(-value.log())
    for gate, survives in ((needed + 1e-6, True), (needed - 1e-6, False)):
        assert bool(DCFL(gate=gate)(priors, target, seen).positive[0]) == survives
    assert DCFL(mix=0.0, gate=1e-9)(priors, target, seen).positive[0], "at the mean the gate is 1"


def test_losers_are_told_to_whom_and_only_about_priors_that_somebody_got():
    found = DCFL().explain(*example(AT_ONE_PLACE))
    assert (found.taken_by >= 0).all()
    got = set(found.winners.prior.tolist())
    assert set(found.losers.prior.tolist()) <= got and len(found.losers) > 0
    assert len(found.candidates) == 32


def test_identical_ground_truths_and_more_of_them_than_priors():
    """The lower index wins every prior."""
    priors, target, predictions = example(PAIR[:1])
    crowd = {"boxes": target["boxes"].repeat(100, 1), "labels": torch.zeros(100, dtype=torch.int64)}
    once, many = DCFL()(priors, target, predictions), DCFL()(priors, crowd, predictions)
    assert once.positive.any() and torch.equal(once.gt, many.gt)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_equal_scores_leave_the_overlap_to_decide(score):
    priors, target, predictions = example()
    flat = Predictions(predictions.boxes, torch.full_like(predictions.scores, score))
    oracles.assert_same(DCFL()(priors, target, flat), oracles_mixtures.dcfl(priors, target, flat))
    halves = Predictions(predictions.boxes.half(), predictions.scores.half())
    floats = Predictions(halves.boxes.float(), halves.scores.float())
    assert torch.equal(DCFL()(priors, target, halves).gt, DCFL()(priors, target, floats).gt)


def test_what_is_wrong_is_named(unchecked):
    for name in ("k", "q"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
            DCFL(**{name: 0})
    for name in ("gate", "bg_thresh"):
        with pytest.raises(ValueError, match=f"{name} must be above 0 and finite, got -1"):
            DCFL(**{name: -1})
    with pytest.raises(ValueError, match=r"mix must lie in \[0, 1\], got 1.5"):
        DCFL(mix=1.5)
