"""The spoilt crowns of exercise 19.5: as many faults as told, none that a record gives away, the same for a seed."""

import numpy as np
import pytest
import torch

import labelkit_course as course
from labelkit.similarity import iou
from labelkit_course import broken


def xyxy(record) -> torch.Tensor:
    x, y, width, height = record["bbox"]
    return torch.tensor([x, y, x + width, y + height])


@pytest.mark.parametrize("seed", range(6))
def test_every_kind_is_there(seed):
    made = broken.broken(seed)
    kinds = list(made.kinds.values())
    assert kinds.count("duplicate") == broken.DUPLICATES and kinds.count("speck") == broken.SPECKS
    image_of = {one["id"]: one["image_id"] for one in made.coco["annotations"]}
    for kind in ("half", "corners"):
        (tile,) = {image_of[name] for name, its in made.kinds.items() if its == kind}
        assert kinds.count(kind) == len(made.crowns[tile]) >= broken.SPOILT[0]
    faultless = len(made.coco["annotations"]) - broken.DUPLICATES - broken.SPECKS
    assert faultless == sum(map(len, made.crowns.values())) == 725 + broken.NEIGHBOURS


@pytest.mark.parametrize("seed", range(6))
def test_two_annotations_of_a_crown_overlap_more_than_two_crowns(seed):
    made = broken.broken(seed)
    by_id = {one["id"]: one for one in made.coco["annotations"]}
    for name, other in made.twins.items():
        assert iou(xyxy(by_id[name]), xyxy(by_id[other])) > 0.63
    highest = 0.0
    for boxes in made.crowns.values():
        real = torch.as_tensor(boxes, dtype=torch.float32)
        overlap = iou(real[:, None], real[None]).fill_diagonal_(0)
        highest = max(highest, float(overlap.max()) if len(real) else 0.0)
    assert 0.4 < highest < 0.45


def test_a_speck_is_under_one_pixel_and_no_crown_is():
    made = broken.broken(0)
    for one in made.coco["annotations"]:
        assert (max(one["bbox"][2:]) < 1) == (made.kinds.get(one["id"]) == "speck")


def test_a_record_does_not_say_what_is_wrong_with_it():
    made = broken.broken(0)
    ids = [one["id"] for one in made.coco["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    added = [name for name, kind in made.kinds.items() if kind in ("duplicate", "speck")]
    assert not set(added) <= set(ids[-len(added) :])
    for one in made.coco["annotations"]:
        assert set(one) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
        assert one["area"] == pytest.approx(one["bbox"][2] * one["bbox"][3], abs=0.01)


def test_a_seed_is_a_data_set():
    assert course.broken_dataset(3) == course.broken_dataset(3) != course.broken_dataset(4)


def test_clean_data_has_no_fault_and_may_end_at_a_quarter():
    made = broken.clean((36,))
    assert made.kinds == made.twins == {}
    assert np.all(made.crowns[36] <= broken.TILE / 2) and len(made.crowns[36]) >= 5
    written = torch.stack([xyxy(one) for one in made.coco["annotations"] if one["image_id"] == 36])
    real = torch.as_tensor(made.crowns[36], dtype=torch.float32)
    assert iou(real[:, None], written[None]).amax(dim=1).min() > 0.99
