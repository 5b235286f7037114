"""Each layout as its tool writes it: found, opened by split, converted; and what is said when it isn't."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from PIL import Image

from labelkit.datasets import CocoFolder, find_layout, open_folder, open_split
from labelkit.datasets import writing as writing_module
from labelkit.datasets.layouts import LAYOUTS
from labelkit.datasets.writing import write_folder

BBOX = {"train": [4, 5, 10, 8], "val": [20, 6, 10, 8], "test": [1, 1, 9, 9]}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20), (9, 9, 9)).save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(split, file_name) -> dict:
    return {
        "images": [{"id": 1, "file_name": file_name, "width": 40, "height": 20}],
        "categories": [{"id": 3, "name": "ant"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": BBOX[split], "area": 1, "iscrowd": 0}],
    }


def labelkit(root):
    for split in ("train", "val"):
        picture(root / split / "images/a.png")
        text(root / split / "annotations.json", coco(split, "images/a.png"))


def roboflow(root):
    for folder, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        picture(root / folder / "a_jpg.rf.1234.jpg")
        text(root / folder / "_annotations.coco.json", coco(split, "a_jpg.rf.1234.jpg"))


def coco2017(root):
    for split in ("train", "val"):
        picture(root / f"{split}2017/000000000009.jpg")
        text(root / f"annotations/instances_{split}2017.json", coco(split, "000000000009.jpg"))
    text(root / "annotations/captions_train2017.json", {})


def coco_below_images(root):
    for split in ("train", "val"):
        picture(root / f"images/{split}/9.jpg")
        text(root / f"annotations/{split}.json", coco(split, "9.jpg"))


def yolo(root):
    for split in ("train", "val"):
        picture(root / f"images/{split}/a.png")
        x, y, width, height = BBOX[split]
        line = f"0 {(x + width / 2) / 40} {(y + height / 2) / 20} {width / 40} {height / 20}\n"
        text(root / f"labels/{split}/a.txt", line)
    text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [ant]\n")


def visdrone(root):
    for split in ("train", "val"):
        top = root / f"VisDrone2019-DET-{split}"
        picture(top / "images/0001.jpg")
        text(top / "annotations/0001.txt", ",".join(map(str, BBOX[split])) + ",1,4,0,0\n")


def wider(root):
    for split in ("train", "val"):
        picture(root / f"WIDER_{split}/images/0--Parade/a.jpg")
        line = " ".join(map(str, BBOX[split]))
        text(root / f"wider_face_split/wider_face_{split}_bbx_gt.txt", f"0--Parade/a.jpg\n1\n{line} 0 0 0 0 0 0\n")


WRITERS = {
    "labelkit": labelkit, "roboflow": roboflow, "coco": coco2017, "coco-below-images": coco_below_images,
    "yolo": yolo, "visdrone": visdrone, "wider": wider,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_each_layout_is_found_and_opened_by_split(name, tmp_path):
    WRITERS[name](tmp_path)
    layout = find_layout(tmp_path)
    assert layout.kind == name.removesuffix("-below-images")
    assert list(layout.splits)[:2] == ["train", "val"] and ("test" in layout.splits) == (name == "roboflow")
    assert f"{layout.kind} layout in {tmp_path}: train (" in str(layout)
    for split in layout.splits:
        dataset = open_split(layout, split, strict=True)
        image, target = dataset[0]
        x, y, width, height = BBOX[split]
        assert image.shape == (3, 20, 40)
        box = torch.as_tensor(target["boxes"]).as_subclass(torch.Tensor)
        torch.testing.assert_close(box, torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32))
        assert dataset.classes[target["labels"][0]] in ("ant", "car", "face")
    assert len(open_folder(tmp_path, "val", kind=layout.kind)) == 1
    with pytest.raises(ValueError, match="which split"):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_each_layout_converts_to_the_same_targets(name, tmp_path):
    WRITERS[name](tmp_path / "source")
    layout = find_layout(tmp_path / "source")
    for split in layout.splits:
        dataset = open_split(layout, split)
        assert write_folder(dataset, tmp_path / "new" / split) == (1, 0)
        back = open_folder(tmp_path / "new", split, strict=True)
        assert back.classes == dataset.classes
        for one, other in zip(dataset, back, strict=True):
            assert torch.equal(one[0], other[0]) and one[1]["image_id"] == other[1]["image_id"]
            for key in ("boxes", "labels", "area", "iscrowd"):
                assert torch.equal(one[1][key], other[1][key])
    assert find_layout(tmp_path / "new").kind == "labelkit"


def test_a_leaf_gives_what_it_has_under_any_split(tmp_path):
    roboflow(tmp_path)
    for split in (None, "train", "val"):
        leaf = open_folder(tmp_path / "valid", split)
        assert leaf.targets[0]["boxes"].tolist() == [[20, 6, 30, 14]]
    with pytest.raises(ValueError, match="there is no 'holdout' split in roboflow layout"):
        open_folder(tmp_path / "valid", "holdout")
    shutil.rmtree(tmp_path / "valid")
    with pytest.raises(ValueError, match=r"there is no 'val' split in roboflow layout .*: train \(.*test \("):
        open_folder(tmp_path, "val")


def test_a_folder_with_val_inside_trains_on_its_own_file(tmp_path):
    labelkit(tmp_path)
    shutil.move(tmp_path / "train/annotations.json", tmp_path / "annotations.json")
    shutil.move(tmp_path / "train/images", tmp_path / "images")
    assert open_folder(tmp_path, "train").targets[0]["boxes"].tolist() == [[4, 5, 14, 13]]
    assert open_folder(tmp_path, "val").targets[0]["boxes"].tolist() == [[20, 6, 30, 14]]


def test_one_json_and_a_folder_of_images(tmp_path):
    file = tmp_path / "labels" / "mine.json"
    text(file, coco("train", "a.png"))
    with pytest.raises(
        ValueError, match=r"mine.json: of 1 images, such as a.png, none .* looked in .*labels.*--images"
    ):
        open_folder(file)
    picture(tmp_path / "pictures/a.png")
    dataset = open_folder(file, images=tmp_path / "pictures", strict=True)
    assert len(dataset) == 1 and open_folder(file.parent, "train", tmp_path / "pictures").classes == ("ant",)
    shutil.move(tmp_path / "pictures", tmp_path / "images")  # the usual names are found
    assert len(open_folder(file)) == 1
    with pytest.raises(ValueError, match="there is no folder of images '.*pictures'"):
        open_folder(file, images=tmp_path / "pictures")


def test_messages_of_a_file_name_it(tmp_path):
    picture(tmp_path / "a.png")
    content = coco("train", "a.png")
    content["annotations"][0]["bbox"] = [1, 2, 0, 4]
    text(tmp_path / "mine.json", content)
    assert str(open_folder(tmp_path / "mine.json").report.problems[0]).startswith(str(tmp_path / "mine.json"))


def test_images_elsewhere_by_split(tmp_path):
    coco2017(tmp_path)
    for split in ("train", "val"):
        shutil.move(tmp_path / f"{split}2017", tmp_path / f"disk/{split}2017")
    with pytest.raises(ValueError, match="instances_train2017.json: of 1 images"):
        open_folder(tmp_path, "train")
    for split in ("train", "val"):
        dataset = open_folder(tmp_path, split, tmp_path / "disk", strict=True)
        assert dataset.root == tmp_path / f"disk/{split}2017" and len(dataset) == 1


def test_of_two_years_the_one_whose_images_are_there(tmp_path):
    coco2017(tmp_path)
    text(tmp_path / "annotations/instances_train2014.json", coco("test", "x.jpg"))
    assert open_folder(tmp_path, "train").targets[0]["boxes"].tolist() == [[4, 5, 14, 13]]
    picture(tmp_path / "train2014/x.jpg")
    with pytest.raises(
        ValueError, match="train may be any of .*train2014.json, .*train2017.json: name the file itself"
    ):
        open_folder(tmp_path, "train")


def test_cvats_and_label_studios_single_file(tmp_path):
    text(tmp_path / "annotations/instances_default.json", coco("train", "a.png"))
    picture(tmp_path / "images/a.png")
    assert find_layout(tmp_path).kind == "coco" and len(open_folder(tmp_path, strict=True)) == 1


def test_what_was_left_out_is_noted(tmp_path):
    visdrone(tmp_path / "drone")
    path = tmp_path / "drone/VisDrone2019-DET-train/annotations/0001.txt"
    path.write_text(path.read_text() + "1,1,5,5,1,11,0,0\n")
    assert '1 box of the category "others" is left out' in str(open_folder(tmp_path / "drone", "train").report)
    yolo(tmp_path / "yolo")
    picture(tmp_path / "yolo/images/train/b.png")
    dataset = open_folder(tmp_path / "yolo", "train", strict=True)
    assert "1 of 2 pictures has no label file: it shows" in str(dataset.report)
    with pytest.raises(ValueError, match="are those that its YAML names"):
        open_folder(tmp_path / "yolo", "train", tmp_path)


def test_nothing_known_says_what_was_looked_for_and_found(tmp_path):
    text(tmp_path / "notes.md", "")
    picture(tmp_path / "photo.png")
    with pytest.raises(ValueError) as raised:
        find_layout(tmp_path)
    for known in (*LAYOUTS, "data.yaml", "_annotations.coco.json", "notes.md, photo.png"):
        assert known in str(raised.value)
    with pytest.raises(ValueError, match=r"(?s)no known layout.*visdrone: images/ and annotations.*found") as raised:
        find_layout(tmp_path, kind="visdrone")
    assert "data.yaml" not in str(raised.value)
    with pytest.raises(ValueError, match="there is no folder 'no/such'"):
        find_layout("no/such")
    with pytest.raises(ValueError, match="kind must be auto, labelkit, .*got 'voc'"):
        find_layout(tmp_path, kind="voc")
    with pytest.raises(ValueError, match="found photo.png"):
        find_layout(tmp_path / "photo.png")


def test_a_written_folder_is_linked_or_copied_and_never_mixed_up(tmp_path, monkeypatch):
    source = tmp_path / "source"
    for index, name in enumerate(("a.png", "images/a.png", "sub/b.png")):
        picture(source / name)
        Image.new("RGB", (40, 20), (index, 0, 0)).save(source / name)
    Image.new("RGB", (40, 20), (3, 0, 0)).save(tmp_path / "out.png")
    content = coco("train", "")
    names = ("a.png", "images/a.png", "sub/b.png", "../out.png")
    content["images"] = [content["images"][0] | {"id": i, "file_name": name} for i, name in enumerate(names)]
    content["annotations"][0]["image_id"] = 2
    dataset = CocoFolder(source, content, strict=True, white=4095)
    assert write_folder(dataset, tmp_path / "linked") == (4, 0)
    assert os.path.samefile(source / "sub/b.png", tmp_path / "linked/images/sub/b.png")
    assert write_folder(dataset, tmp_path / "copied", copy=True) == (0, 4)
    assert not os.path.samefile(source / "sub/b.png", tmp_path / "copied/images/sub/b.png")

    def refuse(*_):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(writing_module.os, "link", refuse)
    assert write_folder(dataset, tmp_path / "elsewhere") == (0, 4)
    for folder in ("linked", "copied", "elsewhere"):
        back = open_folder(tmp_path / folder, strict=True)
        assert [round(255 * float(image[0, 0, 0])) for image, _ in back] == [0, 1, 2, 3] and back.white == 4095
        assert [len(target["boxes"]) for target in back.targets] == [0, 0, 1, 0]
        assert not any(tmp_path.glob(f"{folder}/*.part"))
    with pytest.raises(ValueError, match="linked is not empty"):
        write_folder(dataset, tmp_path / "linked")
