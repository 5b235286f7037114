"""DynamicSoftLabel, both rules of that name, against their slow loops and on the scene that tells them apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import DynamicSoftLabel
from labelkit.losses import quality_focal_loss
from tests import oracles, oracles_dynamic
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, predictions_for, scenes, stacked

BOTH = ("mmdet", "mmyolo")
rules = st.builds(
    DynamicSoftLabel,
    k=st.sampled_from([1, 3, 13, 500]),
    variant=st.sampled_from(BOTH),
    iou_weight=st.sampled_from([3.0, 0.5]),
    radius=st.sampled_from([3.0, 0.4]),
    min_side=st.sampled_from([None, 16.0]),
)


def expect(rule: DynamicSoftLabel, priors: Priors, strides, predictions: Predictions, target) -> oracles.Expected:
    found = (predictions.boxes, predictions.scores, target["boxes"], target["labels"].tolist())
    return oracles_dynamic.dynamic_soft_label(priors.centers, priors.levels, strides, *found, **vars(rule))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=30)
@given(data=st.data(), scene=scenes(max_side=64), rule=rules)
def test_equals_the_slow_loop(way, data, scene, rule):
    predictions = data.draw(predictions_for(scene.priors, scene.boxes))
    wanted = expect(rule, scene.priors, scene.level_strides, predictions, scene.target)
    with path(way, scene.priors) as priors:
        oracles.assert_same(rule(priors, scene.target, predictions), wanted)


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), batch=batches(max_side=48), rule=rules)
def test_a_batch_is_its_images(way, data, batch, rule):
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = rule(priors, batch.targets, stacked(each))
        for image, target in enumerate(batch.targets):
            wanted = expect(rule, batch.priors, batch.level_strides, each[image], target)
            oracles.assert_same(together[image], wanted)


# ---------------------------------------------------------------------- the scene both rules were run on

POINTS = Priors.points((64, 64), (8, 16, 32), offset=0)
WISH = {"boxes": torch.tensor([[4.0, 4, 30, 28], [20, 10, 46, 36]]), "labels": torch.tensor([0, 1])}


def seen(boxes: torch.Tensor | None = None) -> Predictions:
    middle, half = POINTS.centers + torch.tensor([1.5, -0.5]), torch.tensor([13.0, 12.0])
    logits = torch.stack(((POINTS.centers[:, 0] - 20) / 16, (POINTS.centers[:, 1] - 14) / 20), dim=1)
    boxes = torch.cat((middle - half, middle + half), dim=1) if boxes is None else boxes
    return Predictions(boxes, logits.sigmoid())


def couples(answer) -> list[tuple[int, int]]:
    prior, gt = answer.pairs()
    return list(zip(prior.tolist(), gt.tolist(), strict=True))


GOLDEN = {
    "mmdet": [(10, 0), (17, 0), (18, 0), (19, 0), (20, 1), (27, 1), (28, 1), (69, 0), (70, 1), (83, 1)],
    "mmyolo": [(17, 0), (18, 0), (19, 0), (20, 1), (26, 0), (27, 1), (28, 1), (29, 1), (69, 0), (70, 1)],
}
COSTS = {"mmdet": (0.635078, 2.478354), "mmyolo": (0.429920, 1.953934)}


@pytest.mark.parametrize("variant", BOTH)
def test_the_published_scene(variant):
    """mmdet's own class gave the first row (spec of the course, run); the second is the other text, written densely."""
    rule = DynamicSoftLabel(variant=variant)
    answer, found = rule(POINTS, WISH, seen()), rule.explain(POINTS, WISH, seen())
    assert couples(answer) == GOLDEN[variant]
    assert answer.similarity[[18, 20]].tolist() == pytest.approx([0.923699, 0.522694], abs=1e-6)
    assert torch.equal(answer.score_target, answer.similarity) and (answer.weight == 1).all()
    pairs = found.candidates
    known = zip(pairs.prior.tolist(), pairs.gt.tolist(), pairs.value.tolist(), strict=True)
    cost = {(prior, gt): -value for prior, gt, value in known}
    assert (cost[18, 0], cost[20, 1]) == pytest.approx(COSTS[variant], abs=1e-5)


