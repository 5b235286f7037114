"""`explain` says what led to the labels, for every rule, and cannot say anything else than the labels do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import Predictions, Priors
from labelkit.assigners import ASSIGNERS, ATSS, FCOS, RKA, MaxIoU, TopK
from labelkit.similarity import iou
from tests.assigners.test_all import ARGUMENTS, GOOD, anchors, build, every, predictions, target
from tests.assigners.test_regions import REGION, with_regions
from tests.strategies import batches, scenes

OWN_BAR = (
    "topk",
    "rka",
    "rfla",
    "noisy_anchors",
    "paa",
    "ota",
    "dcfl",
    "hungarian",
    "poto",
)  # ranks, shares: the bar is the least value that was chosen


# of priors; the other rules refuse points
KINDS = dict.fromkeys(("fcos", "atss", "ota", "tal", "simota", "dsl", "hungarian", "poto"), "any")


def couples(pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.prior.tolist(), pairs.gt.tolist(), strict=True))


def seen_of(priors: Priors) -> Predictions:
    return Predictions(priors.boxes, torch.full((len(priors), 3), 0.5))


@pytest.mark.parametrize("name", ASSIGNERS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_an_explanation_is_that_of_the_labels(name, data):
    scene = data.draw(scenes(KINDS.get(name, "boxes")))
    priors, rule = scene.priors, ASSIGNERS[name](**ARGUMENTS.get(name, {}))
    labels, found = (ask(priors, scene.target, seen_of(priors)) for ask in (rule, rule.explain))
    for field in ("gt", "similarity", "score_target", "weight"):
        assert torch.equal(getattr(labels, field), getattr(found.assignment, field))
    prior, gt = labels.pairs()
    assert couples(found.winners) == set(zip(prior.tolist(), gt.tolist(), strict=True))
    assert torch.equal(labels.similarity[found.winners.prior], found.winners.value)
    lost = couples(found.chosen) - couples(found.winners)
    assert couples(found.losers) == lost
    assert torch.equal(found.taken_by, labels.gt[found.losers.prior])
    assert couples(found.chosen) <= couples(found.candidates)
    assert found.bar.shape == (len(scene.boxes),)
    assert (found.chosen.value >= found.bar[found.chosen.gt].to(found.chosen.value.dtype) - 1e-6).all()
    if name in OWN_BAR:
        chose = torch.bincount(found.chosen.gt, minlength=len(scene.boxes)) > 0
        assert torch.equal(found.bar.isfinite(), chose)


@every
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_a_batch_has_one_explanation_an_image(name, data):
    batch = data.draw(batches(KINDS.get(name, "boxes")))
    priors, rule = batch.priors, build(name)
    seen = seen_of(priors)
    many = Predictions(*(x.expand(len(batch.boxes), *x.shape) for x in (seen.boxes, seen.scores)))
    together = rule.explain(priors, batch.targets, many)
    assert len(together) == len(batch.boxes)
    for one, image in zip(together, batch.targets, strict=True):
        alone = rule.explain(priors, image, seen)
        assert torch.equal(one.bar, alone.bar) and torch.equal(one.assignment.gt, alone.assignment.gt)
        for part in ("candidates", "chosen", "winners", "losers"):
            assert couples(getattr(one, part)) == couples(getattr(alone, part))


@every
def test_flagged_boxes_are_no_part_of_it(name):
    priors = anchors()
    found = build(name).explain(priors, with_regions(target(GOOD), REGION, first=True), predictions(priors))
    assert found.bar.shape == (2,) and found.bar[0] == torch.inf
    assert set(found.candidates.gt.tolist()) == {1} and found.assignment.ignored.any()


@every
def test_nothing_to_explain(name):
    priors = anchors()
    found = build(name).explain(priors, target(), predictions(priors))
    assert len(found.candidates) == len(found.chosen) == len(found.winners) == len(found.losers) == len(found.bar) == 0
    nothing = Priors.from_boxes(torch.zeros(0, 4), (0,), (8.0,))
    found = build(name).explain(nothing, target(GOOD), predictions(nothing))
    assert len(found.candidates) == 0 and found.bar.shape == (1,)


def test_the_bar_of_atss_is_mean_plus_deviation_of_its_candidates():
    priors = anchors()
    found = ATSS(k=4).explain(priors, target(GOOD, (33.0, 40, 60, 51)))
    for gt in range(2):
        value = found.candidates.value[found.candidates.gt == gt].double()
        assert len(value) == 8  # four a level
        assert float(found.bar[gt]) == pytest.approx(float(value.mean() + value.std()), abs=1e-9)


def test_the_bar_of_max_iou_is_the_threshold_or_what_the_low_quality_rule_made_of_it():
    priors, objects = anchors(), target((4.0, 4, 20, 20), (40, 40, 46, 46))
    best = iou(priors.boxes[:, None], objects["boxes"][None]).amax(dim=0)
    assert best[0] == 1 and best[1] < 0.5
    assert MaxIoU().explain(priors, objects).bar.tolist() == [0.5, pytest.approx(float(best[1]))]
    strict = MaxIoU(allow_low_quality_matches=False).explain(priors, objects)
    assert strict.bar.tolist() == [0.5, 0.5] and not (strict.chosen.gt == 1).any()


def test_fcos_shows_the_points_inside_that_stand_on_another_level():
    priors = Priors.points((64, 64), (8, 16))
    found = FCOS(regress_ranges=((0, 16), (16, 1e9))).explain(priors, target((0.0, 0, 20, 20)))
    assert {0, 1} == set(priors.levels[found.candidates.prior].tolist())
    assert set(priors.levels[found.chosen.prior].tolist()) == {0}
    assert len(found.candidates) > len(found.chosen)


def test_a_story_names_the_rival():
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10]]))
    found = TopK(1).explain(priors, target((0, 0, 10, 10), (0, 0, 10, 9), (40, 40, 50, 50)))
    assert found.story(0) == "Ground truth 0: 1 candidate, the best value 1, bar 1.\n1 chosen, 1 of them won."
    assert found.story(1).endswith("1 chosen, 0 of them won.\nPrior 0 (0.9) went to ground truth 0.")
    assert found.story(2) == "Ground truth 2: no prior was a candidate."
    with pytest.raises(ValueError, match="gt must be an index below 3, got 3"):
        found.story(3)


def test_the_ignored_of_a_rule_are_in_its_assignment():
    priors = anchors()
    rule = RKA(1, iou, bg_thresh=0.3)
    assert torch.equal(rule.explain(priors, target(GOOD)).assignment.ignored, rule(priors, target(GOOD)).ignored)
