"""RFLA against its slow loop, and what its second round and its rescue do."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import Priors
from labelkit.assigners import RFLA
from labelkit.receptive_field import rf_priors
from labelkit.similarity import nwd, rfd
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, scenes, target_of

RESNET50 = (35, 91, 267, 427, 555)

rules = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1, 2, 3]),
        "beta": st.sampled_from([0.9, 0.5, 1.2]),
        "similarity": st.sampled_from([rfd, rfd, partial(rfd, kind="wasserstein"), partial(nwd, constant=12.8)]),
        "bg_thresh": st.sampled_from([0.3, 0.8, 1.0]),
        "rescue": st.booleans(),
    }
)


def expect(assigner: RFLA, priors: Priors, gts: torch.Tensor) -> oracles.Expected:
    return oracles.hla(priors.boxes, gts, **vars(assigner))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(scene=scenes("boxes", max_gts=10), rules=rules)
def test_equals_the_slow_loop(way, scene, rules):
    assigner = RFLA(**rules)
    with path(way, scene.priors) as priors:
        oracles.assert_same(assigner(priors, scene.target), expect(assigner, priors, scene.boxes))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(batch=batches("boxes", max_gts=6), rules=rules)
def test_a_batch_is_its_images(way, batch, rules):
    assigner = RFLA(**rules)
    with path(way, batch.priors) as priors:
        together = assigner(priors, batch.targets)
        for image, boxes in enumerate(batch.boxes):
            oracles.assert_same(together[image], expect(assigner, priors, boxes))


def test_the_inputs_are_bit_identical_after_the_call():
    """The authors' code multiplies the caller's priors by beta at every call."""
    priors = rf_priors((128, 128), (4, 8), RESNET50[:2])
    boxes, width = priors.boxes.clone(), priors.grid.width.clone()
    target = target_of(torch.tensor([[20.0, 20, 30, 30]]))
    once = RFLA()(priors, target)
    again = RFLA()(priors, target)
    assert torch.equal(priors.boxes, boxes) and torch.equal(priors.grid.width, width)
    assert torch.equal(once.gt, again.gt)


def test_on_one_level_beta_does_not_change_the_positives():
    """KL compares distance and shape apart: inside a level the order of the priors does not know their size."""
    priors = rf_priors((128, 128), (4,), RESNET50[:1])
    target = target_of(torch.tensor([[20.3, 21.1, 30.7, 33.2], [60.2, 61.9, 90.1, 81.3]]))
    positive = [RFLA(beta=beta)(priors, target).positive for beta in (0.5, 0.9, 1.0)]
    assert torch.equal(positive[0], positive[1]) and torch.equal(positive[1], positive[2])


def test_round_two_adds_something_only_where_the_best_level_flips(device):
    priors = rf_priors((512, 512), (4, 8, 16, 32, 64), RESNET50).to(device)
    gained = {}
    for side in (12, 80):
        box = torch.tensor([[256.3, 255.1, 256.3 + side, 255.1 + side]], device=device)
        gained[side] = int(RFLA(k=3)(priors, {"boxes": box}).positive.sum()) - 3
    assert gained == {12: 0, 80: 1}


def test_rescue_gives_every_ground_truth_of_a_crowd_a_prior():
    priors = rf_priors((64, 64), (8,), (35,))
    crowd = torch.tensor([[30.0, 30, 36, 36]]).repeat(12, 1) + 0.1 * torch.arange(12)[:, None]
    plain, rescued = (RFLA(rescue=rescue)(priors, target_of(crowd)) for rescue in (False, True))
    assert (plain.positives_per_gt(12) == 0).sum() >= 8
    assert (rescued.positives_per_gt(12) > 0).all()
    assert torch.equal(plain.gt[plain.positive], rescued.gt[plain.positive]), "the others keep what they had"


def test_rescue_looks_further_than_its_first_guess():
    """64 priors, 60 equal ground truths: the last ones have to go to the far end of the grid."""
    priors = rf_priors((64, 64), (8,), (35,))
    crowd = target_of(torch.tensor([[3.0, 3, 9, 9]]).repeat(60, 1))
    answer = RFLA(k=1, rescue=True)(priors, crowd)
    assert answer.positives_per_gt(60).tolist() == [1] * 60


def test_nothing_to_assign():
    priors = rf_priors((32, 32), (8,), (35,))
    for rescue in (False, True):
        assert RFLA(rescue=rescue)(priors, target_of(torch.zeros(0, 4))).negative.all()
        nothing = Priors.from_boxes(torch.zeros(0, 4))
        assert len(RFLA(rescue=rescue)(nothing, target_of(torch.tensor([[0.0, 0, 1, 1]]))).gt) == 0


def test_bad_arguments_are_named(unchecked):
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        RFLA(k=0)
    with pytest.raises(ValueError, match="beta must be above 0 and finite, got -0.9"):
        RFLA(beta=-0.9)
    with pytest.raises(ValueError, match="bg_thresh must be above 0 and finite, got 0"):
        RFLA(bg_thresh=0)
