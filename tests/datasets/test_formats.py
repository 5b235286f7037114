"""VisDrone's and WIDER FACE's text files, and what they say when a line is wrong."""

from __future__ import annotations

import pytest
from PIL import Image

from labelkit.datasets import VISDRONE_CLASSES, CocoFolder, check_coco, read_visdrone, read_wider_face


@pytest.fixture
def visdrone(tmp_path):
    for kind in ("images", "annotations"):
        (tmp_path / kind).mkdir()
    for name, size in (("0001", (100, 80)), ("0002", (64, 64))):
        Image.new("RGB", size).save(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "annotations" / "0001.txt").write_text(
        "10,20,5,6,1,4,0,0\n"  # a car
        "1,2,3,4,0,10,0,0,\n"  # an ignored motor; the trailing comma occurs in the real files
        "50,10,20,30,0,0,0,0\n"  # an ignored region
        "60,60,4,4,1,11,0,0\n"  # others
    )
    (tmp_path / "annotations" / "0002.txt").write_text("0,0,0,9,1,1,0,0\n\n")
    return tmp_path / "images", tmp_path / "annotations"


def test_visdrone(visdrone):
    coco = read_visdrone(*visdrone)
    assert [(e["id"], e["file_name"], e["width"], e["height"]) for e in coco["images"]] == [
        (1, "0001.jpg", 100, 80), (2, "0002.jpg", 64, 64),
    ]  # fmt: skip
    rows = [(a["image_id"], a["category_id"], a["bbox"], a["iscrowd"]) for a in coco["annotations"]]
    assert rows[0] == (1, 4, [10, 20, 5, 6], 0) and VISDRONE_CLASSES[4 - 1] == "car"
    assert rows[1] == (1, 10, [1, 2, 3, 4], 1) and VISDRONE_CLASSES[10 - 1] == "motor"
    assert rows[2:12] == [(1, label, [50, 10, 20, 30], 1) for label in range(1, 11)]
    assert rows[12:] == [(2, 1, [0, 0, 0, 9], 0)]
    assert coco["info"]["left_out"] == {"others": 1}
    assert len({a["id"] for a in coco["annotations"]}) == 13
    _, report = check_coco(coco, visdrone[0])
    assert report.counts() == {"annotation: zero-size box": 1}
    assert len(CocoFolder(visdrone[0], coco)) == 2


def test_visdrone_names_every_bad_line(visdrone):
    rows = ("1,2,3", "1,2,3,4,1,4,0,0", "1,2,x,4,1,4,0,0", "1,2,3,4,1,12,0,0", "1,2,3,4,7,4,0,0")
    (visdrone[1] / "0002.txt").write_text("\n".join(rows))
    with pytest.raises(ValueError) as raised:
        read_visdrone(*visdrone)
    lines = str(raised.value).splitlines()
    assert [line.split("0002.txt")[1].split(": ")[0] for line in lines] == [":1", ":3", ":4", ":5"]
    assert "'1,2,x,4,1,4,0,0'" in lines[1] and "12" in lines[2] and "7" in lines[3]


def test_visdrone_files_must_pair_up(visdrone):
    (visdrone[1] / "0002.txt").rename(visdrone[1] / "0003.txt")
    with pytest.raises(ValueError, match=r"(?s)0002: no text file.*0003: no image"):
        read_visdrone(*visdrone)


def test_two_visdrone_images_of_one_name_are_named(visdrone):
    Image.new("RGB", (10, 10)).save(visdrone[0] / "0002.png")
    with pytest.raises(ValueError, match=r"0002.jpg, .*0002.png share .*0002.txt"):
        read_visdrone(*visdrone)


def test_visdrones_regions_and_ignored_objects_reach_the_target_as_crowds(visdrone):
    target = CocoFolder(visdrone[0], read_visdrone(*visdrone)).targets[0]
    assert target["iscrowd"].tolist() == [0] + 11 * [1]
    assert target["labels"].tolist() == [3, 9, *range(10)]
    assert {tuple(box) for box in target["boxes"][2:].tolist()} == {(50, 10, 70, 40)}


