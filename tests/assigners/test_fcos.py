"""FCOS against its slow loop, on every path, for one image and for batches; range ends, centre sampling, areas."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import Priors
from labelkit.assigners import FCOS
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, scenes, target_of

rules = st.builds(
    FCOS,
    center_radius=st.sampled_from([None, 0.5, 1.5, 2.5]),
    closed_ranges=st.booleans(),
    regress_ranges=st.none(),
    min_side=st.sampled_from([None, 4.0, 8.0, 24.0]),
)


def expect(assigner: FCOS, priors: Priors, gts: torch.Tensor) -> oracles.Expected:
    return oracles.fcos(priors.centers, priors.levels, list(priors.level_strides), gts, **vars(assigner))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=100)
@given(scene=scenes(), assigner=rules)
def test_equals_the_slow_loop(way, scene, assigner):
    with path(way, scene.priors) as priors:
        oracles.assert_same(assigner(priors, scene.target), expect(assigner, priors, scene.boxes), tolerance=1e-6)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=40)
@given(batch=batches(), assigner=rules)
def test_a_batch_is_its_images(way, batch, assigner):
    with path(way, batch.priors) as priors:
        together = assigner(priors, batch.targets)
        for image, boxes in enumerate(batch.boxes):
            oracles.assert_same(together[image], expect(assigner, priors, boxes), tolerance=1e-6)


def test_range_ends(device):
    """A 100 px object at stride 16: some half-stride points are exactly 64 px from its farthest side."""
    priors = Priors.points((128, 128), (8, 16, 32)).to(device)
    target = {"boxes": torch.tensor([[20.0, 20, 120, 120]], device=device)}
    closed, opened = FCOS()(priors, target).gt, FCOS(closed_ranges=False)(priors, target).gt
    farthest = torch.cat((priors.centers - 20, 120 - priors.centers), dim=1).amax(dim=1)
    at_the_end = (farthest == 64) & (priors.levels < 2) & (closed >= 0)
    assert at_the_end.sum() >= 3
    assert torch.equal(closed.where(~at_the_end, -1), opened)


def test_mmdets_half_stride_example():
    """256 x 256, one object, centre sampling 1.5: 9 positives with the half stride, 15 without."""
    target = target_of(torch.tensor([[23.6667, 23.8757, 238.6326, 151.8874]]))
    count = [
        int(FCOS(center_radius=1.5)(Priors.points((256, 256), (8, 16, 32, 64, 128), offset), target).positive.sum())
        for offset in (0.5, 0.0)
    ]
    assert count == [9, 15]


def test_areas_are_compared_exactly():
    """Areas that differ by 1 px^2 at 10,000 px^2 tie in torchvision's 1e8 - area; here the smaller wins."""
    target = target_of(torch.tensor([[0.0, 0, 100.01, 100], [0, 0, 100, 100]]))
    answer = FCOS()(Priors.points((128, 128), (8, 16, 32)), target)
    assert set(answer.gt[answer.positive].tolist()) == {1}


def test_own_ranges_and_their_errors():
    priors = Priors.from_boxes(Priors.points((64, 64), (8, 16)).boxes, level_sizes=(64, 16))
    target = target_of(torch.tensor([[0.0, 0, 40, 40]]))
    answer = FCOS(regress_ranges=((0, 10), (10, 100)))(priors, target)
    assert answer.positive[:64].sum() == 0 and answer.positive[64:].sum() > 0
    with pytest.raises(ValueError, match="priors have no strides"):
        FCOS()(priors, target)
    with pytest.raises(ValueError, match="one entry for each of the 2 levels, got 1"):
        FCOS(regress_ranges=((0, 10),))(priors, target)
    with pytest.raises(ValueError, match=r"regress_ranges\[1\] must be"):
        FCOS(regress_ranges=((0, 10), (10, 5)))
    with pytest.raises(ValueError, match=r"regress_ranges\[0\] must be .*, got \(0, 10, 20\)"):
        FCOS(regress_ranges=((0, 10, 20),))
    lists = FCOS(regress_ranges=[[0, 10], [10, 100]])
    assert lists == FCOS(regress_ranges=((0, 10), (10, 100))) and hash(lists) == hash(lists)
    with pytest.raises(ValueError, match="center_radius must be"):
        FCOS(center_radius=0)
    with pytest.raises(ValueError, match="min_side must be"):
        FCOS(min_side=0)


def test_the_floor_is_for_the_inside_test_alone():
    """A 2 px object between the points of stride 8 has none inside; floored to 8 px it has one, outside its box."""
    priors = Priors.points((32, 32), (8,))
    target = target_of(torch.tensor([[14.0, 14, 16, 16], [24, 0, 32, 8]]))
    assert FCOS()(priors, target).positives_per_gt(2).tolist() == [0, 1]
    answer = FCOS(min_side=8)(priors, target)
    assert answer.positives_per_gt(2).tolist() == [1, 1]
    assert answer.similarity[answer.gt == 0].tolist() == [0] and answer.similarity[answer.gt == 1].tolist() == [1]


def test_a_point_a_hair_inside_a_floored_box_keeps_its_centerness():
    """The point (0, 0) is 2e-30 px below the upper side: its centre-ness is sqrt(1 * 2e-30 / 2), floored or not."""
    target = target_of(torch.tensor([[-4.0, -2e-30, 4, 2]]))
    priors = Priors.points((8, 8), (8,), 0.0)
    for assigner in (FCOS(), FCOS(min_side=4)):
        answer = assigner(priors, target)
        assert answer.gt.tolist() == [0] and answer.similarity.tolist() == pytest.approx([1e-15], rel=1e-5)
