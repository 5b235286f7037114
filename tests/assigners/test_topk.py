"""TopK against its slow loop, and what k does."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import Priors
from labelkit.assigners import ASSIGNERS, TopK
from labelkit.similarity import dotd, giou, iou, nwd, rfd, simd
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, scenes, shuffled, target_of

SIMILARITIES = [iou, giou, partial(nwd, constant=12.8), partial(dotd, constant=30.0), rfd, partial(simd, m=2.0, n=1.0)]
counts = st.sampled_from([1, 2, 3, 9, 1000])


def expect(assigner: TopK, priors: Priors, gts: torch.Tensor) -> oracles.Expected:
    return oracles.topk(priors.boxes, priors.centers, gts, assigner.similarity, assigner.k)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(scene=scenes("boxes"), k=counts, similarity=st.sampled_from([iou, iou, *SIMILARITIES]))
def test_equals_the_slow_loop(way, scene, k, similarity):
    assigner = TopK(k=k, similarity=similarity)
    with path(way, scene.priors) as priors:
        oracles.assert_same(assigner(priors, scene.target), expect(assigner, priors, scene.boxes))


@settings(deadline=None, max_examples=30)
@given(scene=scenes("boxes"), k=counts, seed=st.integers(0, 99))
def test_equals_the_slow_loop_on_priors_in_any_order(scene, k, seed):
    priors = shuffled(scene.priors, seed)
    oracles.assert_same(TopK(k)(priors, scene.target), expect(TopK(k), priors, scene.boxes))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(batch=batches("boxes"), k=counts)
def test_a_batch_is_its_images(way, batch, k):
    with path(way, batch.priors) as priors:
        together = TopK(k)(priors, batch.targets)
        for image, boxes in enumerate(batch.boxes):
            oracles.assert_same(together[image], expect(TopK(k), priors, boxes))


def test_equal_similarities_are_settled_by_distance_then_index(device):
    """A small box inside several anchors: all tie; (14, 14) is nearest to the anchor at 12, then 20 and 12 tie."""
    priors = Priors.anchors((32, 32), (8,), ((24.0,),)).to(device)
    target = {"boxes": torch.tensor([[13.0, 13, 15, 15]], device=device)}
    rows = [priors.centers[TopK(k)(priors, target).positive].tolist() for k in (1, 2, 3)]
    assert rows == [[[12, 12]], [[12, 12], [20, 12]], [[12, 12], [20, 12], [12, 20]]]


def test_the_more_similar_ground_truth_keeps_a_prior():
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]]))
    answer = TopK(k=1)(priors, target_of(torch.tensor([[0.0, 0, 10, 7], [0, 0, 10, 9], [0, 1, 10, 10]])))
    assert answer.gt.tolist() == [1, -1]
    assert answer.similarity.tolist() == pytest.approx([0.9, 0.0])
    assert answer.positives_per_gt(3).tolist() == [0, 1, 0]


def test_nothing_is_taken_that_does_not_overlap():
    priors = Priors.anchors((32, 32), (8,), ((8.0,),))
    answer = TopK(k=9)(priors, target_of(torch.tensor([[1.0, 1, 7, 7], [200, 200, 210, 210]])))
    assert answer.positives_per_gt(2).tolist() == [1, 0]
    assert not answer.ignored.any()


def test_nothing_to_assign():
    priors = Priors.anchors((32, 32), (8,), ((8.0,),))
    assert TopK()(priors, target_of(torch.zeros(0, 4))).negative.all()
    assert len(TopK()(Priors.from_boxes(torch.zeros(0, 4)), target_of(torch.tensor([[0.0, 0, 1, 1]]))).gt) == 0


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_a_bad_k_is_named(k, unchecked):
    with pytest.raises(ValueError, match=f"k must be a whole number of at least 1, got {k}"):
        ASSIGNERS["topk"](k=k)
