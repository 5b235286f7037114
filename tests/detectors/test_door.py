"""Targets at the detector's door: cast once, and what can't be learned is named before anything is computed."""

import pytest
import torch
from torchvision import tv_tensors

from labelkit.assigners import ATSS, MaxIoU
from labelkit.detectors import fcos, retinanet
from tests.detectors.scenes import Recorder, batch, fixed, losses_and_gradients

BUILD = pytest.mark.parametrize("build", [retinanet, fcos])


def two_images(**changes):
    """Two images of which the second has three objects; `changes` replace entries of its target."""
    images, targets = batch([(64, 64)] * 2, [1, 3])
    targets[1] = {key: value for key, value in (targets[1] | changes).items() if value is not None}
    return images, targets


def boxes(*rows, dtype=torch.float32):
    good = [[1, 2, 20, 30], [4, 4, 40, 50], [5, 30, 12, 50]]
    return torch.tensor([*rows, *good][:3], dtype=dtype)


@BUILD
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("size", [None, 96])
def test_boxes_of_any_dtype_give_the_losses_of_float32(build, dtype, size):
    torch.manual_seed(1)
    detector = build(3, min_size=size).train()
    images, targets = two_images(boxes=boxes())
    targets[0]["boxes"] = targets[0]["boxes"].round()
    expected = losses_and_gradients(detector, images, targets)
    other = [target | {"boxes": target["boxes"].to(dtype)} for target in targets]
    torch.testing.assert_close(losses_and_gradients(detector, images, other), expected, rtol=0, atol=0)
    assert other[1]["boxes"].dtype == dtype  # the caller's are left alone


@BUILD
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_of_any_whole_dtype_give_the_same_losses(build, dtype):
    detector = build(3).train()
    images, targets = batch([(64, 64)] * 2, [4, 3])
    expected = detector(images, targets)
    other = [target | {"labels": target["labels"].to(dtype)} for target in targets]
    torch.testing.assert_close(detector(images, other), expected, rtol=0, atol=0)


@BUILD
def test_an_image_without_objects_needs_no_dtype_and_no_shape(build):
    detector = build(3, assigner=ATSS()).train()
    images, targets = two_images()
    targets[1] = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    expected = detector(images, targets)
    for nothing in (torch.tensor([]), torch.empty(0, 4, dtype=torch.float64), torch.empty(0, 4, dtype=torch.int64)):
        targets[1] = {"boxes": nothing, "labels": torch.tensor([])}
        torch.testing.assert_close(detector(images, targets), expected, rtol=0, atol=0)


@BUILD
def test_the_assigner_sees_float32_plain_tensors_and_the_keys_of_ignored_regions(build):
    rule = Recorder(MaxIoU(), [])
    detector = build(3, assigner=rule).train()
    crowd, ignore = torch.tensor([0, 1, 0]), torch.tensor([True, False, False])
    wrapped = tv_tensors.BoundingBoxes(boxes(dtype=torch.float64), format="XYXY", canvas_size=(64, 64))
    images, targets = two_images(boxes=wrapped, iscrowd=crowd, ignore=ignore, area=torch.ones(3), image_id=7)
    detector(images, targets)
    (_, (first, second)) = rule.seen[0]
    assert first.keys() == {"boxes", "labels"} and second.keys() == {"boxes", "labels", "iscrowd", "ignore"}
    assert second["iscrowd"] is crowd and second["ignore"] is ignore
    assert type(second["boxes"]) is torch.Tensor and second["boxes"].dtype == torch.float32
    assert second["labels"].dtype == torch.int64


@BUILD
def test_a_positive_learns_its_own_box_and_class_where_regions_stand_before_it(build):
    """gt counts over all boxes, the flagged ones included: prior 0 is given the second box, whatever is flagged."""
    images, targets = batch([(64, 64)], [2])
    detector = build(3, assigner=fixed(16 * 16 + 8 * 8 + 4 * 4)).train()
    expected = detector(images, targets)
    targets[0]["iscrowd"] = torch.tensor([1, 0])
    torch.testing.assert_close(detector(images, targets), expected, rtol=0, atol=0)


