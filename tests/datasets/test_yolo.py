"""YOLO's text files: where they lie, what a line may say, and what is said of a wrong one."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from labelkit.datasets import CocoFolder, read_yolo
from labelkit.datasets.yolo import read_description

YAML = "path: {root}\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: ant\n  2: cat\n"


@pytest.fixture
def yolo(tmp_path):
    for split, stems in (("train", "ab"), ("val", "c")):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        for stem in stems:
            Image.new("RGB", (40, 20)).save(tmp_path / "images" / split / f"{stem}.jpg")
    (tmp_path / "labels/train/a.txt").write_text("2 0.5 0.5 0.25 0.5\n\n0 0.1 0.1 0.3 0.1 0.2 0.9\n")
    (tmp_path / "labels/val/c.txt").write_text("0 0.95 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text(YAML.format(root="."))
    return tmp_path


def test_boxes_and_polygons(yolo):
    root, coco = read_yolo(yolo / "data.yaml")
    assert root == yolo / "images/train"
    assert coco["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 40, "height": 20}
    assert coco["categories"] == [{"id": 1, "name": "ant"}, {"id": 3, "name": "cat"}]
    assert coco["info"] == {"without_labels": 1}
    dataset = CocoFolder(root, coco, strict=True)
    assert dataset.classes == ("ant", "cat")
    first, second = dataset.targets
    expected = torch.tensor([[15, 5, 25, 15], [4, 2, 12, 18]], dtype=torch.float32)
    torch.testing.assert_close(torch.as_tensor(first["boxes"]).as_subclass(torch.Tensor), expected)
    assert first["labels"].tolist() == [1, 0] and len(second["boxes"]) == 0


def test_a_box_over_the_border_is_clipped_by_the_check(yolo):
    root, coco = read_yolo(yolo / "data.yaml", "val")
    dataset = CocoFolder(root, coco)
    assert dataset.report.counts() == {"annotation: box passes border": 1}
    assert dataset.targets[0]["boxes"].tolist() == [
        [pytest.approx(34, abs=1e-4), pytest.approx(8), 40, pytest.approx(12)]
    ]


def test_shares_are_of_the_picture_as_it_is_shown(yolo):
    found = Image.new("RGB", (1, 1)).getexif()
    found[0x0112] = 6
    Image.new("RGB", (40, 20)).save(yolo / "images/train/a.jpg", exif=found)
    root, coco = read_yolo(yolo / "data.yaml")
    assert (coco["images"][0]["width"], coco["images"][0]["height"]) == (20, 40)
    assert coco["annotations"][0]["bbox"] == pytest.approx([7.5, 10, 5, 20])
    assert CocoFolder(root, coco)[0][0].shape == (3, 40, 20)


def test_every_bad_line_is_named(yolo):
    rows = [
        "0 .5 .5 .1",
        "0 .5 .5 .1 .1 .9",
        "0 .5 x .1 .1",
        "7 .5 .5 .1 .1",
        "0.5 .5 .5 .1 .1",
        "0 12 .5 30 .1",
        "0 nan .5 .1 .1",
    ]
    (yolo / "labels/train/b.txt").write_text("0 .5 .5 .1 .1\n" + "\n".join(rows))
    with pytest.raises(ValueError) as raised:
        read_yolo(yolo / "data.yaml")
    lines = str(raised.value).splitlines()
    assert [line.split("b.txt")[1].split(": ")[0] for line in lines] == [f":{number}" for number in range(2, 9)]
    assert "'0 .5 .5 .1'" in lines[0] and "0, 2, got 7" in lines[3] and "0..1, got '0 12" in lines[5]


def test_keypoints_are_left_out(yolo):
    (yolo / "data.yaml").write_text(YAML.format(root=".") + "kpt_shape: [2, 2]\n")
    (yolo / "labels/train/a.txt").write_text("2 0.5 0.5 0.25 0.5 0.1 0.1 0.9 0.9\n")
    assert read_yolo(yolo / "data.yaml")[1]["annotations"][0]["bbox"] == pytest.approx([15, 5, 10, 10])


def test_two_pictures_of_one_name_are_named(yolo):
    Image.new("RGB", (40, 20)).save(yolo / "images/train/a.png")
    with pytest.raises(ValueError, match=r"a.jpg, .*a.png share .*a.txt"):
        read_yolo(yolo / "data.yaml")


def test_without_any_label_file_the_place_is_named(yolo):
    (yolo / "labels").rename(yolo / "boxes")
    with pytest.raises(
        ValueError, match=r"train: not one of 2 pictures has a label file, such as .*labels/train/a.txt"
    ):
        read_yolo(yolo / "data.yaml")


def test_labels_may_lie_beside_the_pictures_and_pictures_in_a_list(yolo):
    """Also below a folder that happens to be called images."""
    place = yolo / "images" / "mine"
    place.mkdir()
    Image.new("RGB", (40, 20)).save(place / "z.png")
    (place / "z.txt").write_text("0 .5 .5 .5 .5")
    (yolo / "train.txt").write_text("./images/mine/z.png\n")
    (yolo / "data.yaml").write_text("train: [train.txt, images/val]\nnames: [ant]\n")
    root, coco = read_yolo(yolo / "data.yaml")
    assert root == yolo / "images" and [entry["file_name"] for entry in coco["images"]] == ["mine/z.png", "val/c.jpg"]
    assert [annotation["image_id"] for annotation in coco["annotations"]] == [1, 2]


def test_roboflows_paths_lead_out_of_the_folder(yolo):
    (yolo / "data.yaml").write_text(
        "train: ../images/train\nval: ../images/val\ntest: ../images/test\nnames: [a, b, c]\n"
    )
    description = read_description(yolo / "data.yaml")
    assert description.splits == {"train": [yolo / "images/train"], "val": [yolo / "images/val"]}
    with pytest.raises(ValueError, match="data.yaml: test: ../images/test is not found; looked for .*images/test"):
        read_yolo(description, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("- 1", r"must hold train, val and names, got \[1\]"),
        ("train: images/train\nnames: 3", "names must be a list.*got 3"),
        ("train: images/train\nnames: {one: 1}", "names must be a list.*'one'"),
        ("names: [a]", "names neither train, nor val, nor test"),
        ("train: nowhere\nnames: [a]", "train: nowhere is not found; looked for .*nowhere"),
    ],
)
def test_a_wrong_yaml_is_named(yolo, text, message):
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match="data.yaml: " + message):
        read_description(yolo / "data.yaml")


def test_a_split_that_is_not_named(yolo):
    with pytest.raises(ValueError, match="data.yaml: has no 'test', only train, val"):
        read_yolo(yolo / "data.yaml", "test")
    (yolo / "images/val/c.jpg").unlink()
    with pytest.raises(ValueError, match="val: no picture in .*images/val"):
        read_yolo(yolo / "data.yaml", "val")
