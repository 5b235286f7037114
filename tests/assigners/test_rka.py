"""RKA against its slow loop, and the two readings of its threshold."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import IGNORED, NEGATIVE, Priors
from labelkit.assigners import RKA
from labelkit.similarity import dotd, gcd, giou, iou, nwd, rfd, simd
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, scenes, target_of

nwd12 = partial(nwd, constant=12.8)
SIMILARITIES = [nwd12, partial(dotd, constant=12.8), iou, giou, rfd, partial(simd, m=2.0, n=1.0), gcd]
rules = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1, 2, 3, 500]),
        "similarity": st.sampled_from(SIMILARITIES),
        "bg_thresh": st.sampled_from([0.1, 0.3, 0.8, 1.0]),
    }
)


def expect(assigner: RKA, priors: Priors, gts: torch.Tensor) -> oracles.Expected:
    return oracles.rka(priors.boxes, gts, **vars(assigner))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(scene=scenes("boxes"), rules=rules)
def test_equals_the_slow_loop(way, scene, rules):
    assigner = RKA(**rules)
    with path(way, scene.priors) as priors:
        oracles.assert_same(assigner(priors, scene.target), expect(assigner, priors, scene.boxes))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(batch=batches("boxes"), rules=rules)
def test_a_batch_is_its_images(way, batch, rules):
    assigner = RKA(**rules)
    with path(way, batch.priors) as priors:
        together = assigner(priors, batch.targets)
        for image, boxes in enumerate(batch.boxes):
            oracles.assert_same(together[image], expect(assigner, priors, boxes))


def test_what_is_similar_but_not_chosen(device):
    """The code's 0.3 ignores it, the paper's reading makes it background."""
    priors = Priors.anchors((32, 32), (8,), ((8.0,),)).to(device)
    target = {"boxes": torch.tensor([[8.0, 8, 16, 16]], device=device)}
    code, paper = (RKA(1, nwd12, bg_thresh)(priors, target) for bg_thresh in (0.3, 1.0))
    assert code.positive.sum() == paper.positive.sum() == 1
    near = torch.exp((priors.centers - 12).norm(dim=1) / -12.8) >= 0.3
    assert torch.equal(code.ignored, near & ~code.positive) and code.ignored.any()
    assert not paper.ignored.any()


def test_two_equal_ground_truths_keep_at_most_k():
    """The authors' code gives both priors to the second; here the lower index wins, and the loser is visible."""
    priors = Priors.anchors((16, 16), (8,), ((8.0,),))
    box = [1.0, 1, 7, 7]
    answer = RKA(2, nwd12)(priors, target_of(torch.tensor([box, box])))
    assert answer.positives_per_gt(2).tolist() == [2, 0]


def test_a_symmetric_grid_gives_k_and_not_all_ties():
    priors = Priors.anchors((16, 16), (8,), ((8.0,),))
    answer = RKA(3, nwd12)(priors, target_of(torch.tensor([[6.0, 6, 10, 10]])))
    assert answer.gt.tolist() == [0, 0, 0, NEGATIVE]


def test_a_ground_truth_too_far_for_any_similarity_gets_nothing():
    """exp(-d / 12.8) is 0 in float32 from about 1300 px on: the authors' code then takes every prior."""
    priors = Priors.anchors((16, 16), (8,), ((8.0,),))
    assert RKA(3, nwd12)(priors, target_of(torch.tensor([[5000.0, 0, 5008, 8]]))).negative.all()


def test_a_metric_below_zero_leaves_background_and_not_ignored():
    priors = Priors.anchors((64, 64), (8,), ((8.0,),))
    answer = RKA(1, giou, 0.3)(priors, target_of(torch.tensor([[8.0, 8, 16, 16]])))
    assert (answer.gt == NEGATIVE).sum() == 63 and not (answer.gt == IGNORED).any()


def test_nothing_to_assign():
    priors = Priors.anchors((32, 32), (8,), ((8.0,),))
    assert RKA(3, iou)(priors, target_of(torch.zeros(0, 4))).negative.all()
    assert len(RKA(3, iou)(Priors.from_boxes(torch.zeros(0, 4)), target_of(torch.tensor([[0.0, 0, 1, 1]]))).gt) == 0


def test_bad_arguments_are_named(unchecked):
    with pytest.raises(ValueError, match="similarity must be given"):
        RKA(k=3)
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        RKA(0, iou)
    with pytest.raises(ValueError, match="bg_thresh must be above 0 and finite, got 0"):
        RKA(3, iou, bg_thresh=0)
