"""S3FD against its slow loop, and its two stages."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import NEGATIVE, Priors
from labelkit.assigners import S3FD
from labelkit.similarity import iou
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, scenes, target_of

rules = st.fixed_dictionaries(
    {
        "fg_thresh": st.sampled_from([0.35, 0.5, 0.2]),
        "min_iou": st.sampled_from([0.1, 0.0, 0.2]),
        "n": st.sampled_from([6, 1, 20, "mean"]),
    }
)


def expect(assigner: S3FD, priors: Priors, gts: torch.Tensor) -> oracles.Expected:
    return oracles.s3fd(priors.boxes, gts, iou, **vars(assigner))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(scene=scenes("boxes"), rules=rules)
def test_equals_the_slow_loop(way, scene, rules):
    assigner = S3FD(**rules)
    with path(way, scene.priors) as priors:
        oracles.assert_same(assigner(priors, scene.target), expect(assigner, priors, scene.boxes))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(batch=batches("boxes"), rules=rules)
def test_a_batch_is_its_images(way, batch, rules):
    assigner = S3FD(**rules)
    with path(way, batch.priors) as priors:
        together = assigner(priors, batch.targets)
        for image, boxes in enumerate(batch.boxes):
            oracles.assert_same(together[image], expect(assigner, priors, boxes))


# One square anchor a cell with a side of four strides, as the paper has it.
FACES = Priors.anchors((160, 160), (4, 8, 16), ((16.0,), (32.0,), (64.0,)))


def test_stage_two_fills_up_to_n(device):
    target = target_of(torch.tensor([[60.0, 60, 70, 70]]))
    target = {name: value.to(device) for name, value in target.items()}
    alone, filled = (S3FD(n=n)(FACES.to(device), target) for n in (1, 12))
    assert alone.positive.sum() < 12 and filled.positive.sum() == 12
    extra = filled.positive & ~alone.positive
    assert bool((filled.similarity[extra] > 0.1).all() and (filled.similarity[extra] < 0.35).all())
    left = filled.similarity[extra].min()
    every = iou(FACES.boxes.to(device), target["boxes"])
    assert not bool((every[filled.negative] > left).any()), "the best of the rest were taken"


def test_a_face_with_enough_anchors_is_untouched():
    target = target_of(torch.tensor([[60.0, 60, 76, 76]]))
    one, six = (S3FD(n=n)(FACES, target) for n in (1, 6))
    assert one.positive.sum() >= 6 and torch.equal(one.gt, six.gt)


def test_the_mean_is_taken_over_the_faces_of_the_image():
    """The large face has many anchors, the small one few: half the sum is what the small one is filled up to."""
    gts = torch.tensor([[20.0, 20, 36, 36], [100, 100, 107, 107]])
    one = S3FD(n=1)(FACES, target_of(gts)).positives_per_gt(2)
    mean = S3FD(n="mean")(FACES, target_of(gts)).positives_per_gt(2)
    assert one[0] > one[1] + 2
    assert mean.tolist() == [one[0], int(one.sum()) // 2]


def test_the_best_anchor_is_forced_and_the_later_face_overwrites():
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 100, 100], [200, 200, 300, 300]]))
    answer = S3FD()(priors, target_of(torch.tensor([[10.0, 10, 20, 20], [30, 30, 38, 38]])))
    assert answer.gt.tolist() == [1, NEGATIVE], "the first face has lost its only anchor"


def test_an_anchor_serves_only_its_own_best_face():
    """The second anchor overlaps both faces by more than 0.1, the upper one more; the lower one must not take it."""
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [0, 8, 10, 18], [0, 18, 10, 28]]))
    gts = torch.tensor([[0.0, 0, 10, 12], [0, 14, 10, 29]])
    answer = S3FD(fg_thresh=0.5, n=6)(priors, target_of(gts))
    own = iou(priors.boxes[1], gts)
    assert own.min() > 0.1 and own.max() < 0.35
    assert answer.gt.tolist() == [0, int(own.argmax()), 1]


def test_the_lower_threshold_is_open():
    """Both anchors have IoU 1/4: the first is forced, the second needs more than min_iou."""
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [-5, -5, 5, 5]]))
    face = target_of(torch.tensor([[0.0, 0, 5, 5]]))
    got = {min_iou: S3FD(min_iou=min_iou)(priors, face).gt.tolist() for min_iou in (0.2, 0.25)}
    assert got == {0.2: [0, 0], 0.25: [0, NEGATIVE]}


def test_nothing_to_assign():
    assert S3FD()(FACES, target_of(torch.zeros(0, 4))).negative.all()
    assert S3FD(n="mean")(FACES, target_of(torch.tensor([[900.0, 900, 910, 910]]))).negative.all()
    assert len(S3FD()(Priors.from_boxes(torch.zeros(0, 4)), target_of(torch.tensor([[0.0, 0, 1, 1]]))).gt) == 0


def test_bad_arguments_are_named(unchecked):
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 'median'"):
        S3FD(n="median")
    with pytest.raises(ValueError, match=r"min_iou must lie in \[0, fg_thresh\], got 0.5 and 0.35"):
        S3FD(min_iou=0.5)
