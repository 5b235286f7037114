"""The output's ceiling follows the data, can be set, and is named where it is too low."""

import warnings
from dataclasses import replace

import pytest
import torch

from labelkit.datasets import make_target
from labelkit.training import load_detector, read_recipe
from labelkit.training.ceiling import candidates_for, enough_for, most_objects, raise_limits, settle, warn_of_ceiling
from labelkit.training.measuring import score
from labelkit.training.recipe import Recipe
from tests.squares import TINY, run


def crowded(count, flagged=0):
    """Targets of one image with `count` objects of 4 px, and of one image without any."""
    place = torch.arange(count + flagged)
    corner = torch.stack((place % 50 * 10, place // 50 * 10), dim=1).float()
    iscrowd = (place >= count).long()
    labels = torch.zeros(count + flagged, dtype=torch.int64)
    full = make_target(torch.cat((corner, corner + 4), 1), labels, 0, (512, 512), iscrowd=iscrowd)
    return [full, make_target(torch.empty(0, 4), torch.empty(0, dtype=torch.int64), 1, (512, 512))]


def test_the_limit_is_enough_for_the_fullest_image():
    assert most_objects(crowded(7, flagged=3)) == 7 and most_objects([]) == 0
    assert [enough_for(crowded(count)) for count in (0, 200, 201, 1926)] == [300, 300, 400, 2900]
    assert [candidates_for(count) for count in (1, 300, 301, 3000)] == [1000, 1000, 1004, 10000]
    settled = settle(Recipe(), crowded(10), crowded(1000))
    assert (settled.detections, settled.topk_candidates) == (1500, 5000)
    kept = settle(Recipe(detections=50, topk_candidates=70), crowded(1000))
    assert (kept.detections, kept.topk_candidates) == (50, 70)


@pytest.mark.parametrize(("kind", "backbone"), [("retinanet", "small"), ("fcos", "small"), ("fcos", "resnet50_fpn")])
def test_a_recipes_limits_are_the_detectors(kind, backbone):
    detector = Recipe(detector=kind, backbone=backbone, detections=1234, topk_candidates=2345).build(1)
    assert (detector.detections_per_img, detector.topk_candidates) == (1234, 2345)


def test_a_trained_detector_can_be_made_to_see_more():
    detector = Recipe().build(1)
    raise_limits(detector, None, 300, crowded(10))
    assert (detector.detections_per_img, detector.topk_candidates) == (300, 1000)
    raise_limits(detector, None, 1500, crowded(10))
    assert (detector.detections_per_img, detector.topk_candidates) == (1500, 5000)
    raise_limits(detector, 100, 1500, crowded(10))
    assert detector.detections_per_img == 100


def test_more_objects_than_detections_are_named(recwarn):
    warn_of_ceiling(crowded(300), 300, "the detector returns")
    assert not recwarn.list
    with pytest.warns(
        UserWarning, match="holds 1000 objects, more than the 300 that the detector returns: at most 30%"
    ):
        warn_of_ceiling(crowded(1000), 300, "the detector returns")


def test_a_run_keeps_its_limits_and_warns(tmp_path):
    with pytest.warns(UserWarning, match="holds 2 objects, more than the 1 that"):
        result = run(replace(TINY, steps=2, detections=1), tmp_path / "low")
    assert result["scores"]["AR"] <= 0.5  # one of two objects an image
    assert load_detector(tmp_path / "low")[0].detections_per_img == 1
    assert read_recipe(tmp_path / "low").topk_candidates == 1000


def test_the_courses_metric_counts_what_the_detector_may_return():
    targets = crowded(400)
    nothing = {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0, dtype=torch.int64)}
    perfect = {"boxes": targets[0]["boxes"], "scores": torch.linspace(1, 0.5, 400), "labels": targets[0]["labels"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = score([perfect, nothing], targets, limit=600)
        cut = score([perfect, nothing], targets)
    assert seen["AP"] == seen["AR@600"] == 1 and seen["AR@300"] == cut["AR"] == 0.75
    assert cut["AP"] < 0.8
