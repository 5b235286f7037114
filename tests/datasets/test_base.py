"""What training asks of a data set, and which sets it refuses."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from labelkit.datasets import BoxDataset, CocoFolder, DetectionDataset, check_trainable, digits, make_target


def scenes(*boxes: list[list[float]], crowd: int = 0, classes=("x",)) -> DetectionDataset:
    targets = [
        make_target(torch.tensor(each).reshape(-1, 4), [0] * len(each), index, (32, 32), iscrowd=[crowd] * len(each))
        for index, each in enumerate(boxes)
    ]
    return DetectionDataset(torch.zeros(len(boxes), 3, 32, 32, dtype=torch.uint8), targets, classes)


BOX, DOT = [4.0, 4, 12, 12], [0.25, 0.5, 0.75, 0.75]


def test_every_data_set_is_a_box_dataset(tmp_path):
    coco = CocoFolder(tmp_path, {"images": [], "categories": [], "annotations": []})
    assert isinstance(coco, BoxDataset) and isinstance(scenes([BOX]), BoxDataset)
    assert not isinstance([1, 2], BoxDataset)


def test_a_set_with_objects_is_trainable():
    check_trainable(digits("test", 4))
    check_trainable(scenes([], [BOX]))
    check_trainable(scenes([BOX], [DOT] * 18))  # 18 of 19 are dots: a sky full of stars
    check_trainable(scenes([[4.0, 4, 4.5, 12]] * 3))  # thin, and long enough


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (scenes(), "holds no image"),
        (scenes([], [], classes=()), "holds no class"),
        (scenes([], []), "holds no object"),
        (scenes([BOX], crowd=1), "holds no object"),
        (scenes([BOX], [DOT] * 19), r"19 of the 20 boxes .* under 2 px on both sides.*0\.\.1"),
        (scenes([DOT]), r"1 of the 1 boxes.*0\.25"),
    ],
    ids=["no-image", "no-class", "no-object", "only-crowds", "nearly-all-tiny", "all-tiny"],
)
def test_a_set_that_teaches_nothing_is_an_error(dataset, message):
    with pytest.raises(ValueError, match=message):
        check_trainable(dataset)


def test_the_error_ends_with_what_the_check_found(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 32}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"id": 1, "image_id": "1", "category_id": 1, "bbox": [1, 1, 5, 5]}],
    }
    with pytest.raises(ValueError, match=r"(?s)no object.*kept 1 of 1 image, 0 of 1 annotation,.*got '1', 1"):
        check_trainable(CocoFolder(tmp_path, coco))
