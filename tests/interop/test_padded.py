"""Padded batches against loops over their rows: padding anywhere, float labels, empty images, coordinates of 1e5."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import IGNORED, NEGATIVE, Priors
from labelkit.assigners import ATSS, MaxIoU, TopK
from labelkit.assignment import Assignment
from labelkit.interop import padded_rows, targets_from_padded
from tests import strategies
from tests.strategies import far_batch

ANCHORS = Priors.anchors((64, 96), (8, 16), ((16,), (32,)))


@st.composite
def annotations(draw):
    """[B, N, 5] with rows of class -1 anywhere, whose boxes are anything, also not a number."""
    images, rows = draw(st.integers(0, 3)), draw(st.integers(0, 5))
    table = torch.rand(images, rows, 5, generator=torch.Generator().manual_seed(draw(st.integers(0, 999)))) * 1e5
    for image in range(images):
        for row in range(rows):
            label = draw(st.sampled_from([-1, 0, 1, 7]))
            table[image, row, 4] = label
            if label == -1:
                table[image, row, :4] = draw(st.sampled_from([-1.0, 0.0, math.nan]))
    return table.to(draw(st.sampled_from([torch.float32, torch.float64])))


@settings(max_examples=30, deadline=None)
@given(annotations())
def test_the_targets_are_the_rows_that_are_no_padding(table):
    targets = targets_from_padded(table)
    assert len(targets) == len(table)
    for target, rows in zip(targets, table.tolist(), strict=True):
        wanted = [row for row in rows if row[4] != -1]
        assert target["boxes"].tolist() == [row[:4] for row in wanted]
        assert target["labels"].tolist() == [row[4] for row in wanted]
        assert target["labels"].dtype == torch.int64 and target["boxes"].shape == (len(wanted), 4)
        assert target["boxes"].dtype == table.dtype


def test_whole_numbers_and_half_ones_become_float32():
    table = torch.tensor([[[1, 2, 30, 40, 5], [0, 0, 0, 0, -1]]])
    for dtype in (torch.int64, torch.float16):
        (target,) = targets_from_padded(table.to(dtype))
        assert target["boxes"].dtype == torch.float32 and target["boxes"].tolist() == [[1, 2, 30, 40]]
        assert target["labels"].tolist() == [5]


@pytest.mark.parametrize("label", [0.5, -2.0, math.nan, math.inf])
def test_a_class_that_is_none_is_named(label):
    table = torch.tensor([[[0.0, 0, 1, 1, 0]], [[0.0, 0, 1, 1, label]]])
    with pytest.raises(ValueError, match=rf"annotations\[1, 0, 4\] must be a class counted from 0.* got {label}"):
        targets_from_padded(table)


def test_a_wrong_shape_is_named(unchecked):
    with pytest.raises(ValueError, match=r"annotations must be a tensor of shape \[B, N, 5\], got \[3, 5\]"):
        targets_from_padded(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"annotations must be a tensor of shape \[B, N, 5\], got list"):
        targets_from_padded([[[0.0, 0, 1, 1, 0]]])


def rows_by_loop(priors, assignment, target, empty):
    """One image's rows, an anchor at a time."""
    rows = []
    for (x1, y1, x2, y2), owner in zip(priors.boxes.double().tolist(), assignment.gt.tolist(), strict=True):
        row = [0.0, 0.0, 0.0, 0.0, 0.0]
        if owner == IGNORED or (len(target["boxes"]) == 0 and empty == "ignored"):
            row[4] = -1.0
        elif owner >= 0:
            a1, b1, a2, b2 = target["boxes"][owner].double().tolist()
            w, h = x2 - x1, y2 - y1
            shift = ((a1 + a2) / 2 - (x1 + x2) / 2) / w, ((b1 + b2) / 2 - (y1 + y2) / 2) / h
            row = [*shift, math.log((a2 - a1) / w), math.log((b2 - b1) / h), float(target["labels"][owner]) + 1]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)


@settings(max_examples=12, deadline=None)
@given(
    strategies.batches("boxes"),
    st.sampled_from([MaxIoU(), ATSS(), TopK(k=2)]),
    st.sampled_from(["negative", "ignored"]),
)
def test_rows_are_those_of_the_loop(batch, rule, empty):
    assignment = rule(batch.priors, batch.targets)
    rows = padded_rows(batch.priors, assignment, batch.targets, empty=empty)
    assert rows.shape == (len(batch.targets), len(batch.priors), 5)
    for image, target in enumerate(batch.targets):
        wanted = rows_by_loop(batch.priors, assignment[image], target, empty)
        torch.testing.assert_close(rows[image].double(), wanted, rtol=1e-4, atol=1e-4)
        alone = padded_rows(batch.priors, rule(batch.priors, target), target, empty=empty)
        assert torch.equal(alone, rows[image])