def test_the_class_cost_is_the_quality_focal_loss():
    logits = torch.logit(seen().scores[18].double())
    each = quality_focal_loss(logits, torch.tensor([0.923699, 0.0], dtype=torch.float64))
    assert each.sum().item() == pytest.approx(0.395639, abs=1e-5)


@pytest.mark.parametrize("variant", BOTH)
def test_mmdetections_own_cases(variant):
    """tests/test_models/test_task_modules/test_assigners/test_dynamic_soft_label_assigner.py, v3.3."""
    rule = DynamicSoftLabel(k=1, variant=variant)
    predictions = Predictions(torch.tensor([[23.0, 23, 43, 43], [4, 5, 6, 7]]), torch.tensor([[0.2], [0.8]]))
    near, far = (
        Priors.from_boxes(torch.tensor(place).repeat(1, 2), strides=(8,))
        for place in ([[30.0, 30], [4, 5]], [[30.0, 30], [55, 55]])
    )
    box = torch.tensor([[23.0, 23, 43, 43]])
    assert rule(near, {"boxes": box, "labels": torch.tensor([0])}, predictions).gt.tolist() == [0, NEGATIVE]
    tiny = {"boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([0])}
    assert rule(far, tiny, predictions).negative.all()
    assert rule(near, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}, predictions).negative.all()


# -------------------------------------------------------------------------------- kept by somebody else


@pytest.mark.parametrize("variant", BOTH)
def test_a_ground_truth_without_a_prior_takes_one_that_another_kept(variant):
    """The point (32, 32) of stride 32, 10 px outside: in strides the nearest."""
    rule = DynamicSoftLabel(variant=variant)
    wish = {"boxes": torch.tensor([[4.0, 4, 60, 60], [41, 41, 43, 43]]), "labels": torch.tensor([0, 1])}
    answer = rule(POINTS, wish, seen())
    assert (answer.gt == 1).nonzero().flatten().tolist() == [83]
    assert POINTS.centers[83].tolist() == [32, 32] and POINTS.strides[83] == 32
    alone = {"boxes": wish["boxes"][1:], "labels": torch.tensor([1])}
    assert rule(POINTS, alone, seen()).negative.all(), "mmyolo's code: one arbitrary positive"
    assert DynamicSoftLabel(variant=variant, min_side=16)(POINTS, alone, seen()).positive.any()


@pytest.mark.parametrize(("variant", "room"), [("mmdet", 3), ("mmyolo", 13)])
def test_only_kept_priors_are_taken_however_many_are_asked_for(variant, room):
    """Three kept priors, all 84 boxes perfect: k_g is 3, or 13, ten of which mmyolo's code takes anywhere."""
    wish = {"boxes": torch.tensor([[28.0, 28, 36, 36]]), "labels": torch.tensor([0])}
    answer = DynamicSoftLabel(variant=variant)(POINTS, wish, seen(wish["boxes"].repeat(84, 1)))
    assert couples(answer) == [(36, 0), (74, 0), (83, 0)]
    assert oracles_dynamic.rooms([[1.0]] * 84, range(84 if variant == "mmyolo" else 3), 13, 1) == [room]


def test_boxes_that_overlap_nothing_leave_the_choice_to_class_and_distance():
    wish = {"boxes": torch.tensor([[4.0, 4, 30, 28]]), "labels": torch.tensor([0])}
    answer = DynamicSoftLabel()(POINTS, wish, Predictions(POINTS.boxes + 500, torch.full((84, 1), 0.5)))
    assert couples(answer) == [(69, 0)], "(16, 16) of stride 16: 1.4 px from the centre"
    assert answer.similarity[69] == answer.score_target[69] == 0


