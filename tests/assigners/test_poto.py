"""POTO against a dense matching by its definition, on every path; the goldens, and what DeFCN does otherwise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import POTO
from labelkit.similarity import iou
from tests import oracles_matching as oracle
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, predictions_for, scenes, stacked

rules = st.builds(
    POTO,
    alpha=st.sampled_from([0.8, 0.0, 0.5, 1.0]),
    radius=st.sampled_from([1.5, 0.5, 3.0, 100.0]),
    min_side=st.sampled_from([None, 8.0, 24.0]),
)


def table_of(rule: POTO, priors: Priors, gts: torch.Tensor, labels: torch.Tensor, seen: Predictions) -> np.ndarray:
    strides = priors.known_strides()
    near = oracle.inside(priors.centers, priors.levels, strides, gts, rule.radius, rule.min_side)
    costs = oracle.poto_costs(seen.boxes, seen.scores, gts, labels, rule.alpha)
    return oracle.infeasible_but(near, costs, len(priors), len(gts))


def check(answer, rule: POTO, priors: Priors, target: dict, seen: Predictions) -> None:
    overlaps = iou(seen.boxes[:, None], target["boxes"][None])
    oracle.assert_best(answer, table_of(rule, priors, target["boxes"], target["labels"], seen), overlaps)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=60)
@given(data=st.data(), scene=scenes(), rule=rules)
def test_equals_the_dense_matching(way, data, scene, rule):
    seen = data.draw(predictions_for(scene.priors, scene.boxes))
    with path(way, scene.priors) as priors:
        check(rule(priors, scene.target, seen), rule, priors, scene.target, seen)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=20)
@given(data=st.data(), batch=batches(), rule=rules)
def test_a_batch_is_its_images(way, data, batch, rule):
    each = [data.draw(predictions_for(batch.priors, boxes)) for boxes in batch.boxes]
    with path(way, batch.priors) as priors:
        together = rule(priors, batch.targets, stacked(each))
        for image, target in enumerate(batch.targets):
            check(together[image], rule, priors, target, each[image])
            assert torch.equal(together[image].gt, rule(priors, target, each[image]).gt)


# The scene of modern-assigners 2.2: 84 points, predictions that lean, scores by place.
POINTS = Priors.points((64, 64), (8, 16, 32))


def golden(*rows, labels=None) -> tuple[dict, Predictions]:
    x, y = POINTS.centers.unbind(1)
    half = torch.tensor([12.0, 11])
    middle = POINTS.centers + torch.tensor([0.7, -0.4])
    scores = torch.stack((0.1 + 0.01 * (x % 29), 0.1 + 0.01 * (y % 23)), dim=1)
    target = {"boxes": torch.tensor(rows), "labels": torch.tensor(labels or [0] * len(rows))}
    return target, Predictions(torch.cat((middle - half, middle + half), dim=1), scores)


THREE = ((6.0, 6, 30, 30), (20.0, 10, 44, 34), (50.0, 51, 54, 54.5))


@pytest.mark.parametrize(
    ("rows", "labels", "alpha", "points", "qualities"),
    [
        (THREE, [0, 1, 0], 0.8, [80, 19, 54], [0.596947, 0.542658, 0.043903]),
        (THREE, [0, 1, 0], 1.0, [80, 19, 54], [0.734813, 0.629328, 0.026515]),
        (((6.0, 6, 30, 30), (7, 6.5, 31, 30.5)), None, 0.8, [80, 18], [0.596947, 0.653082]),
        (((6.0, 6, 30, 30), (4.0, 6, 28, 30)), None, 0.8, [18, 80], [0.593065, 0.619176]),  # both prefer 80
    ],
)
def test_the_golden_scene(rows, labels, alpha, points, qualities, device):
    target, seen = golden(*rows, labels=labels)
    target = {key: value.to(device) for key, value in target.items()}
    seen = Predictions(seen.boxes.to(device), seen.scores.to(device))
    found = POTO(alpha).explain(POINTS.to(device), target, seen)
    by_gt = found.chosen.gt.argsort()
    assert found.chosen.prior[by_gt].tolist() == points
    assert found.chosen.value[by_gt].tolist() == pytest.approx(qualities, abs=1e-6)
    assert found.bar.tolist() == pytest.approx(qualities, abs=1e-6)
    assert found.assignment.positives_per_gt(len(rows)).tolist() == [1] * len(rows)


def test_the_candidates_of_the_golden_scene():
    target, seen = golden(*THREE, labels=[0, 1, 0])
    found = POTO().explain(POINTS, target, seen)
    assert torch.bincount(found.candidates.gt).tolist() == [14, 8, 1]


def test_a_ground_truth_without_candidate_gets_nothing_and_changes_nobody(device):
    """DeFCN matches it at quality -1: point 0 would answer for an object 35 px away."""
    points, rule = POINTS.to(device), POTO()
    target, seen = golden(*THREE, labels=[0, 1, 0])
    more, _ = golden(*THREE, (41.0, 41, 43, 43), labels=[0, 1, 0, 0])
    seen = Predictions(seen.boxes.to(device), seen.scores.to(device))
    before, after = (rule(points, {k: v.to(device) for k, v in one.items()}, seen) for one in (target, more))
    assert torch.equal(before.gt, after.gt) and after.positives_per_gt(4).tolist() == [1, 1, 1, 0]
    floored = POTO(min_side=16)(points, {k: v.to(device) for k, v in more.items()}, seen)
    assert floored.positives_per_gt(4).tolist() == [1, 1, 1, 1]


def test_identical_ground_truths_have_a_prior_each():
    target, seen = golden((6.0, 6, 30, 30), (6.0, 6, 30, 30), (6.0, 6, 30, 30))
    answer = POTO()(POINTS, target, seen)
    assert answer.positives_per_gt(3).tolist() == [1, 1, 1]
    check(answer, POTO(), POINTS, target, seen)


def test_more_ground_truths_than_candidates():
    target, seen = golden((1.0, 1, 7, 7), (2.0, 2, 6, 6), (1.0, 2, 7, 6))  # all of them hold point 0 alone
    fit = iou(seen.boxes[:1], target["boxes"])
    assert POTO()(POINTS, target, seen).gt.tolist() == [int(fit.argmax())] + [NEGATIVE] * 83


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_predictions_are_widened(dtype):
    target, seen = golden(*THREE, labels=[0, 1, 0])
    half = Predictions(seen.boxes.to(dtype), seen.scores.to(dtype))
    answer = POTO()(POINTS, target, half)
    wide = POTO()(POINTS, target, Predictions(half.boxes.float(), half.scores.float()))
    assert answer.similarity.dtype == torch.float32
    assert torch.equal(answer.gt, wide.gt) and torch.equal(answer.similarity, wide.similarity)


def test_nothing_to_assign():
    _, seen = golden()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    assert POTO()(POINTS, empty, seen).negative.all()
    nothing, none = (
        Priors.from_boxes(torch.zeros(0, 4), strides=(8,)),
        Predictions(torch.zeros(0, 4), torch.zeros(0, 2)),
    )
    assert len(POTO()(nothing, golden(*THREE)[0], none).gt) == 0


def test_what_is_wrong_is_named(unchecked):
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"alpha must lie in \[0, 1\], got {alpha}"):
            POTO(alpha)
    for radius in (0, -1.0, float("inf")):
        with pytest.raises(ValueError, match=f"radius must be a positive number of strides, got {radius}"):
            POTO(radius=radius)
    with pytest.raises(ValueError, match="min_side must be"):
        POTO(min_side=0)
    target, seen = golden(*THREE)
    with pytest.raises(ValueError, match=r"target\['labels'\] must be given"):
        POTO()(POINTS, {"boxes": target["boxes"]}, seen)
    with pytest.raises(ValueError, match="priors have no strides"):
        POTO()(Priors.from_boxes(POINTS.boxes), target, seen)
    seen.boxes[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"predictions.boxes\[0, 3, 1\] must be finite, got nan"):
        POTO()(POINTS, target, seen)
