"""Overlaps of decoded boxes: every pair above 0, or the k best of each ground truth, wherever the boxes stand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import Priors
from labelkit.search import decoded, windows
from labelkit.search.candidates import decoded_overlaps
from labelkit.similarity import iou
from tests.assigners.paths import PATHS, path
from tests.strategies import predictions_for, scenes


def couples(pairs) -> dict[tuple[int, int], float]:
    found = dict(zip(zip(pairs.prior.tolist(), pairs.gt.tolist(), strict=True), pairs.value.tolist(), strict=True))
    assert len(found) == len(pairs), "no pair twice"
    return found


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=60)
@given(data=st.data(), scene=scenes(), k=st.sampled_from([None, 1, 3, 500]), far=st.integers(0, 3))
def test_equals_the_slow_loop(way, data, scene, k, far):
    boxes = data.draw(predictions_for(scene.priors, scene.boxes)).boxes
    boxes[: far * len(boxes) // 10] += 400  # some boxes far from their priors
    among = torch.rand(len(boxes), generator=torch.Generator().manual_seed(far)) < 0.7
    with path(way, scene.priors) as priors:
        found = couples(decoded_overlaps(priors, boxes, scene.boxes, among, k))
    value = iou(boxes[:, None], scene.boxes[None])
    value[~among] = 0
    every = {(p, g): value[p, g].item() for p, g in value.nonzero().tolist()}
    assert found.items() <= every.items()
    for g in range(len(scene.boxes)):
        best, wanted = (sorted((v for (_, gt), v in some.items() if gt == g), reverse=True) for some in (found, every))
        assert best[:k] == wanted[:k]


def near_their_priors(priors: Priors, spread: float) -> torch.Tensor:
    pick = torch.Generator().manual_seed(0)
    stride = priors.strides[:, None]
    middle = priors.centers + 0.5 * stride * torch.randn(len(priors), 2, generator=pick)
    half = stride * torch.exp(spread * torch.randn(len(priors), 2, generator=pick))
    return torch.cat((middle - half, middle + half), dim=1)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_windows_leave_out_most_pairs_and_none_that_overlaps(spread, monkeypatch):
    """With boxes of all sizes (spread 3) windows would be no narrower than everything: blocks, and the same answer."""
    priors, pick = Priors.points((320, 320), (8, 16, 32)), torch.Generator().manual_seed(1)
    corner = 300 * torch.rand(300, 2, generator=pick)
    gt = torch.cat((corner, corner + 4 + 30 * torch.rand(300, 2, generator=pick)), dim=1)
    boxes, evaluated = near_their_priors(priors, spread), 0

    def counted(a, b):
        nonlocal evaluated
        value = iou(a, b)
        evaluated += value.numel()
        return value

    counted.__module__ = "labelkit.similarity"
    monkeypatch.setattr(decoded, "iou", counted)
    found = couples(decoded_overlaps(priors, boxes, gt, torch.ones(len(priors), dtype=torch.bool)))
    monkeypatch.setattr(windows, "SMALL", 10**9)
    assert found == couples(decoded_overlaps(priors, boxes, gt, torch.ones(len(priors), dtype=torch.bool)))
    all_pairs = len(priors) * len(gt)
    assert evaluated - all_pairs < all_pairs / 4 if spread < 1 else evaluated - all_pairs <= 1.3 * all_pairs


def test_with_k_the_answer_is_bounded(monkeypatch):
    """Every box overlaps every ground truth."""
    priors = Priors.points((320, 320), (8, 16, 32))
    gt = torch.tensor([[100.0, 100, 140, 130]]).repeat(200, 1)
    boxes = priors.boxes + torch.tensor([-400.0, -400, 400, 400])
    monkeypatch.setattr(decoded, "MANY", 10_000)
    monkeypatch.setattr(decoded, "DEARER", 0)
    pairs = decoded_overlaps(priors, boxes, gt, torch.ones(len(priors), dtype=torch.bool), 9)
    assert 9 * 200 <= len(pairs) <= 10_000 + windows.CHUNK + len(priors)
