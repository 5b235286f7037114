"""TaskAligned against its slow loop, and on the scene that tells its published forms apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import TaskAligned
from labelkit.similarity import ciou, giou, iou
from tests import oracles, oracles_dynamic
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, predictions_for, scenes, stacked, target_of

rules = st.builds(
    TaskAligned,
    k=st.sampled_from([1, 3, 13, 500]),
    alpha=st.sampled_from([1.0, 0.5, 0.0]),
    beta=st.sampled_from([6.0, 2.5]),
    overlap=st.sampled_from([iou, ciou]),
    min_side=st.sampled_from([None, 16.0]),
    k_final=st.sampled_from([None, 1, 2]),
)


def expect(rule: TaskAligned, priors: Priors, predictions: Predictions, target) -> oracles.Expected:
    found = (predictions.boxes, predictions.scores, target["boxes"], target["labels"].tolist())
    return oracles_dynamic.task_aligned(priors.centers, *found, **vars(rule))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=30)
@given(data=st.data(), scene=scenes(max_side=64), rule=rules)
def test_equals_the_slow_loop(way, data, scene, rule):
    predictions = data.draw(predictions_for(scene.priors, scene.boxes))
    with path(way, scene.priors) as priors:
        answer = rule(priors, scene.target, predictions)
        oracles.assert_same(answer, expect(rule, priors, predictions, scene.target), tolerance=1e-6)


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), batch=batches(max_side=48), rule=rules)
def test_a_batch_is_its_images(way, data, batch, rule):
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = rule(priors, batch.targets, stacked(each))
        for image, target in enumerate(batch.targets):
            oracles.assert_same(together[image], expect(rule, priors, each[image], target), tolerance=1e-6)


# ---------------------------------------------------------------- the scene of Ultralytics 8.4.190's answers

POINTS = Priors.points((64, 64), (8, 16, 32))
BOXES = torch.tensor([[6.0, 6, 30, 30], [20, 10, 44, 34], [50, 51, 54, 54.5]])
LABELS = torch.tensor([0, 1, 0])
COLLIDING = torch.tensor([[6.0, 6, 30, 30], [4, 6, 28, 30]])  # both like point 80 best


def seen(points: Priors = POINTS) -> Predictions:
    middle, half = points.centers + torch.tensor([0.7, -0.4]), torch.tensor([12.0, 11.0])
    scores = torch.stack((0.1 + 0.01 * (points.centers[:, 0] % 29), 0.1 + 0.01 * (points.centers[:, 1] % 23)), dim=1)
    return Predictions(torch.cat((middle - half, middle + half), dim=1), scores)


def yolo(k: int, k_final: int | None = None, min_side: float | None = 16.0) -> TaskAligned:
    return TaskAligned(k=k, alpha=0.5, beta=6.0, overlap=ciou, min_side=min_side, k_final=k_final)


def found(answer) -> dict[tuple[int, int], float]:
    prior, gt = answer.pairs()
    return dict(zip(zip(prior.tolist(), gt.tolist(), strict=True), answer.score_target[prior].tolist(), strict=True))


TEN = {
    (9, 0): 0.008366, (10, 0): 0.038156, (11, 1): 0.002083, (12, 1): 0.000952, (17, 0): 0.120509, (18, 0): 0.591745,
    (19, 1): 0.617352, (20, 1): 0.288537, (25, 0): 0.000679, (26, 0): 0.003278, (27, 1): 0.072023, (28, 1): 0.034594,
    (54, 2): 0.024805, (68, 0): 0.000780, (69, 1): 0.051331, (70, 1): 0.018744, (80, 0): 0.729014,
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "pairs"),
    [
        (yolo(10), list(TEN)),
        (yolo(10, min_side=None), list(TEN)),
        (yolo(3), [(17, 0), (18, 0), (19, 1), (20, 1), (27, 1), (54, 2), (80, 0)]),
        (yolo(1), [(19, 1), (54, 2), (80, 0)]),
        (yolo(7, 1), [(19, 1), (54, 2), (80, 0)]),
    ],
)
def test_the_published_scene(rule, pairs):
    """The pairs and targets of Ultralytics 8.4.190, without its pair of metric 0, (62, 2)."""
    answer = rule(POINTS, {"boxes": BOXES, "labels": LABELS}, seen())
    assert found(answer) == pytest.approx({pair: TEN[pair] for pair in pairs}, abs=2e-6)
    own = answer.gt >= 0
    overlap = ciou(seen().boxes[own], BOXES[answer.gt[own]])
    assert torch.equal(answer.similarity[own], overlap) and (answer.weight == 1).all()


def test_ultralytics_adds_1e_9_to_the_largest_metric_and_so_lowers_the_target_of_a_tiny_object():
    answer = yolo(1)(POINTS, {"boxes": BOXES, "labels": LABELS}, seen())
    overlap, score = answer.similarity[54].double(), seen().scores[54, 0].double()
    t = score**0.5 * overlap**6
    assert answer.score_target[54] == answer.similarity[54]
    assert float(t / (t + 1e-9) * overlap) == pytest.approx(0.002928, abs=1e-6)


def test_only_a_collision_tells_one_of_one_from_one_of_seven():
    wish = {"boxes": COLLIDING, "labels": torch.tensor([0, 0])}
    assert found(yolo(1)(POINTS, wish, seen())) == pytest.approx({(80, 1): 0.764192}, abs=2e-6)
    both = {(18, 0): 0.695755, (80, 1): 0.764192}
    assert found(yolo(7, 1)(POINTS, wish, seen())) == pytest.approx(both, abs=2e-6)
    near = {"boxes": torch.tensor([[6.0, 6, 30, 30], [7, 6.5, 31, 30.5]]), "labels": torch.tensor([0, 0])}
    for rule in (yolo(1), yolo(7, 1)):
        both = {(18, 1): 0.789979, (80, 0): 0.729014}
        assert found(rule(POINTS, near, seen())) == pytest.approx(both, abs=2e-6)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_second_of_two_identical_ground_truths_gets_nothing(k):
    wish = {"boxes": BOXES[[0, 0]], "labels": torch.tensor([0, 0])}
    answer = yolo(k)(POINTS, wish, seen())
    assert answer.positives_per_gt(2).tolist() == [k, 0]
    alone = yolo(k)(POINTS, {"boxes": BOXES[:1], "labels": torch.tensor([0])}, seen())
    assert torch.equal(answer.gt, alone.gt) and torch.equal(answer.score_target, alone.score_target)


def test_mmdetections_own_case():
    """tests/test_models/test_task_modules/test_assigners/test_task_aligned_assigner.py, v3.3: labels and metric."""
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [10, 10, 20, 20], [5, 5, 15, 15], [32, 32, 38, 42]]))
    boxes = torch.tensor([[1.0, 1, 12, 8], [4, 4, 20, 20], [1, 5, 15, 15], [30, 5, 32, 42]])
    scores = torch.tensor([[0.1, 0.2], [0.2, 0.3], [0.3, 0.4], [0.4, 0.5]])
    wish = {"boxes": torch.tensor([[0.0, 0, 10, 9], [0, 10, 10, 19]]), "labels": torch.tensor([0, 1])}
    rule = TaskAligned(k=13)
    answer = rule(priors, wish, Predictions(boxes, scores))
    assert answer.gt.tolist() == [0, -1, -1, -1]
    assert (
        rule.explain(priors, wish, Predictions(boxes, scores)).winners.value.tolist() == answer.similarity[:1].tolist()
    )
    chosen = rule.explain(priors, wish, Predictions(boxes, scores)).chosen
    assert chosen.value.tolist() == pytest.approx([0.004942], abs=1e-6)


@pytest.mark.parametrize(
    ("side", "plain", "floored"),
    [(2.0, 0.08, 5.24), (4.0, 0.33, 5.24), (6.0, 0.73, 5.25), (10.0, 2.06, 5.24), (24.0, 11.8, 11.8)],
)
def test_the_floor_gives_candidates_to_tiny_objects(side, plain, floored):
    """The mean number of candidates of a square object, any place in 640 x 640, at strides 8, 16, 32."""
    points, number = Priors.points((640, 640), (8, 16, 32)), 4000
    corner = (640 - side) * torch.rand(number, 2, generator=torch.Generator().manual_seed(0))
    wish = {"boxes": torch.cat((corner, corner + side), dim=1), "labels": torch.zeros(number).long()}
    around = Predictions(points.boxes + torch.tensor([-64.0, -64, 64, 64]), torch.full((len(points), 1), 0.5))
    for min_side, mean in ((None, plain), (16.0, floored)):
        candidates = TaskAligned(k=1, min_side=min_side).explain(points, wish, around).candidates
        assert len(candidates) / number == pytest.approx(mean, rel=0.07)


def test_a_floored_candidate_is_a_positive_by_iou_and_often_not_by_ciou():
    points = Priors.points((64, 64), (8, 16, 32))
    half = 2 * points.strides[:, None]
    initial = Predictions(torch.cat((points.centers - half, points.centers + half), dim=1), torch.full((84, 1), 0.1))
    wish = {"boxes": torch.tensor([[31.0, 31, 33, 33]]), "labels": torch.tensor([0])}
    by_iou = TaskAligned(min_side=16)(points, wish, initial)
    assert by_iou.positive.sum() == 4  # the four of stride 8; of the others the next are 8 px away, on the border
    assert yolo(13)(points, wish, initial).positive.sum() == 0  # nearer than sqrt(2) * 2 px: nobody
    assert TaskAligned()(points, wish, initial).positive.sum() == 0


# ------------------------------------------------------------------------------------------------ edges


def test_collapsed_boxes_give_no_positive_and_no_nan():
    wish = {"boxes": BOXES, "labels": LABELS}
    collapsed = Predictions(POINTS.boxes, torch.full((84, 2), 0.5))
    silent = Predictions(seen().boxes, torch.zeros(84, 2))
    for predictions in (collapsed, silent):
        answer = yolo(10)(POINTS, wish, predictions)
        assert answer.negative.all() and (answer.score_target == 0).all()


def test_half_precision_does_not_lose_small_overlaps():
    """0.05 to the sixth is below the least float16."""
    wish = {"boxes": torch.tensor([[0.0, 0, 8, 8]]), "labels": torch.tensor([0])}
    point = Priors.from_boxes(torch.tensor([[4.0, 4, 4, 4]]))
    half = Predictions(torch.tensor([[0.0, 0, 40, 40]]).half(), torch.tensor([[0.1]]).half())
    answer = TaskAligned()(point, wish, half)
    assert answer.gt.tolist() == [0] and answer.score_target[0] == answer.similarity[0] == pytest.approx(0.04)
    assert answer.score_target.dtype == torch.float32


def test_overlaps_whose_sixth_power_is_no_float32_still_count():
    wish = {"boxes": torch.tensor([[10.0, 10, 11, 11]]), "labels": torch.tensor([0])}
    point = Priors.from_boxes(torch.tensor([[10.5, 10.5, 10.5, 10.5]]))
    answer = TaskAligned()(point, wish, Predictions(torch.tensor([[0.0, 0, 1e5, 1e5]]), torch.tensor([[0.5]])))
    assert answer.gt.tolist() == [0] and answer.score_target[0] == answer.similarity[0] > 0


def test_more_ground_truths_than_priors_and_one_candidate_for_all():
    point = Priors.points((8, 8), (8,))
    wish = target_of(torch.tensor([[0.0, 0, 8, 8], [1, 1, 7, 7], [0, 0, 8, 7.5]]))
    answer = TaskAligned()(point, wish, Predictions(torch.tensor([[1.0, 1, 7, 7]]), torch.full((1, 3), 0.2)))
    assert answer.gt.tolist() == [1] and answer.score_target.tolist() == [1.0]


def test_a_ground_truth_without_candidate_changes_nobody():
    wish = {"boxes": torch.cat((BOXES[:2], torch.tensor([[45.0, 45, 47, 47]]))), "labels": torch.tensor([0, 1, 0])}
    both = yolo(10, min_side=None)(POINTS, wish, seen())
    without = yolo(10, min_side=None)(POINTS, {"boxes": BOXES[:2], "labels": LABELS[:2]}, seen())
    assert torch.equal(both.gt, without.gt) and both.positives_per_gt(3)[2] == 0
    assert (
        yolo(10)(POINTS, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}, seen()).gt == NEGATIVE
    ).all()


def test_permuted_ground_truths_are_permuted_labels():
    order = torch.tensor([2, 0, 1])
    first = yolo(10)(POINTS, {"boxes": BOXES, "labels": LABELS}, seen())
    second = yolo(10)(POINTS, {"boxes": BOXES[order], "labels": LABELS[order]}, seen())
    assert torch.equal(first.gt, torch.where(second.gt >= 0, order[second.gt.clamp(min=0)], second.gt))


def test_the_answer_is_the_same_on_the_device(device):
    wish = {"boxes": BOXES.to(device), "labels": LABELS.to(device)}
    predictions = Predictions(seen().boxes.to(device), seen().scores.to(device))
    there = yolo(7, 1)(POINTS.to(device), wish, predictions)
    here = yolo(7, 1)(POINTS, {"boxes": BOXES, "labels": LABELS}, seen())
    assert torch.equal(there.gt.cpu(), here.gt)
    torch.testing.assert_close(there.score_target.cpu(), here.score_target)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "k must be a whole number of at least 1, got 0"),
        ({"k_final": 0}, "k_final must be a whole number of at least 1, got 0"),
        ({"alpha": -1.0}, "alpha must be at least 0 and finite, got -1.0"),
        ({"beta": 0.0}, "beta must be above 0 and finite, got 0.0"),
        ({"min_side": 0.0}, "min_side must be None or a positive length in pixels, got 0.0"),
        ({"overlap": giou}, "overlap must be iou or ciou of labelkit.similarity, got"),
    ],
)
def test_what_is_wrong_is_named(arguments, words, unchecked):
    with pytest.raises(ValueError, match=words):
        TaskAligned(**arguments)
