"""SimOTA against its slow loop, and what happens where feasible priors run out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import SimOTA
from labelkit.similarity import iou
from tests import oracles, oracles_dynamic
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, predictions_for, scenes, stacked, target_of

rules = st.builds(
    SimOTA,
    radius=st.sampled_from([None, 0.4, 4.0]),
    k=st.sampled_from([1, 3, 10, 500]),
    iou_weight=st.sampled_from([3.0, 0.5]),
    min_side=st.sampled_from([None, 16.0]),
) | st.builds(SimOTA, radius=st.sampled_from([None, 0.4]), k=st.sampled_from([1, 10]), variant=st.just("yolox"))


def expect(rule: SimOTA, priors: Priors, strides, predictions: Predictions, target) -> oracles.Expected:
    found = (predictions.boxes, predictions.scores, target["boxes"], target["labels"].tolist())
    return oracles_dynamic.simota(priors.centers, priors.levels, strides, *found, **vars(rule))


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


def points_at(*rows: tuple[float, float], stride: float = 8.0) -> Priors:
    place = torch.tensor(rows, dtype=torch.float32)
    return Priors.from_boxes(place.repeat(1, 2), strides=(stride,))


def one(*box: float) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor([box]), "labels": torch.tensor([0])}


@pytest.mark.parametrize("variant", ["mmdet", "yolox"])
def test_mmdetections_own_cases(variant):
    """tests/test_models/test_task_modules/test_assigners/test_simota_assigner.py, v3.3."""
    rule = SimOTA(radius=2.5, k=1, variant=variant)
    predictions = Predictions(torch.tensor([[23.0, 23, 43, 43], [4, 5, 6, 7]]), torch.tensor([[0.2], [0.8]]))
    assert rule(points_at((30, 30), (4, 5)), one(23, 23, 43, 43), predictions).gt.tolist() == [0, NEGATIVE]
    assert rule(points_at((30, 30), (55, 55)), one(0, 0, 1, 1), predictions).negative.all()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    assert rule(points_at((30, 30), (55, 55)), nothing, predictions).negative.all()


# ------------------------------------------------------------------------------------------- how many

ROW = points_at(*((8.0 * column + 4, 20.0) for column in range(8)))
WIDE = one(0, 0, 64, 40)


def aligned(fits: list[float], score: float = 0.5) -> Predictions:
    """Decoded boxes with these IoUs with WIDE."""
    boxes = torch.tensor([[0.0, 0, 64, 40 * fit] for fit in fits])
    return Predictions(boxes, torch.full((len(fits), 1), score))


@pytest.mark.parametrize(
    ("fits", "k", "count"),
    [
        ([0.75, 0.75, 0.25, 0.125, 0, 0, 0, 0], 10, 1),  # 1.875: truncated, not rounded
        ([0.75, 0.75, 0.25, 0.25, 0, 0, 0, 0], 10, 2),
        ([0.9, 0.1, 0, 0, 0, 0, 0, 0], 10, 1),
        ([0.9, 0.9, 0.1, 0.1, 0, 0, 0, 0], 10, 2),  # as float32 the four add up to 1.99999996
        ([0.0] * 8, 10, 1),
        ([1.0] * 8, 10, 4),  # k_g is 8, but four of the eight are feasible, and none else is kept
        ([1.0] * 8, 3, 3),
        ([1.0] * 8, 500, 4),
    ],
)
def test_how_many_follows_from_the_overlaps(fits, k, count):
    rule = SimOTA(radius=2.0 if count == 4 else 10.0, k=k, variant="yolox" if count == 4 else "mmdet")
    assert rule(ROW, WIDE, aligned(fits)).positive.sum() == count


def test_the_overlaps_of_kept_priors_count_feasible_or_not():
    """Inside, but more than 2.5 strides from the centre: no candidates, and they raise k_g to 3."""
    fits = [1.0, 0.1, 0.1, 0.5, 0.5, 0.1, 0.1, 1.0]
    answer = SimOTA(radius=2.5)(ROW, WIDE, aligned(fits))
    assert answer.gt.nonzero().flatten().tolist() != [] and answer.positive.sum() == 3
    assert answer.positive[[0, 7]].sum() == 0, "the best boxes belong to priors that are not feasible"
    assert answer.positive[[3, 4]].all()


# ---------------------------------------------------------------- where feasible priors run out


def test_infeasible_priors_fill_up_what_is_missing():
    """Nine of IoU 1 ask for eight; two are feasible, the kept ones of highest score fill up."""
    predictions = aligned([1.0] * 8)
    predictions.scores[0] = 0.9
    answer = SimOTA(radius=1.0)(ROW, WIDE, predictions)
    assert answer.positive.all()
    fewer = SimOTA(radius=1.0, k=3)(ROW, WIDE, predictions)
    assert fewer.gt.tolist() == [0, -1, -1, 0, 0, -1, -1, -1]
    found = SimOTA(radius=1.0, k=3).explain(ROW, WIDE, predictions)
    worth = dict(zip(found.chosen.prior.tolist(), found.chosen.value.tolist(), strict=True))
    assert worth[0] < -1e19 < worth[3] < 0


def test_a_ground_truth_without_a_prior_inside_takes_the_best_kept_by_others():
    """mmdet: k_g = 1 is asked of everybody, and a cost that is not feasible is finite."""
    points = Priors.points((64, 64), (8, 16))
    alone = one(33, 33, 35, 35)
    predictions = Predictions(
        points.boxes + torch.tensor([-8.0, -8, 8, 8]), torch.linspace(0.1, 0.6, len(points))[:, None].repeat(1, 2)
    )
    both = {"boxes": torch.tensor([[8.0, 8, 32, 30], [33, 33, 35, 35]]), "labels": torch.tensor([0, 1])}
    answer = SimOTA(radius=0.1)(points, both, predictions)
    assert SimOTA(radius=0.1)(points, alone, predictions).negative.all(), "nothing is kept"
    own = (answer.gt == 1).nonzero().flatten()
    kept = oracles.least_distances(points.centers, both["boxes"][:1])
    assert len(own) == 1 and kept[int(own)][0] > 0
    assert SimOTA(radius=0.1, min_side=16)(points, alone, predictions).positive.sum() == 1


def test_the_order_of_infeasible_pairs_is_exact():
    """At 1e5 a float32 has steps of 0.008: two costs 0.001 apart would be one."""
    points = points_at((4, 4), (12, 4), (20, 4), (100, 100))
    both = {"boxes": torch.tensor([[0.0, 0, 24, 8], [98.0, 110, 102, 114]]), "labels": torch.tensor([0, 1])}
    scores = torch.full((4, 2), 0.5)
    scores[1, 1] = 0.5003
    boxes = torch.tensor([[0.0, 0, 24, 8], [0, 0, 24, 8], [0, 0, 24, 8], [0, 0, 1, 1]])
    answer = SimOTA(radius=1.4, k=1)(points, both, Predictions(boxes, scores))
    assert (answer.gt == 1).nonzero().flatten().tolist() == [1]


def test_a_contested_prior_goes_to_the_lowest_cost_of_all_even_to_who_did_not_choose_it():
    """GT 2 is the cheapest for prior 0 but takes prior 1, which is better still; GTs 0 and 1 both take prior 0."""
    points = points_at((4, 4), (6, 4))
    boxes = torch.tensor([[0.0, 0, 5.5, 9], [0, 0, 5.5, 10], [0, 0, 12, 8]])
    wish = {"boxes": boxes, "labels": torch.tensor([0, 0, 0])}
    predictions = Predictions(torch.tensor([[0.0, 0, 10, 8], [0, 0, 12, 8]]), torch.tensor([[0.5], [0.5]]))
    found = SimOTA(k=1).explain(points, wish, predictions)
    chosen = set(zip(found.chosen.prior.tolist(), found.chosen.gt.tolist(), strict=True))
    assert chosen == {(0, 0), (0, 1), (1, 2)}
    assert found.assignment.gt.tolist() == [2, 2]
    assert set(found.taken_by.tolist()) == {2} and len(found.losers) == 2


def test_identical_ground_truths_leave_the_second_with_nothing():
    wish = {"boxes": WIDE["boxes"].repeat(2, 1), "labels": torch.tensor([0, 0])}
    answer = SimOTA(radius=10.0)(ROW, wish, aligned([0.5] * 8))
    assert answer.positives_per_gt(2).tolist() == [4, 0]


def test_more_ground_truths_than_priors():
    boxes = torch.tensor([[0.0, 0, 10, 8 + g] for g in range(9)])
    answer = SimOTA()(
        points_at((4, 4)), target_of(boxes), Predictions(torch.tensor([[0.0, 0, 10, 10]]), torch.rand(1, 3))
    )
    assert answer.positive.all() and answer.similarity[0] > 0.8


def test_certain_scores_are_finite_and_half_precision_is_widened():
    scores = torch.tensor([[0.0], [1.0]] * 4)
    boxes = aligned([0.5] * 8).boxes
    wide = SimOTA(radius=10.0)(ROW, WIDE, Predictions(boxes, scores))
    half = SimOTA(radius=10.0)(ROW, WIDE, Predictions(boxes.half(), scores.half()))
    assert wide.gt.tolist() == half.gt.tolist() == [-1, 0, -1, 0, -1, 0, -1, 0]
    assert half.score_target.dtype == torch.float32 and half.score_target[1] == half.similarity[1] == 0.5


def test_the_two_variants_part_outside_the_ground_truth():
    """8 px from the centre but outside: a candidate for YOLOX since 2023 only."""
    points, wish = points_at((20, 8)), one(10, 0, 14, 16)
    predictions = Predictions(torch.tensor([[10.0, 0, 14, 16]]), torch.tensor([[0.5]]))
    assert SimOTA(variant="yolox")(points, wish, predictions).gt.tolist() == [0]
    inner = SimOTA().explain(points, wish, predictions)
    assert inner.chosen.value[0] < -1e19, "kept, for it lies in the square, but not feasible"


def test_the_cost_is_that_of_all_classes():
    """Prior 0 fits as well and scores as high, but is sure of another class too."""
    scores = torch.tensor([[0.6, 0.9], [0.6, 0.1]])
    boxes = torch.tensor([[0.0, 0, 10, 8]] * 2)
    wish = one(0, 0, 10, 10)
    answer = SimOTA(k=1)(points_at((4, 4), (6, 4)), wish, Predictions(boxes, scores))
    assert answer.gt.tolist() == [-1, 0]
    found = SimOTA(k=1).explain(points_at((4, 4), (6, 4)), wish, Predictions(boxes, scores))
    entropy = torch.nn.functional.binary_cross_entropy(scores, torch.tensor([[1.0, 0], [1, 0]]), reduction="none").sum(
        1
    )
    cost = entropy - 3 * (iou(boxes, wish["boxes"]) + 1e-7).log()
    assert (-found.candidates.value).tolist() == pytest.approx(cost.tolist(), rel=1e-5)


def test_the_answer_is_the_same_on_the_device(device):
    points, boxes = (
        Priors.points((64, 64), (8, 16, 32)),
        torch.tensor([[6.0, 6, 30, 30], [20, 10, 44, 34], [33, 33, 35, 35]]),
    )
    predictions = Predictions(
        points.boxes + torch.tensor([-9.0, -8, 8, 9]), torch.linspace(0.05, 0.8, 84)[:, None].repeat(1, 3)
    )
    there = SimOTA()(
        points.to(device),
        {"boxes": boxes.to(device), "labels": torch.arange(3, device=device)},
        Predictions(predictions.boxes.to(device), predictions.scores.to(device)),
    )
    here = SimOTA()(points, {"boxes": boxes, "labels": torch.arange(3)}, predictions)
    assert torch.equal(there.gt.cpu(), here.gt) and here.positive.any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "k must be a whole number of at least 1, got 0"),
        ({"radius": 0.0}, "radius must be above 0 and finite, got 0.0"),
        ({"iou_weight": -1.0}, "iou_weight must be above 0 and finite, got -1.0"),
        ({"variant": "paper"}, "variant must be 'mmdet' or 'yolox', got 'paper'"),
        ({"variant": "yolox", "min_side": 16.0}, "min_side must be None in variant 'yolox'"),
    ],
)
def test_what_is_wrong_is_named(arguments, words, unchecked):
    with pytest.raises(ValueError, match=words):
        SimOTA(**arguments)