# 63.9999999 and 64 are two numbers in float64 and one in float32.
THIN = torch.tensor([[1, 2, 20, 30], [63.9999999, 5, 64, 14], [5, 30, 12, 50]], dtype=torch.float64)
WRONG = [
    ({"labels": torch.tensor([0, 3, 1])}, r"targets\[1\]\['labels'\]\[1\] must be a class from 0 to 2, got 3"),
    ({"labels": torch.tensor([0, 1, -1])}, r"targets\[1\]\['labels'\]\[2\] must be a class from 0 to 2, got -1"),
    ({"labels": torch.tensor([250, 1, 1]).byte()}, r"targets\[1\]\['labels'\]\[0\] must be a class.*got 250"),
    ({"labels": torch.zeros(3)}, r"targets\[1\]\['labels'\] must be a tensor of whole numbers, got torch.float32"),
    ({"labels": torch.ones(3).bool()}, r"targets\[1\]\['labels'\] must be a tensor of whole numbers, got torch.bool"),
    ({"labels": torch.tensor([0, 1])}, r"targets\[1\]\['labels'\] must have shape \[3\].* got \[2\]"),
    ({"labels": [0, 1, 2]}, r"targets\[1\]\['labels'\] must be a tensor, got list"),
    ({"labels": None}, r"targets\[1\] must be a dict with 'boxes' \[G, 4\] and 'labels' \[G\]"),
    ({"boxes": None}, r"targets\[1\] must be a dict with 'boxes'"),
    ({"boxes": THIN}, r"targets\[1\]\['boxes'\]\[1\] must have x1 < x2 and y1 < y2, got \[64.0, 5.0, 64.0, 14.0\]"),
    ({"boxes": boxes([9, 2, 9, 8], dtype=torch.int64)}, r"targets\[1\]\['boxes'\]\[0\] must have x1 < x2"),
    ({"boxes": boxes([9, 2, 3, 8])}, r"targets\[1\]\['boxes'\]\[0\] .* which is inverted"),
    ({"boxes": boxes([float("nan"), 2, 3, 8])}, r"targets\[1\]\['boxes'\]\[0\] must be finite"),
    ({"boxes": boxes([1, 2, 1e300, 8], dtype=torch.float64)}, r"targets\[1\]\['boxes'\]\[0\] must be finite"),
    ({"boxes": torch.ones(3, 5)}, r"targets\[1\]\['boxes'\] must have shape \[N, 4\], got \[3, 5\]"),
    ({"boxes": torch.ones(3, 4).bool()}, r"targets\[1\]\['boxes'\] must hold numbers, got torch.bool"),
]


@BUILD
@pytest.mark.parametrize(("changes", "message"), WRONG)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_learned_is_named(build, changes, message):
    seen = []
    detector = build(3).train()
    detector.backbone.register_forward_hook(lambda *given: seen.append(given))
    with pytest.raises(ValueError, match=message):
        detector(*two_images(**changes))
    assert not seen  # before the first layer


@BUILD
def test_every_image_has_one_target(build):
    images, targets = two_images()
    for given in (targets[:1], targets * 2):
        with pytest.raises(ValueError, match=f"one entry for each of the 2 images, got {len(given)}"):
            build(3).train()(images, given)


@BUILD
def test_a_label_out_of_range_is_the_same_error_on_the_device(build, device):
    detector = build(3).to(device).train()
    images, targets = batch([(64, 64)], [3], classes=5, device=device)
    targets[0]["labels"][1] = 4
    targets[0]["labels"][0] = 0
    with pytest.raises(ValueError, match=r"targets\[0\]\['labels'\]\[1\] must be a class from 0 to 2, got 4"):
        detector(images, targets)