def test_a_byte_order_mark_in_text_files(visdrone, wider):
    for path in (visdrone[1] / "0001.txt", wider[1]):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_visdrone(*visdrone)["annotations"]) == 13 and len(read_wider_face(*wider)["images"]) == 3
    wider[1].write_bytes(b"\xff\xfe0\x00")
    with pytest.raises(ValueError, match="bbx_gt.txt: not UTF-8"):
        read_wider_face(*wider)


def test_an_image_that_exif_turns_has_the_size_that_is_shown(visdrone):
    found = Image.new("RGB", (1, 1)).getexif()
    found[0x0112] = 6
    Image.new("RGB", (100, 80)).save(visdrone[0] / "0001.jpg", exif=found)
    coco = read_visdrone(*visdrone)
    assert (coco["images"][0]["width"], coco["images"][0]["height"]) == (80, 100)
    assert CocoFolder(visdrone[0], coco)[0][0].shape == (3, 100, 80)


def test_an_unreadable_image_costs_only_itself(visdrone, wider):
    (visdrone[0] / "0002.jpg").write_bytes(b"nothing")
    (wider[0] / "0--Parade/c.jpg").unlink()
    for folder, coco, kind in (
        (visdrone[0], read_visdrone(*visdrone), "unreadable file"),
        (wider[0], read_wider_face(*wider), "missing file"),
    ):
        dataset = CocoFolder(folder, coco)
        assert dataset.report.counts() == {f"image: {kind}": 1, "annotation: dropped image": 1}
        assert len(dataset) == len(coco["images"]) - 1


def test_where_no_image_can_be_read_the_place_is_wrong(visdrone, wider):
    for path in visdrone[0].iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not one of 2 pictures can be read, such as .*0001.jpg: cannot be read"):
        read_visdrone(*visdrone)
    with pytest.raises(ValueError, match="not one of 3 pictures can be read, such as .*elsewhere/0--Parade/a.jpg"):
        read_wider_face(wider[0] / "elsewhere", wider[1])


@pytest.fixture
def wider(tmp_path):
    (tmp_path / "0--Parade").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (90, 60)).save(tmp_path / "0--Parade" / f"{name}.jpg")
    path = tmp_path / "wider_face_val_bbx_gt.txt"
    path.write_text(
        "0--Parade/a.jpg\n2\n1 2 3 4 0 0 0 0 0 0 \n5 6 7 8 2 0 0 1 0 0 \n"
        "0--Parade/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n"
        "0--Parade/c.jpg\n1\n9 9 10 10 0 0 0 0 2 1 \n"
    )
    return tmp_path, path


def test_wider_face(wider):
    coco = read_wider_face(*wider)
    assert [entry["file_name"] for entry in coco["images"]] == [f"0--Parade/{name}.jpg" for name in "abc"]
    assert [(a["image_id"], a["bbox"], a["iscrowd"]) for a in coco["annotations"]] == [
        (1, [1, 2, 3, 4], 0), (1, [5, 6, 7, 8], 1), (3, [9, 9, 10, 10], 0),
    ]  # fmt: skip
    dataset = CocoFolder(wider[0], coco, strict=True)
    assert dataset.classes == ("face",) and [len(target["boxes"]) for target in dataset.targets] == [2, 0, 1]
    assert dataset.targets[0]["iscrowd"].tolist() == [0, 1]  # invalid faces are neither object nor background


def test_wider_face_without_the_line_of_zeros(wider):
    text = wider[1].read_text().replace("0\n0 0 0 0 0 0 0 0 0 0 \n", "0\n")
    wider[1].write_text(text)
    assert len(read_wider_face(*wider)["images"]) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("5 6 7 8 2", "5 6 seven 8 2", ":4: expected 8 integers, got '5 6 seven"),
        ("1\n9 9", "x\n9 9", ":9: expected 1 integers, got 'x'"),
        ("1\n9 9", "2\n9 9", ":9: 2 faces announced, 1 lines follow"),
        ("2\n1 2", "1\n1 2", ":4: expected the path of an image, got '5 6 7 8"),
    ],
)
def test_wider_face_names_the_bad_line(wider, old, new, message):
    wider[1].write_text(wider[1].read_text().replace(old, new))
    with pytest.raises(ValueError, match="bbx_gt.txt" + message):
        read_wider_face(*wider)
