"""Files as people really have them: each fault is said with its place, costs no more than itself, and hangs nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from labelkit.datasets import CocoFolder, find_layout, open_folder, read_picture, read_visdrone
from labelkit.datasets.box_table import BoxTable

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}],
    "categories": [{"id": 0, "name": "ant"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 0, "bbox": [4, 5, 10, 8]}],
}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def yolo(tmp_path):
    picture(tmp_path / "images/train/a.png")
    text(tmp_path / "labels/train/a.txt", "0 .5 .5 .2 .2")
    text(tmp_path / "data.yaml", "train: images/train\nnames: [ant]\n")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"width": 40', '"width": 4' + 5000 * "0", "4300 digits"),
        ('"id": 1, "image_id"', f'"x": {100_000 * "["}{100_000 * "]"}, "image_id"', "recursion"),
        ('"bbox":', '"bbox": [0, 0, 1, 1], "bbox":', "'bbox' stands twice in the object that begins {'id': 1"),
        ('"annotations":', '"annotations": [], "annotations":', "'annotations' stands twice"),
    ],
)
def test_json_that_no_reader_agrees_on_is_refused_by_both(tmp_path, old, new, said):
    picture(tmp_path / "a.png")
    text(tmp_path / "annotations.json", json.dumps(COCO).replace(old, new))
    for read in (CocoFolder, BoxTable.read):
        with pytest.raises(ValueError, match=f"annotations.json: cannot be read: .*{said}"):
            read(tmp_path)


def test_a_size_beyond_all_pictures_costs_that_picture(tmp_path):
    """Nobody opens the picture: it is not there."""
    for width in (10**12, 10**400):
        text(tmp_path / "annotations.json", COCO | {"images": [COCO["images"][0] | {"width": width}]})
        report = BoxTable.read(tmp_path).report
        assert report.counts() == {"image: wrong type": 1, "annotation: dropped image": 1}
        assert "width and height must be positive integers, 1000000 at most, got 1000" in str(report)


def test_a_name_too_long_for_a_file_costs_that_picture(tmp_path):
    picture(tmp_path / "a.png")
    long = {"id": 2, "file_name": f"{5000 * 'b'}.png", "width": 40, "height": 20}
    text(tmp_path / "annotations.json", COCO | {"images": [*COCO["images"], long]})
    assert open_folder(tmp_path).report.counts() == {"image: missing file": 1}
    assert BoxTable.read(tmp_path).report.counts() == {"image: missing file": 1}


@pytest.mark.parametrize("white", [0, -5.0, float("nan"), float("inf"), True])
def test_white_is_a_positive_number(tmp_path, white):
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match="white must be a positive number, got "):
        CocoFolder(tmp_path, COCO, white=white)
    with pytest.raises(ValueError, match='"white" in "info" must be a positive number, got '):
        CocoFolder(tmp_path, COCO | {"info": {"white": white}})
    with pytest.raises(ValueError, match="^white must be a positive number, got "):
        read_picture(tmp_path / "a.png", white=white)


@pytest.mark.parametrize(
    ("line", "said"),
    [("date: 2024-13-45", "not YAML: month"), ("names: [bee]", "not YAML: 'names' stands there twice")],
)
def test_yaml_that_says_two_things(yolo, line, said):
    text(yolo / "data.yaml", (yolo / "data.yaml").read_text() + line)
    with pytest.raises(ValueError, match=f"data.yaml: {said}"):
        open_folder(yolo, "train")


def test_a_picture_that_cannot_be_read_costs_only_itself_in_yolo_too(yolo):
    (yolo / "images/train/b.png").write_bytes(b"")
    (yolo / "images/train/c.png").symlink_to(yolo / "nowhere.png")
    text(yolo / "labels/train/b.txt", "0 .5 .5 .2 .2")
    dataset = open_folder(yolo, "train")
    assert len(dataset) == 1 and len(dataset.coco()["annotations"]) == 1
    kinds = {"image: unreadable file": 1, "image: missing file": 1, "annotation: dropped image": 1}
    assert dataset.report.counts() == kinds
    (yolo / "images/train/a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="not one of 3 pictures can be read, such as .*a.png"):
        open_folder(yolo, "train")


def test_label_files_without_a_picture_are_said(yolo):
    text(yolo / "labels/train/b.txt", "0 .5 .5 .2 .2")
    text(yolo / "labels/train/classes.txt", "ant")
    (note,) = open_folder(yolo, "train").report.notes
    assert note.message.startswith("1 label file is of no picture that is read, such as ")
    assert note.message.endswith("b.txt: left out")


def test_pictures_behind_links_are_found_once_and_hidden_ones_are_not(yolo, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(elsewhere / "deep/z.png")
    (yolo / "images/train/link").symlink_to(elsewhere)
    (yolo / "images/train/loop").symlink_to(yolo / "images/train")
    picture(yolo / "images/train/.ipynb_checkpoints/a-checkpoint.png")
    (yolo / "images/train/._a.png").write_bytes(b"\0\5\x16\7")
    text(yolo / "labels/train/link/deep/z.txt", "0 .5 .5 .2 .2")
    dataset = open_folder(yolo, "train")
    assert [entry["file_name"] for entry in dataset.coco()["images"]] == ["a.png", "link/deep/z.png"]
    assert [len(target["boxes"]) for target in dataset.targets] == [1, 1] and not dataset.report.problems


def test_a_picture_that_a_list_names_twice_is_one(yolo):
    text(yolo / "list.txt", 2 * "images/train/a.png\n")
    text(yolo / "data.yaml", "train: [list.txt, images/train]\nnames: [ant]\n")
    assert len(open_folder(yolo, "train")) == 1


def test_what_a_mac_leaves_behind_is_no_annotation(tmp_path):
    picture(tmp_path / "images/a.png")
    text(tmp_path / "annotations/a.txt", "4,5,10,8,1,4,0,0")
    for name in ("images/._a.png", "annotations/._a.txt"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7\xff")
    assert len(read_visdrone(tmp_path / "images", tmp_path / "annotations")["annotations"]) == 1
    text(tmp_path / "single/boxes.json", COCO)
    (tmp_path / "single/._boxes.json").write_bytes(b"\0\5\x16\7\xff")
    assert find_layout(tmp_path / "single").splits["all"].annotations.name == "boxes.json"


def test_two_splits_of_one_name_are_named(tmp_path):
    for split in ("val", "valid"):
        text(tmp_path / "coco" / split / "annotations.json", COCO)
    with pytest.raises(ValueError, match="val may be .*val/annotations.json or .*valid/annotations.json: rename"):
        find_layout(tmp_path / "coco")
    for split in ("A-train", "B-train"):
        picture(tmp_path / "drone" / split / "images/a.png")
        text(tmp_path / "drone" / split / "annotations/a.txt", "4,5,10,8,1,4,0,0")
    with pytest.raises(ValueError, match="train may be .*A-train.* or .*B-train"):
        find_layout(tmp_path / "drone")


def test_targets_of_other_lengths_are_named():
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0.0, 0, 9, 9], [1, 1, 8, 8]]), format="XYXY", canvas_size=(9, 9))
    good = {"boxes": boxes, "labels": torch.zeros(2, dtype=torch.int64), "iscrowd": np.zeros(2)}
    assert len(BoxTable.of([good]).boxes) == 2
    for name in ("labels", "iscrowd"):
        with pytest.raises(
            ValueError, match=rf"targets\[1\]\['{name}'\] must have one value for each of 2 boxes, got 1"
        ):
            BoxTable.of([good, good | {name: torch.tensor([0])}])
    with pytest.raises(ValueError, match=r"targets\[0\]\['boxes'\] must be tv_tensors.BoundingBoxes"):
        BoxTable.of([{"labels": torch.tensor([0])}])
