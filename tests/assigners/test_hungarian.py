"""Hungarian against dense matchings by its definition, on every path; the goldens; copies, crowds, infeasible ones."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import Hungarian
from labelkit.similarity import iou
from tests import oracles_matching as oracle
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, predictions_for, scenes, stacked, target_of

SIZE = (96, 80)
rules = st.builds(
    Hungarian,
    class_cost=st.sampled_from(["focal", "softmax", None]),
    weights=st.sampled_from([(2, 5, 2), (1, 5, 2), (1, 0, 0), (0, 0.5, 1)]),
    candidates=st.sampled_from(["all", "inside", "center"]),
    image_size=st.just(SIZE),
    repeat=st.sampled_from([1, 1, 2, 3]),
)


def table_of(rule: Hungarian, priors: Priors, gts: torch.Tensor, labels: torch.Tensor, seen: Predictions) -> np.ndarray:
    near = set(itertools.product(range(len(priors)), range(len(gts))))
    if rule.candidates != "all":
        radius = 1.5 if rule.candidates == "center" else None
        near = oracle.inside(priors.centers, priors.levels, priors.known_strides(), gts, radius)
    terms = (rule.class_cost, rule.weights, rule.image_size)
    costs = oracle.hungarian_costs(seen.boxes, seen.scores, gts, labels, *terms)
    return oracle.infeasible_but(near, costs, len(priors), len(gts))


def check(answer, rule: Hungarian, priors: Priors, target: dict, seen: Predictions) -> None:
    overlaps = iou(seen.boxes[:, None], target["boxes"][None])
    table = table_of(rule, priors, target["boxes"], target["labels"], seen)
    oracle.assert_best(answer, table, overlaps, rule.repeat)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=40)
@given(data=st.data(), scene=scenes(max_side=40), rule=rules)
def test_equals_the_dense_matching(way, data, scene, rule):
    seen = data.draw(predictions_for(scene.priors, scene.boxes))
    with path(way, scene.priors) as priors:
        check(rule(priors, scene.target, seen), rule, priors, scene.target, seen)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=12)
@given(data=st.data(), batch=batches(max_side=32), rule=rules)
def test_a_batch_is_its_images(way, data, batch, rule):
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = rule(priors, batch.targets, stacked(each))
        for image, target in enumerate(batch.targets):
            check(together[image], rule, priors, target, each[image])
            assert torch.equal(together[image].gt, rule(priors, target, each[image]).gt)


# ------------------------------------------------------------------------------------------------ the goldens of 1.5

OBJECTS = {"boxes": torch.tensor([[10.0, 10, 30, 30], [20, 10, 40, 30]]), "labels": torch.tensor([0, 1])}
DECODED = torch.tensor([[12.0, 10, 32, 30], [18, 12, 38, 30], [60, 60, 90, 90], [10, 10, 30, 30]])
LOGITS = torch.tensor([[2.0, -1], [1, 1.5], [-2, -2], [-1, -1]])
QUERIES = Priors.from_boxes(torch.zeros(4, 4))
SOFTMAX = torch.cat((LOGITS, torch.zeros(4, 1)), dim=1).softmax(dim=1)[:, :2]


@pytest.mark.parametrize(
    ("class_cost", "weights", "scores", "costs"),
    [
        (
            "softmax", (1, 5, 2), SOFTMAX,
            [[-2.380158, -0.499153], [-0.518474, -1.764606], [7.987244, 7.429207], [-2.211941, -0.378608]],
        ),
        (
            "focal", (2, 5, 2), LOGITS.sigmoid(),
            [[-4.010579, -0.140196], [-1.228448, -2.920613], [8.916084, 8.358048], [-1.683053, 0.150280]],
        ),
    ],
)  # fmt: skip
def test_detrs_costs_and_its_match(class_cost, weights, scores, costs, device):
    """Prediction 3 is the box of ground truth 0, and loses by its score."""
    rule = Hungarian(class_cost, weights, image_size=(100, 100), repeat=4)  # so many copies that all pairs are shown
    target = {key: value.to(device) for key, value in OBJECTS.items()}
    seen = Predictions(DECODED.to(device), scores.to(device))
    found = rule.explain(QUERIES.to(device), target, seen).candidates
    table = torch.full((4, 2), math.nan)
    table[found.prior.cpu(), found.gt.cpu()] = -found.value.cpu()
    assert table.tolist() == [pytest.approx(row, abs=2e-6) for row in costs]
    once = Hungarian(class_cost, weights, image_size=(100, 100))
    found = once.explain(QUERIES.to(device), target, seen)
    assert found.assignment.gt.tolist() == [0, 1, NEGATIVE, NEGATIVE]
    assert -float(found.chosen.value.sum()) == pytest.approx(costs[0][0] + costs[1][1], abs=2e-6)
    assert sorted(found.bar.tolist()) == pytest.approx([-costs[1][1], -costs[0][0]], abs=2e-6)


def test_the_focal_cost_and_its_saturation():
    """Of one ground truth and one prior: the value is minus the cost. At p = 0 and p = 1 it is finite."""
    rule = Hungarian(weights=(1, 0, 0))

    def cost(p: float) -> float:
        seen = Predictions(DECODED[:1], torch.tensor([[p]]))
        one = {"boxes": OBJECTS["boxes"][:1], "labels": torch.tensor([0])}
        return -rule.explain(Priors.from_boxes(torch.zeros(1, 4)), one, seen).candidates.value.item()

    golden = {0.01: 1.128381, 0.1: 0.465483, 0.3: 0.123411, 0.5: -0.086643, 0.9: -1.398557, 0.99: -3.385144}
    for p, value in golden.items():
        assert cost(p) == pytest.approx(value, abs=3e-6)
    assert cost(1.0) == pytest.approx(0.75 * math.log(1e-8), rel=1e-6)
    assert cost(0.0) == pytest.approx(-0.25 * math.log(1e-8), rel=1e-6)


def test_l1_is_over_centres_and_sizes():
    """Row 0 of the scene: [.02, .08] in (cx, cy, w, h); over corners it would be [.04, .16]."""
    rule = Hungarian(None, (0, 1, 0), image_size=(100, 100), repeat=4)
    found = rule.explain(QUERIES, OBJECTS, Predictions(DECODED, SOFTMAX)).candidates
    row = {
        gt: -value
        for prior, gt, value in zip(*map(torch.Tensor.tolist, (found.prior, found.gt, found.value)), strict=True)
        if prior == 0
    }
    assert row == pytest.approx({0: 0.02, 1: 0.08}, abs=1e-7)
    wide = Hungarian(None, (0, 1, 0), image_size=(100, 400), repeat=4)
    found = wide.explain(QUERIES, OBJECTS, Predictions(DECODED, SOFTMAX)).candidates
    assert -float(found.value[(found.prior == 0) & (found.gt == 0)]) == pytest.approx(0.005)


# ------------------------------------------------------------------------- any table of costs: the class cost is one

COLUMNS = 12


def by_table(table, candidates="all", repeat=1):
    """(rule, priors, target, predictions) in which prior p and ground truth g cost -table[p][g], which lies in 0..1."""
    scores = torch.tensor(table)
    priors = Priors.from_boxes(torch.zeros(len(scores), 4))
    target = {
        "boxes": torch.tensor([[0.0, 0, 8, 8]]).repeat(scores.shape[1], 1),
        "labels": torch.arange(scores.shape[1]),
    }
    rule = Hungarian("softmax", (1, 0, 0), candidates, repeat=repeat)
    return rule, priors, target, Predictions(torch.zeros(len(scores), 4), scores)


def test_greedy_is_not_optimal():
    rule, *given = by_table([[0.9, 0.8], [0.85, 0.1], [0.2, 0.15]])
    assert rule(*given).gt.tolist() == [1, 0, NEGATIVE]


def test_three_copies_of_each():
    """1.4: jointly 0, 1, 3 -> 0 and 2, 5, 7 -> 1, of sum 1.95. Rounds as DEIM makes them take query 4 for query 0."""
    costs = [[0.5, 0.9], [0.2, 0.8], [0.9, 0.1], [0.3, 0.4], [0.7, 0.6], [0.6, 0.35], [0.8, 0.7], [0.95, 0.5]]
    rule, *given = by_table([[1 - cost for cost in row] for row in costs], repeat=3)
    found = rule.explain(*given)
    assert found.assignment.gt.tolist() == [0, 0, 1, 0, NEGATIVE, 1, NEGATIVE, 1]
    assert 6 - float(found.chosen.value.sum()) == pytest.approx(1.95, abs=1e-6)


def test_too_few_priors_for_all_copies_are_shared_out():
    """Five priors, all better for ground truth 0: it gets three of them, not four."""
    rule, *given = by_table([[0.9 - 0.01 * p, 0.1 + 0.01 * p * p] for p in range(5)], repeat=4)
    assert rule(*given).gt.tolist() == [0, 0, 0, 1, 1]
    rule, *given = by_table([[0.9, 0.1]], repeat=4)
    assert rule(*given).gt.tolist() == [0]


def test_more_ground_truths_than_priors():
    rule, *given = by_table([[0.3, 0.9, 0.5]])
    assert rule(*given).gt.tolist() == [1]


def test_identical_ground_truths_have_a_prior_each():
    rule, *given = by_table([[0.2] * 3, [0.9] * 3, [0.7] * 3, [0.8] * 3])
    answer = rule(*given)
    assert answer.gt[0] == NEGATIVE and sorted(answer.gt[1:].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("repeat", [1, 2])
def test_permuting_ground_truths_permutes_the_labels(repeat):
    generator = torch.Generator().manual_seed(repeat)
    for _ in range(40):
        rule, priors, target, seen = by_table(torch.rand(30, COLUMNS, generator=generator).tolist(), repeat=repeat)
        order = torch.randperm(COLUMNS, generator=generator)
        moved = {"boxes": target["boxes"][order], "labels": target["labels"][order]}
        before, after = rule(priors, target, seen).gt, rule(priors, moved, seen).gt
        assert torch.equal(torch.where(after >= 0, order[after.clamp(min=0)], NEGATIVE), before)
        assert before.ge(0).sum() == COLUMNS * repeat


def test_the_sum_is_never_above_greedys():
    """Ground truth after ground truth, each its cheapest prior left: a matching too, dearer somewhere."""
    generator, dearer = torch.Generator().manual_seed(3), 0
    for _ in range(60):
        value = torch.rand(20, COLUMNS, generator=generator) ** 0.2
        rule, *given = by_table(value.tolist())
        best = float(rule.explain(*given).chosen.value.double().sum())
        left, greedy = value.clone(), 0.0
        for g in range(COLUMNS):
            prior = int(left[:, g].argmax())
            greedy += float(left[prior, g])
            left[prior] = -1
        assert best >= greedy - 1e-6
        dearer += best > greedy + 1e-6
    assert dearer > 30


@pytest.mark.parametrize("candidates", ["inside", "center"])
def test_a_ground_truth_without_candidate_gets_nothing_and_changes_nobody(candidates):
    priors = Priors.points((64, 64), (8, 16, 32))
    boxes = torch.tensor([[6.0, 6, 30, 30], [4, 6, 28, 30], [41, 41, 43, 43]])
    seen = Predictions(priors.boxes + torch.tensor([-12.0, -11, 12, 11]), torch.full((84, 3), 0.5))
    rule = Hungarian(candidates=candidates, image_size=(64, 64))
    more, fewer = rule(priors, target_of(boxes), seen), rule(priors, target_of(boxes[:2]), seen)
    assert torch.equal(more.gt, fewer.gt)
    assert more.positives_per_gt(3).tolist() == [1, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_predictions_are_widened(dtype):
    half = Predictions(DECODED.to(dtype), LOGITS.sigmoid().to(dtype))
    rule = Hungarian(image_size=(100, 100))
    answer = rule(QUERIES, OBJECTS, half)
    wide = rule(QUERIES, OBJECTS, Predictions(half.boxes.float(), half.scores.float()))
    assert answer.similarity.dtype == torch.float32
    assert torch.equal(answer.gt, wide.gt) and torch.equal(answer.similarity, wide.similarity)


def test_nothing_to_assign():
    rule = Hungarian(image_size=SIZE)
    seen = Predictions(DECODED, SOFTMAX)
    assert rule(QUERIES, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}, seen).negative.all()
    nothing = Predictions(torch.zeros(0, 4), torch.zeros(0, 2))
    assert len(rule(Priors.from_boxes(torch.zeros(0, 4)), OBJECTS, nothing).gt) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"image_size must be \(height, width\) .* got None"),
        ({"image_size": (64,)}, r"image_size must be .* got \(64,\)"),
        ({"image_size": (64, 0)}, r"image_size must be .* got \(64, 0\)"),
        ({"image_size": SIZE, "class_cost": "bce"}, "class_cost must be one of .* got 'bce'"),
        ({"image_size": SIZE, "candidates": "none"}, "candidates must be one of .* got 'none'"),
        ({"image_size": SIZE, "repeat": 0}, "repeat must be a whole number of at least 1, got 0"),
        ({"image_size": SIZE, "weights": (1, 2)}, r"weights must be three numbers .* got \(1, 2\)"),
        ({"image_size": SIZE, "weights": (1, -2, 0)}, r"weights must be three numbers .* got \(1, -2, 0\)"),
        ({"image_size": SIZE, "weights": (1, math.nan, 0)}, r"weights must be three numbers .* got \(1, nan, 0\)"),
    ],
)
def test_what_is_wrong_is_named(arguments, message, unchecked):
    with pytest.raises(ValueError, match=message):
        Hungarian(**arguments)


def test_lists_are_as_good_as_tuples_and_no_l1_needs_no_size():
    assert Hungarian(weights=[2, 5, 2], image_size=[64, 96]) == Hungarian(image_size=(64, 96))
    assert Hungarian(weights=(2, 0, 2)).image_size is None
    seen = Predictions(DECODED, SOFTMAX)
    seen.scores[1, 0] = math.nan
    with pytest.raises(ValueError, match=r"predictions.scores\[0, 1, 0\] must be finite, got nan"):
        Hungarian(weights=(2, 0, 2))(QUERIES, OBJECTS, seen)
