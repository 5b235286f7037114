"""Duplicates against all pairs, boxes of hardly a pixel, and what the report says of both."""

import json

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.ops import box_iou

from labelkit.audit.faults import DataFaults, duplicates
from labelkit.audit.words import oddities
from labelkit.datasets.box_table import BoxTable


def scene(seed):
    """Boxes of which many are others moved by a little, in few pictures and classes, and some exact copies."""
    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, 60, (80, 2)), random.uniform(2, 40, (80, 2))
    boxes = np.concatenate((corner, corner + side), axis=1)
    source = random.integers(0, 80, 60)
    moved = boxes[source] + random.uniform(-1, 1, (60, 4)) * random.choice([0, 0.5, 1], (60, 1))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 0.5)
    boxes = np.concatenate((boxes, moved)).astype(np.float32)
    image, label = random.integers(0, 3, 80), random.integers(0, 2, 80)
    return (
        boxes,
        np.concatenate((image, image[source])),
        np.concatenate((label, label[source] ^ (random.random(60) < 0.2))),
    )


@pytest.mark.parametrize("seed", range(8))
def test_duplicates_are_all_pairs_of_one_class_that_overlap_by_nine_tenths(seed):
    boxes, image, label = scene(seed)
    overlap = box_iou(torch.from_numpy(boxes).double(), torch.from_numpy(boxes).double()).numpy()
    slow = [
        (i, j)
        for i in range(140)
        for j in range(i + 1, 140)
        if image[i] == image[j] and label[i] == label[j] and overlap[i, j] >= 0.9
    ]
    first, second, same = duplicates(boxes, image, label)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == slow and len(slow) > 5
    assert same == pytest.approx([overlap[pair] for pair in slow], abs=1e-9)


@pytest.mark.parametrize("at_once", [1, 30, 1000])
def test_how_many_are_compared_at_a_time_changes_nothing(monkeypatch, at_once):
    monkeypatch.setattr("labelkit.audit.faults.AT_ONCE", at_once)
    boxes, image, label = scene(0)
    wrapped = [
        {
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(boxes[image == n]), format="XYXY", canvas_size=(99, 99)),
            "labels": torch.from_numpy(label[image == n]),
        }
        for n in (0, 5, 1, 2)  # 5: a picture without boxes
    ]
    found = DataFaults.of(BoxTable.of(wrapped))
    order = np.argsort(image, kind="stable")
    expected = duplicates(boxes[order], image[order], label[order])
    assert [column.tolist() for column in (found.first, found.second, found.same)] == [x.tolist() for x in expected]
    assert found.per_image.tolist() == [(image == n).sum() for n in (0, 5, 1, 2)] and len(expected[0]) > 3


def test_no_box_no_duplicate():
    nothing = np.zeros(0, dtype=int)
    assert [len(part) for part in duplicates(np.zeros((0, 4), np.float32), nothing, nothing)] == [0, 0, 0]


def test_faults_name_file_picture_annotation_and_value(tmp_path):
    boxes = [[5, 5, 10, 10], [5, 5, 10, 10], [5, 5, 10, 10.5], [5, 5, 10, 10], [30, 30, 1.5, 20], [40, 5, 0, 3]]
    labels, crowd = [1, 1, 1, 2, 1, 1], [0, 0, 0, 0, 0, 0]
    records = [
        {"id": 11 + number, "image_id": 7, "category_id": label, "bbox": box, "iscrowd": flag}
        for number, (box, label, flag) in enumerate(zip(boxes, labels, crowd, strict=True))
    ]
    images = [
        {"id": 7, "file_name": "p.png", "width": 60, "height": 60},
        {"id": 8, "file_name": "q.png", "width": 60, "height": 60},
    ]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"images": images, "annotations": records, "categories": categories}))
    found = DataFaults.of(BoxTable.read(file)).to_json()
    assert (found["duplicates"], found["identical"], found["under_2_px"]) == (3, 1, 1)
    said = oddities({"data": found})
    assert said[0].startswith("3 pairs of one class") and found["duplicate_pairs"][0] in said[0]
    assert said[1] == "1 box has a side under 2 px in their picture."
    assert found["duplicate_pairs"][0] == f"{file}: image id 7 (p.png): annotations 11 and 12 have an IoU of 1.000"
    assert found["objects_per_image"] == {"median": 2.5, "most": 5, "images_without": 1}
    [problem] = found["problems"]
    assert all(part in problem for part in (str(file), "annotation id 16", "[40, 5, 0, 3]", "dropped"))