@pytest.mark.parametrize("seed", [3, 4, 5, 7])
def test_rows_at_large_coordinates_are_as_good_as_their_boxes(seed):
    batch = far_batch(seed)
    targets = [{**target, "boxes": target["boxes"].double()} for target in batch.targets]
    assignment = TopK(k=3)(batch.priors, targets)
    rows = padded_rows(batch.priors, assignment, targets)
    assert rows.dtype == torch.float64 and assignment.positive.any()
    for image, target in enumerate(targets):
        wanted = rows_by_loop(batch.priors, assignment[image], target, "negative")
        torch.testing.assert_close(rows[image], wanted, rtol=1e-9, atol=1e-9)


def test_a_round_trip_from_padded_annotations():
    table = torch.full((3, 4, 5), -1.0)
    table[0, 1] = torch.tensor([8.0, 8, 30, 30, 2])
    table[0, 3] = torch.tensor([40.0, 20, 90, 60, 0])
    table[2, 0] = torch.tensor([0.0, 0, 16, 16, 1])
    targets = targets_from_padded(table)
    rows = padded_rows(ANCHORS, MaxIoU()(ANCHORS, targets), targets)
    assert set(rows[0, :, 4].tolist()) == {-1, 0, 1, 3} and set(rows[1, :, 4].tolist()) == {0}
    assert {0.0, 2.0} <= set(rows[2, :, 4].tolist())
    ignored = padded_rows(ANCHORS, MaxIoU()(ANCHORS, targets), targets, empty="ignored")
    assert set(ignored[1, :, 4].tolist()) == {-1} and torch.equal(ignored[0], rows[0])


def test_an_image_of_regions_alone_has_no_object():
    target = {"boxes": torch.tensor([[0.0, 0, 30, 30]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([1])}
    assignment = MaxIoU()(ANCHORS, target)
    assert padded_rows(ANCHORS, assignment, target)[:, 4].unique().tolist() == [-1, 0]
    assert padded_rows(ANCHORS, assignment, target, empty="ignored")[:, 4].unique().tolist() == [-1]


def test_points_have_no_size_to_divide_by():
    points = Priors.points((16, 16), (8,))
    target = {"boxes": torch.tensor([[0.0, 0, 16, 16]]), "labels": torch.tensor([0])}
    gt = torch.tensor([0, NEGATIVE, NEGATIVE, NEGATIVE])
    assignment = Assignment(gt, torch.zeros(4), (gt >= 0).float(), torch.ones(4))
    with pytest.raises(ValueError, match="priors must have a positive size"):
        padded_rows(points, assignment, target)


def test_what_is_wrong_is_named():
    target = {"boxes": torch.tensor([[0.0, 0, 30, 30]]), "labels": torch.tensor([0])}
    assignment = MaxIoU()(ANCHORS, [target])
    with pytest.raises(ValueError, match="empty must be 'negative' or 'ignored', got 'skip'"):
        padded_rows(ANCHORS, assignment, [target], empty="skip")
    with pytest.raises(ValueError, match="targets must be one an image of the assignment .*, got 2"):
        padded_rows(ANCHORS, assignment, [target, target])


def test_weights_and_soft_targets_are_said_to_be_left_out(monkeypatch):
    monkeypatch.setattr("labelkit.once._said", set())
    gt = torch.tensor([0] + [NEGATIVE] * (len(ANCHORS) - 1))
    target = {"boxes": torch.tensor([[0.0, 0, 30, 30]]), "labels": torch.tensor([0])}
    half = torch.full((len(ANCHORS),), 0.5)
    soft = Assignment(gt, half, (gt >= 0) * half, torch.ones_like(half))
    with pytest.warns(UserWarning, match="no place for soft targets of this assignment"):
        padded_rows(ANCHORS, soft, target)
    with pytest.warns(UserWarning, match="no place for soft targets and weights of this assignment"):
        padded_rows(ANCHORS, Assignment(gt, half, (gt >= 0) * half, half), target)
