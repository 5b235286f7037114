"""The module in the place of Ultralytics' assigner: its five answers by a loop, padding anywhere, what it leaves out.

Held against the real package in tests/peers/test_ultralytics.py.
"""

import pytest
import torch

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import ATSS, RFLA, DynamicSoftLabel, MaxIoU, SimOTA, TaskAligned
from labelkit.assignment import Assignment
from labelkit.detectors import receptive_field_view
from labelkit.interop import UltralyticsAssigner

STRIDES, CLASSES = (8, 16, 32), 3
POINTS = Priors.points((160, 224), STRIDES)
SQUARES = receptive_field_view((32, 64, 128), fraction=1.0)


def batch(seed=0, rows=6, dtype=torch.float32):
    """Scores, boxes, points and padded ground truths; which rows are real is drawn, boxes of padding are zeros."""
    pick = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, rows, 2, generator=pick) * 120, 4 + 60 * torch.rand(2, rows, 2, generator=pick)
    mask = (torch.rand(2, rows, 1, generator=pick) < 0.6).float()
    boxes = torch.cat((corner, corner + size), dim=2) * mask
    labels = torch.randint(CLASSES, (2, rows, 1), generator=pick).float()
    scores = torch.rand(2, len(POINTS), CLASSES, generator=pick)
    moved = POINTS.centers.repeat(2, 1, 1) + 6 * torch.randn(2, len(POINTS), 2, generator=pick)
    half = 3 + 30 * torch.rand(2, len(POINTS), 2, generator=pick)
    decoded = torch.cat((moved - half, moved + half), dim=2)
    return scores.to(dtype), decoded, POINTS.centers, labels, boxes, mask


RULES = [(TaskAligned(k=10), None), (SimOTA(), None), (DynamicSoftLabel(), None), (ATSS(k=3), SQUARES)]


@pytest.mark.parametrize(("rule", "view"), RULES)
@pytest.mark.parametrize("seed", range(3))
def test_the_five_answers_are_those_of_the_loop(rule, view, seed):
    scores, decoded, points, labels, boxes, mask = batch(seed)
    answer = UltralyticsAssigner(rule, STRIDES, view)(scores, decoded, points, labels, boxes, mask)
    priors = POINTS if view is None else view(POINTS)
    some = 0
    for image in range(2):
        rows = mask[image, :, 0].nonzero().flatten().tolist()
        target = {"boxes": boxes[image, rows], "labels": labels[image, rows, 0].long()}
        want = rule(priors, target, Predictions(decoded[image], scores[image]))
        for point, owner in enumerate(want.gt.tolist()):
            target_label, target_box, target_score, positive, index = (part[image, point] for part in answer)
            assert bool(positive) == (owner >= 0)
            expected = torch.zeros(CLASSES)
            if owner < 0:
                assert int(target_label) == CLASSES and int(index) == 0 and target_box.tolist() == [0, 0, 0, 0]
            else:
                some += 1
                row = rows[owner]
                assert int(index) == row and torch.equal(target_box, boxes[image, row])
                assert int(target_label) == int(labels[image, row, 0])
                expected[int(target_label)] = want.score_target[point]
            torch.testing.assert_close(target_score, expected)
    assert some >= 5


def test_shapes_and_dtypes_are_theirs_and_nothing_is_a_result_too():
    rule = UltralyticsAssigner(SimOTA(), STRIDES)
    for dtype, rows in ((torch.float16, 5), (torch.float32, 0)):
        scores, decoded, points, labels, boxes, mask = batch(rows=rows, dtype=dtype)
        label, box, score, positive, index = rule(scores, decoded, points, labels, boxes, mask)
        lead = (2, len(POINTS))
        assert label.shape == positive.shape == index.shape == lead and box.shape == (*lead, 4)
        assert score.shape == scores.shape and score.dtype == dtype and box.dtype == boxes.dtype
        assert label.dtype == index.dtype == torch.int64 and positive.dtype == torch.bool
        assert bool(positive.any()) == (rows > 0)