def test_far_from_all_that_is_kept_the_distance_decides():
    """No kept prior within five strides: the one that is left costs 10 ^ 25."""
    points = Priors.from_boxes(torch.tensor([[4.0, 4], [12, 4]]).repeat(1, 2), strides=(8,))
    wish = {"boxes": torch.tensor([[0.0, 0, 16, 8], [230, 3, 236, 5]]), "labels": torch.tensor([0, 0])}
    predictions = Predictions(torch.tensor([[0.0, 0, 16, 7], [0, 0, 9, 8]]), torch.full((2, 1), 0.5))
    found = DynamicSoftLabel().explain(points, wish, predictions)
    assert found.assignment.gt.tolist() == [0, 1]
    assert found.winners.value[found.winners.gt == 1].tolist() == [0.0]
    assert found.chosen.value[found.chosen.gt == 1] < -1e24


def test_a_contested_prior_that_is_dear_goes_to_the_cheapest_of_all():
    """GT 0 is 396 px wide and keeps both priors: it takes the one at its centre. For GTs 1 and 2, outside of which
    everything lies, the other is the nearer: 7 and 6 strides away; GT 0 itself is 25 strides away from it."""
    points = Priors.from_boxes(torch.tensor([[4.0, 4], [200, 4]]).repeat(1, 2), strides=(8,))
    boxes = torch.tensor([[2.0, 0, 398, 8], [57, 3, 63, 5], [49, 3, 55, 5]])
    nowhere = Predictions(points.boxes + torch.tensor([500.0, 500, 510, 510]), torch.full((2, 1), 0.5))
    found = DynamicSoftLabel().explain(points, {"boxes": boxes, "labels": torch.tensor([0, 0, 0])}, nowhere)
    taken = set(zip(found.chosen.prior.tolist(), found.chosen.gt.tolist(), strict=True))
    assert taken == {(1, 0), (0, 1), (0, 2)}
    assert couples(found.assignment) == [(0, 2), (1, 0)] and found.taken_by.tolist() == [2]


def test_certain_scores_are_finite_and_half_precision_is_widened():
    scores = torch.tensor([0.0, 1.0]).repeat(42)[:, None].repeat(1, 2)
    wide = DynamicSoftLabel()(POINTS, WISH, Predictions(seen().boxes, scores))
    assert wide.positive.any() and wide.score_target.isfinite().all()
    half = Predictions(seen().boxes.half(), seen().scores.half())
    again = Predictions(half.boxes.float(), half.scores.float())
    answers = [DynamicSoftLabel()(POINTS, WISH, given) for given in (half, again)]
    assert torch.equal(answers[0].gt, answers[1].gt) and answers[0].score_target.dtype == torch.float32


def test_identical_ground_truths_leave_the_second_with_nothing():
    wish = {"boxes": WISH["boxes"][[0, 0]], "labels": torch.tensor([0, 0])}
    assert DynamicSoftLabel()(POINTS, wish, seen()).positives_per_gt(2)[1] == 0


def test_more_ground_truths_than_priors():
    point = Priors.from_boxes(torch.tensor([[4.0, 4, 4, 4]]), strides=(8,))
    wish = {"boxes": torch.tensor([[0.0, 0, 10, 8 + g] for g in range(9)]), "labels": torch.zeros(9).long()}
    answer = DynamicSoftLabel()(point, wish, Predictions(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.5]])))
    assert answer.gt.tolist() == [2] and answer.similarity.tolist() == [1.0]


def test_the_answer_is_the_same_on_the_device(device):
    there = DynamicSoftLabel()(
        POINTS.to(device),
        {name: value.to(device) for name, value in WISH.items()},
        Predictions(seen().boxes.to(device), seen().scores.to(device)),
    )
    assert couples(there) == GOLDEN["mmdet"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "k must be a whole number of at least 1, got 0"),
        ({"radius": -1.0}, "radius must be above 0 and finite, got -1.0"),
        ({"iou_weight": 0.0}, "iou_weight must be above 0 and finite, got 0.0"),
        ({"min_side": 0.0}, "min_side must be None or a positive length in pixels, got 0.0"),
        ({"variant": "rtmdet"}, "variant must be 'mmdet' or 'mmyolo', got 'rtmdet'"),
    ],
)
def test_what_is_wrong_is_named(arguments, words, unchecked):
    with pytest.raises(ValueError, match=words):
        DynamicSoftLabel(**arguments)
