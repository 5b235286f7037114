"""The best prior of every ground truth: that of the whole table, on every path."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import labelkit
from labelkit import Priors
from labelkit.search.best import best_prior
from labelkit.similarity import dotd, giou, iou, nwd
from tests.assigners.paths import PATHS, path
from tests.strategies import scenes

SIMILARITIES = [iou, partial(nwd, constant=12.8), giou]


def slow_best(priors, boxes, similarity):
    found = []
    for box in boxes:
        values = similarity(priors, box[None]).tolist()
        found.append((max(values), values.index(max(values))))
    return found


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=40)
@given(scene=scenes(kind="anchors"), similarity=st.sampled_from(SIMILARITIES))
def test_equals_the_slow_loop(way, scene, similarity):
    with path(way, scene.priors) as priors:
        value, prior = best_prior(priors, scene.boxes, similarity)
    want = slow_best(scene.priors.boxes, scene.boxes, similarity)
    assert value.tolist() == pytest.approx([best for best, _ in want], abs=1e-6)
    assert prior.tolist() == [index for _, index in want]


def test_who_overlaps_nothing_has_the_first_prior_at_0():
    priors = Priors.anchors((64, 64), (8,), [(8,)])
    far = torch.tensor([[500.0, 500, 520, 520], [4, 4, 12, 12]])
    value, prior = best_prior(priors, far)
    assert value.tolist() == [0, pytest.approx(1 / 7)] and prior.tolist() == [0, 0]  # four anchors tie for the second
    value, prior = best_prior(priors, far, giou)
    assert value[0] < 0 and prior[0] == len(priors) - 1


def test_nothing_on_either_side(device):
    none, some = torch.empty(0, 4, device=device), torch.tensor([[0.0, 0, 8, 8]], device=device)
    priors = Priors.anchors((16, 16), (8,), [(8,)], device=device)
    assert [len(one) for one in best_prior(priors, none)] == [0, 0]
    value, prior = best_prior(Priors.from_boxes(none), some)
    assert value.tolist() == [0] and prior.tolist() == [-1]


def test_it_is_public_and_says_what_it_does_not_take():
    assert labelkit.best_prior is best_prior
    points = Priors.points((16, 16), (8,))
    with pytest.raises(ValueError, match="iou, which says nothing about points"):
        best_prior(points, torch.tensor([[0.0, 0, 8, 8]]))
    assert best_prior(points, torch.tensor([[0.0, 0, 8, 8]]), partial(dotd, constant=8.0))[0].tolist() == [1]
    with pytest.raises(ValueError, match=r"boxes\[0\]"):
        best_prior(points, torch.tensor([[8.0, 0, 0, 8]]))
    with pytest.raises(ValueError, match="boxes are on meta, the priors are on cpu"):
        best_prior(points, torch.ones(1, 4, device="meta"))