def test_a_box_without_a_size_is_padding():
    scores, decoded, points, labels, boxes, mask = batch()
    mask[:] = 1
    full = UltralyticsAssigner(SimOTA(), STRIDES)(scores, decoded, points, labels, boxes, mask)
    boxes[:, 0, 2:] = boxes[:, 0, :2]  # a line and a point are no objects
    fewer = UltralyticsAssigner(SimOTA(), STRIDES)(scores, decoded, points, labels, boxes, mask)
    mask[:, 0] = 0
    masked = UltralyticsAssigner(SimOTA(), STRIDES)(scores, decoded, points, labels, boxes, mask)
    assert (full[4][full[3]] == 0).any() and not (fewer[4][fewer[3]] == 0).any()
    assert all(torch.equal(one, other) for one, other in zip(fewer, masked, strict=True))


def test_the_grid_is_recognised_and_kept():
    rule = UltralyticsAssigner(SimOTA(), STRIDES)
    first = rule._priors(POINTS.centers)
    assert first.grid is not None and first.level_strides == STRIDES and first.level_sizes == POINTS.level_sizes
    assert rule._priors(POINTS.centers.clone()) is first
    other = Priors.points((64, 64), STRIDES)
    assert len(rule._priors(other.centers)) == len(other)
    with pytest.raises(ValueError, match=r"anc_points must be the middles of the cells of strides \(4.0, 8.0\)"):
        UltralyticsAssigner(SimOTA(), (4, 8))._priors(POINTS.centers)
    with pytest.raises(ValueError, match="anc_points must be the middles"):
        rule._priors(POINTS.centers / 8)  # in strides, as make_anchors gives them


def test_what_is_no_rule_or_has_no_fields_is_refused():
    with pytest.raises(TypeError, match="assigner must be an assigner, got the class SimOTA"):
        UltralyticsAssigner(SimOTA)
    with pytest.raises(ValueError, match=r"RFLA assigns receptive fields.* give assignment_priors=receptive_field"):
        UltralyticsAssigner(RFLA())
    assert UltralyticsAssigner(RFLA(), STRIDES, receptive_field_view((35, 91, 267))).view is not None


def test_ignored_points_and_weights_are_said_to_be_left_out(monkeypatch):
    monkeypatch.setattr("labelkit.once._said", set())
    args = batch()
    rule = UltralyticsAssigner(MaxIoU(fg_thresh=0.5, bg_thresh=0.1), STRIDES, SQUARES)
    with pytest.warns(UserWarning, match="Ultralytics' loss has no place for the ignored priors, now background"):
        rule(*args)

    def weighed(priors, targets, predictions):
        gt = torch.full((2, len(priors)), NEGATIVE)
        gt[:, 0] = 0
        return Assignment(gt, torch.zeros(gt.shape), (gt == 0).float(), 1 - 0.5 * (gt == 0))

    args[-1][:] = 1
    args[-2][:, 0] = torch.tensor([0.0, 0, 9, 9])
    with pytest.warns(UserWarning, match="no place for weights of this assignment"):
        assert UltralyticsAssigner(weighed, STRIDES)(*args)[3].sum() == 2


def test_a_box_without_a_size_is_padding_and_a_broken_one_is_refused():
    scores, decoded, points, labels, boxes, mask = batch()
    mask[:] = 1
    boxes[:] = torch.tensor([10.0, 10, 40, 40])
    module = UltralyticsAssigner(SimOTA(), STRIDES)
    boxes[0, 2] = torch.tensor([20.0, 20, 20, 40])
    assert 2 not in module(scores, decoded, points, labels, boxes, mask)[4][0].tolist()
    for broken in ([40.0, 10, 10, 40], [torch.nan, 10, 40, 40], [10.0, 10, torch.inf, 40]):
        boxes[0, 2] = torch.tensor(broken)
        with pytest.raises(ValueError, match=r"boxes.*\[2\] must"):
            module(scores, decoded, points, labels, boxes, mask)
