"""Ignored regions, for every rule: nobody learns there, nobody loses by them, and gt counts over all boxes."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import IGNORED, NEGATIVE, Priors
from labelkit.assigners import Assigner, MaxIoU
from labelkit.assigners.explanation import Steps
from labelkit.search.candidates import Pairs
from labelkit.similarity import iof
from tests.assigners.paths import PATHS, path
from tests.assigners.test_all import GOOD, anchors, build, every, predictions, target
from tests.strategies import scenes

REGION = (34.0, 30, 63, 64)


def with_regions(objects: dict, *regions, flag="iscrowd", dtype=torch.int64, first=False) -> dict:
    """The target with flagged boxes after (or before) its objects."""
    extra = torch.tensor(regions, dtype=torch.float32).reshape(-1, 4)
    flags = torch.cat((torch.zeros(len(objects["boxes"])), torch.ones(len(extra)))).to(dtype)
    boxes, labels = torch.cat((objects["boxes"], extra)), torch.cat((objects["labels"], torch.zeros(len(extra)).long()))
    order = torch.arange(len(boxes)).roll(len(extra)) if first else torch.arange(len(boxes))
    return {"boxes": boxes[order], "labels": labels[order], flag: flags[order]}


def test_mmdetections_own_case():
    """Its unit test of MaxIoUAssigner with ignored boxes (tests/test_models/test_task_modules, v3)."""
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10], [10, 10, 20, 20], [5, 5, 15, 15], [30, 32, 40, 42]]))
    objects = target((0, 0, 10, 9), (0, 10, 10, 19))
    rule = MaxIoU(0.5, 0.5, low_quality_owner="gt")
    answer = rule(priors, with_regions(objects, (30, 30, 40, 40)))
    assert answer.gt.tolist() == [0, NEGATIVE, 1, IGNORED]
    assert rule(priors, objects).gt.tolist() == [0, NEGATIVE, 1, NEGATIVE]


def slow_covered(priors: Priors, regions: torch.Tensor, thresh: float) -> torch.Tensor:
    """A loop over all pairs: at least the share `thresh` of the prior in one region; a point in it or on its border."""
    covered = torch.zeros(len(priors), dtype=torch.bool)
    for index, box in enumerate(priors.boxes):
        for region in regions:
            if bool((box[:2] == box[2:]).all()):
                covered[index] |= bool((region[:2] <= box[:2]).all() & (box[:2] <= region[2:]).all())
            else:
                covered[index] |= bool(iof(box, region) >= thresh)
    return covered


@every
@pytest.mark.parametrize("kind", ["anchors", "points"])
@pytest.mark.parametrize("thresh", [0.5, 1.0])
def test_only_negatives_in_regions_change(name, kind, thresh):
    priors = anchors() if kind == "anchors" else Priors.points((64, 64), (8, 16))
    if kind == "points" and name not in ("fcos", "ota", "tal", "simota", "dsl", "hungarian", "poto"):
        pytest.skip("a rule for boxes")
    objects, seen = target(GOOD, (36, 34, 60, 60)), predictions(priors)
    before = build(name)(priors, objects, seen)
    after = build(name)(priors, with_regions(objects, REGION, (0, 40, 20, 64)), seen, region_thresh=thresh)
    covered = slow_covered(priors, torch.tensor([REGION, (0.0, 40, 20, 64)]), thresh)
    expected = torch.where((before.gt < 0) & covered, IGNORED, before.gt)
    assert torch.equal(after.gt, expected) and not torch.equal(after.gt, before.gt)
    for field in ("similarity", "score_target", "weight"):
        assert torch.equal(getattr(after, field), getattr(before, field))


@every
def test_gt_counts_over_all_boxes_wherever_the_flagged_ones_stand(name):
    priors, objects = anchors(), target(GOOD, (36, 34, 60, 60))
    last = build(name)(priors, with_regions(objects, REGION), predictions(priors))
    first = build(name)(priors, with_regions(objects, REGION, first=True), predictions(priors))
    assert torch.equal(torch.where(last.gt >= 0, last.gt + 1, last.gt), first.gt)
    assert int(first.positives_per_gt(3)[0]) == 0


@every
def test_a_batch_of_images_with_and_without_regions_is_its_images(name):
    priors, objects = anchors(), target(GOOD, (36, 34, 60, 60))
    images = [
        objects, with_regions(objects, REGION), target(), with_regions(target(), REGION, (0, 0, 9, 9)),
        with_regions(objects, (0, 0, 9, 9), first=True),
    ]  # fmt: skip
    seen = predictions(priors, len(images))
    together = build(name)(priors, images, seen)
    for index, image in enumerate(images):
        own = type(seen)(seen.boxes[index], seen.scores[index])
        assert torch.equal(together.gt[index], build(name)(priors, image, own).gt)


@every
def test_only_regions_leave_no_positive(name):
    priors = anchors()
    answer = build(name)(priors, with_regions(target(), (0, 0, 64, 64)), predictions(priors))
    assert answer.ignored.any() and not answer.positive.any()


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_either_name_and_any_type_of_flag(flag, dtype):
    marked = with_regions(target(GOOD), REGION, flag=flag, dtype=dtype)
    assert build("max_iou")(anchors(), marked).ignored.sum() > build("max_iou")(anchors(), target(GOOD)).ignored.sum()


@dataclass(frozen=True)
class Nobody(Assigner):
    """A rule that gives nobody anything: what is ignored is ignored for the regions alone."""

    def assign(self, priors, gts):
        none = Pairs.cat([], priors)
        return Steps(none, none, none)


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=40)
@given(scene=scenes(), share=st.sampled_from([0.25, 0.5, 1.0]))
def test_covered_priors_equal_the_loop_on_every_path(way, scene, share):
    """Every ground truth of the scene is flagged, so that the regions are as nasty as the objects of other tests."""
    flagged = {"boxes": scene.boxes, "iscrowd": torch.ones(len(scene.boxes), dtype=torch.bool)}
    with path(way, scene.priors) as priors:
        answer = Nobody()(priors, flagged, region_thresh=share)
        assert torch.equal(answer.ignored, slow_covered(scene.priors, scene.boxes, share))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (torch.tensor([0, 2]), r"target\[0\]\['iscrowd'\]\[1\] must be 0 or 1, got 2"),
        (torch.tensor([0]), r"target\[0\]\['iscrowd'\] must have shape \[2\]"),
        ([0, 1], r"target\[0\]\['iscrowd'\] must have shape \[2\].*got list"),
        (torch.zeros(2, device="meta"), r"target\[0\]\['iscrowd'\] is on meta"),
    ],
)
def test_bad_flags_are_named(flags, words, unchecked):
    with pytest.raises(ValueError, match=words):
        MaxIoU()(anchors(), target(GOOD, REGION) | {"iscrowd": flags})


def test_half_of_a_prior_is_enough_by_default():
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 100, 10], [1.0, 20, 101, 30]]))
    region = {"boxes": torch.tensor([[0.0, 0, 50, 40]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([1])}
    assert MaxIoU()(priors, region).gt.tolist() == [IGNORED, NEGATIVE]


@pytest.mark.parametrize("thresh", [0.0, -1.0, 1.5])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(thresh):
    for wish in (with_regions(target(GOOD), REGION), target(GOOD)):
        with pytest.raises(ValueError, match=r"region_thresh must lie in \(0, 1\]"):
            MaxIoU()(anchors(), wish, region_thresh=thresh)
