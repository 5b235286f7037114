"""MaxIoU against its slow loop, on every path, for one image and for batches; and the choices sources disagree on."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import IGNORED, NEGATIVE, Priors
from labelkit.assigners import MaxIoU
from labelkit.similarity import ciou, dotd, gcd, giou, iof, iou, nwd, rfd, simd
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, scenes, target_of

SIMILARITIES = [
    iou,
    iof,
    giou,
    ciou,
    partial(nwd, constant=12.8),
    partial(dotd, constant=12.8),
    rfd,
    partial(rfd, kind="wasserstein"),
    partial(simd, m=1.0, n=1.0),
    gcd,
]
thresholds = st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.5]), st.sampled_from([0.0, 0.1, 0.2, 0.5])).map(
    lambda pair: {"bg_thresh": pair[0], "fg_thresh": pair[0] + pair[1]}
)
rules = st.fixed_dictionaries(
    {
        "allow_low_quality_matches": st.booleans(),
        "low_quality_owner": st.sampled_from(["argmax", "gt"]),
        "low_quality_ties": st.sampled_from(["all", "first", "nearest"]),
        "min_fg": st.sampled_from([0.0, 0.05, 0.3]),
    }
)


def expect(assigner: MaxIoU, priors: Priors, gts: torch.Tensor) -> oracles.Expected:
    return oracles.max_iou(priors.boxes, priors.centers, gts, **vars(assigner))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=100)
@given(scene=scenes("boxes"), thresholds=thresholds, rules=rules)
def test_equals_the_slow_loop(way, scene, thresholds, rules):
    assigner = MaxIoU(**thresholds, **rules)
    with path(way, scene.priors) as priors:
        oracles.assert_same(assigner(priors, scene.target), expect(assigner, priors, scene.boxes))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=60)
@given(scene=scenes("boxes"), thresholds=thresholds, rules=rules, similarity=st.sampled_from(SIMILARITIES))
def test_equals_the_slow_loop_under_any_similarity(way, scene, thresholds, rules, similarity):
    assigner = MaxIoU(**thresholds, **rules, similarity=similarity)
    with path(way, scene.priors) as priors:
        oracles.assert_same(assigner(priors, scene.target), expect(assigner, priors, scene.boxes))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=60)
@given(batch=batches("boxes"), thresholds=thresholds, rules=rules)
def test_a_batch_is_its_images(way, batch, thresholds, rules):
    assigner = MaxIoU(**thresholds, **rules)
    with path(way, batch.priors) as priors:
        together = assigner(priors, batch.targets)
        assert together.gt.shape == (len(batch.boxes), len(priors))
        for image, boxes in enumerate(batch.boxes):
            oracles.assert_same(together[image], expect(assigner, priors, boxes))


FIXTURE = torch.tensor([[0.0, 0, 10, 10], [10, 10, 20, 20], [5, 5, 15, 15], [32, 32, 38, 42]])


def test_mmdets_fixture(device):
    """mmdet's test: the third prior is a low-quality match of the second ground truth (IoU .1515)."""
    priors = Priors.from_boxes(FIXTURE).to(device)
    target = {"boxes": torch.tensor([[0.0, 0, 10, 9], [0, 10, 10, 19]]), "labels": torch.tensor([2, 3])}
    target = {name: value.to(device) for name, value in target.items()}
    answer = MaxIoU(0.5, 0.5, low_quality_owner="gt")(priors, target)
    assert answer.gt.tolist() == [0, NEGATIVE, 1, NEGATIVE]
    assert answer.class_targets(target["labels"]).tolist() == [3, 0, 4, 0]


def from_quality(quality: list[list[float]]):
    """A similarity that looks its values up: prior p is the box (p, 0, p + 1, 1), ground truth g likewise."""
    table = torch.tensor(quality)
    return lambda prior, gt: table[gt[..., 0].long(), prior[..., 0].long()]


def unit_boxes(count: int) -> torch.Tensor:
    x = torch.arange(count, dtype=torch.float32)
    return torch.stack((x, torch.zeros(count), x + 1, torch.ones(count)), dim=1)


def test_who_owns_a_low_quality_match():
    """detectron2's quality matrix: torchvision gives [-2, 1, -1, 0], mmdet's last ground truth steals both ties."""
    quality = from_quality([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])
    priors, target = Priors.from_boxes(unit_boxes(4)), target_of(unit_boxes(3))
    torchvisions = MaxIoU(0.7, 0.3, similarity=quality)(priors, target)
    mmdets = MaxIoU(0.7, 0.3, low_quality_owner="gt", similarity=quality)(priors, target)
    assert torchvisions.gt.tolist() == [IGNORED, 1, NEGATIVE, 0]
    assert mmdets.gt.tolist() == [IGNORED, 2, NEGATIVE, 2]


def test_thresholds_are_closed_below():
    quality = from_quality([[0.3, 0.2999999, 0.7, 0.6999999]])
    answer = MaxIoU(0.7, 0.3, allow_low_quality_matches=False, similarity=quality)(
        Priors.from_boxes(unit_boxes(4)), target_of(unit_boxes(1))
    )
    assert answer.gt.tolist() == [IGNORED, NEGATIVE, 0, IGNORED]


def test_which_of_the_ties():
    """A small object inside several equal anchors: all of them tie, the first is not the nearest."""
    priors = Priors.anchors((32, 32), (8,), ((20.0,),))
    target = target_of(torch.tensor([[17.0, 17, 19, 19]]))
    got = {
        ties: MaxIoU(low_quality_ties=ties)(priors, target).positive.nonzero().flatten().tolist()
        for ties in ("all", "first", "nearest")
    }
    assert got == {"all": [5, 6, 9, 10], "first": [5], "nearest": [10]}


def test_a_ground_truth_that_overlaps_nothing_claims_nothing():
    priors = Priors.anchors((64, 64), (8,), ((16.0,),))
    answer = MaxIoU()(priors, target_of(torch.tensor([[500.0, 500, 520, 520]])))
    assert answer.negative.all()


def test_bad_arguments_are_named(unchecked):
    with pytest.raises(ValueError, match=r"bg_thresh must not exceed fg_thresh, got 0.6 and 0.5"):
        MaxIoU(fg_thresh=0.5, bg_thresh=0.6)
    with pytest.raises(ValueError, match="low_quality_owner must be"):
        MaxIoU(low_quality_owner="anchor")
    with pytest.raises(ValueError, match="low_quality_ties must be"):
        MaxIoU(low_quality_ties="any")
    with pytest.raises(ValueError, match="min_fg must be a similarity of at least 0, got -0.1"):
        MaxIoU(min_fg=-0.1)
    for name in ("fg_thresh", "bg_thresh", "min_fg"):
        for wrong in (math.nan, None, "0.5"):
            with pytest.raises(ValueError, match=f"{name} must be a number, got {wrong!r}"):
                MaxIoU(**{name: wrong})
