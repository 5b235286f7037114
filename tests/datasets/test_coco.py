"""COCO folders: each kind of fault is named with file, id and value, and every record is accounted for."""

from __future__ import annotations

import copy
import json
import re

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from labelkit.datasets import CocoFolder, InvalidAnnotations, box_fields, check_coco, collate, load_coco


def good() -> dict:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "sub/b.jpg", "width": 20, "height": 20},
            {"id": 9, "file_name": "empty.png", "width": 16, "height": 16},
        ],
        "categories": [{"id": 12, "name": "cat"}, {"id": 5, "name": "ant"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 12, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 7, "category_id": 5, "bbox": [10.5, 2.25, 8, 8], "area": 50, "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 5, "bbox": [0, 0, 20, 20], "area": 400.0, "iscrowd": 0},
        ],
    }


@pytest.fixture
def folder(tmp_path):
    for entry in good()["images"]:
        path = tmp_path / entry["file_name"]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (entry["width"], entry["height"]), (255, 0, 10)).save(path)
    (tmp_path / "annotations.json").write_text(json.dumps(good()))
    return tmp_path


def change(where: str, index: int, **values) -> dict:
    coco = good()
    coco[where][index] |= values
    return coco


def without(where: str, index: int, key: str) -> dict:
    coco = good()
    del coco[where][index][key]
    return coco


def test_items_of_a_good_folder(folder):
    dataset = CocoFolder(folder, strict=True)
    assert dataset.classes == ("ant", "cat") and dataset.category_ids == (5, 12)
    assert dataset.report.problems == [] and dataset.report.annotations == (3, 3)
    by_id = {target["image_id"]: (image, target) for image, target in dataset}
    image, target = by_id[7]
    assert image.shape == (3, 30, 40) and image.dtype == torch.float32 and image[0, 0, 0] == 1
    assert target["boxes"].tolist() == [[1, 2, 4, 6], [10.5, 2.25, 18.5, 10.25]]
    assert target["boxes"].canvas_size == (30, 40)
    assert target["labels"].tolist() == [1, 0]
    assert target["area"].tolist() == [12, 50] and target["iscrowd"].tolist() == [0, 1]
    assert by_id[9][1]["boxes"].shape == (0, 4) and by_id[9][1]["labels"].dtype == torch.int64


def test_targets_equal_the_items_without_opening_images(folder):
    dataset = CocoFolder(folder)
    items = [target for _, target in dataset]
    (folder / "a.png").unlink()
    for expected, target in zip(items, dataset.targets, strict=True):
        assert expected.keys() == target.keys() and expected["image_id"] == target["image_id"]
        assert expected["boxes"].canvas_size == target["boxes"].canvas_size
        for key in ("boxes", "labels", "area", "iscrowd"):
            assert torch.equal(expected[key], target[key]) and expected[key].dtype == target[key].dtype


def test_torchvisions_transforms_and_a_loader_with_workers(folder):
    transforms = v2.Compose(
        [
            v2.RandomCrop((12, 12)),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(min_size=1, labels_getter=box_fields),
        ]
    )
    dataset = CocoFolder(folder, transforms=transforms)
    for images, targets in DataLoader(dataset, batch_size=2, collate_fn=collate, num_workers=1):
        for image, target in zip(images, targets, strict=True):
            assert image.shape == (3, 12, 12) and image.dtype == torch.float32
            boxes = torch.as_tensor(target["boxes"])
            torch.testing.assert_close(target["area"], (boxes[:, 2:] - boxes[:, :2]).prod(1))
            assert len(target["labels"]) == len(boxes) == len(target["iscrowd"])


NAN, INF = float("nan"), float("inf")
FAULTS = {
    # name: (broken dict, kind, what the message must name, images kept, annotations kept)
    "category-id-text": (change("categories", 0, id="12"), "category: wrong type", "category #0.*'12'", 3, 2),
    "category-duplicate": (
        change("categories", 1, id=12), "category: duplicate id", "category id 12.*'cat' and 'ant'", 3, 0,
    ),
    "image-duplicate": (
        change("images", 1, id=7), "image: duplicate id", "image id 7.*'a.png' and 'sub/b.jpg'", 1, 0,
    ),
    "image-id-bool": (change("images", 2, id=True), "image: wrong type", "image #2.*True", 2, 3),
    "image-no-file-name": (change("images", 2, file_name=5), "image: wrong type", "image id 9.*file_name.*5", 2, 3),
    "image-missing": (change("images", 0, file_name="no.png"), "image: missing file", "image id 7.*no.png", 2, 1),
    "image-size": (change("images", 1, width=21), "image: wrong size", "image id 3.*20 x 20.*21 x 20", 2, 2),
    "annotation-not-object": (good() | {"annotations": [5]}, "annotation: wrong type", "annotation #0.*5", 3, 0),
    "unknown-image": (change("annotations", 0, image_id=8), "annotation: unknown image", "annotation id 1.*8", 3, 2),
    "unknown-category": (
        change("annotations", 0, category_id=1), "annotation: unknown category", "id 1.*category_id 1 ", 3, 2,
    ),
    "image-id-text": (change("annotations", 0, image_id="7"), "annotation: wrong type", "annotation id 1.*'7'", 3, 2),
    "no-bbox": (without("annotations", 0, "bbox"), "annotation: wrong type", "annotation id 1.*None", 3, 2),
    "bbox-of-three": (change("annotations", 0, bbox=[1, 2, 3]), "annotation: wrong type", r"\[1, 2, 3\]", 3, 2),
    "bbox-text": (change("annotations", 0, bbox=[1, 2, "3", 4]), "annotation: wrong type", "'3'", 3, 2),
    "bbox-nan": (change("annotations", 0, bbox=[1, NAN, 3, 4]), "annotation: not finite", "nan", 3, 2),
    "bbox-infinite": (change("annotations", 0, bbox=[1, 2, INF, 4]), "annotation: not finite", "inf", 3, 2),
    "bbox-huge": (change("annotations", 0, bbox=[1, 2, 10**400, 4]), "annotation: not finite", "1000", 3, 2),
    "zero-width": (change("annotations", 0, bbox=[1, 2, 0, 4]), "annotation: zero-size box", r"\[1, 2, 0, 4\]", 3, 2),
    "negative": (change("annotations", 0, bbox=[9, 9, -2, 4]), "annotation: zero-size box", "-2", 3, 2),
    "outside": (change("annotations", 0, bbox=[40, 2, 3, 4]), "annotation: box outside", r"\[40, .*40 x 30", 3, 2),
    "float32": (
        change("annotations", 0, bbox=[39.9999999, 5, 3, 9]), "annotation: zero-size box", "float32.*40 x 30", 3, 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_and_only_what_it_spoils_is_dropped(name, folder):
    broken, kind, names, images, annotations = FAULTS[name]
    path = folder / "broken.json"
    path.write_text(json.dumps(broken))
    dataset = CocoFolder(folder, path)
    report = dataset.report
    assert report.counts().get(kind) == (2 if "duplicate" in name else 1)
    text = str(next(problem for problem in report.problems if problem.kind == kind))
    assert text.startswith(str(path))
    with pytest.raises(InvalidAnnotations, match=names) as raised:
        CocoFolder(folder, path, strict=True)
    assert raised.value.report.problems == report.problems
    # Nothing is lost silently: what is not kept is in the report, once.
    assert report.images == (images, 3) and len(dataset) == images
    assert report.annotations == (annotations, len(broken["annotations"]))
    dropped = [problem for problem in report.problems if problem.action == "dropped"]
    assert sum(problem.record.startswith("annotation") for problem in dropped) == (
        report.annotations[1] - report.annotations[0]
    )
    assert all(len(target["boxes"]) == len(target["labels"]) for _, target in dataset)


def repaired(where: str, index: int, message: str, **values):
    return change(where, index, **values), message


REPAIRS = {
    "area-null": repaired("annotations", 1, "id 2: area .*None", area=None),
    "area-nan": repaired("annotations", 1, "id 2: area .*nan", area=NAN),
    "area-infinite": repaired("annotations", 1, "id 2: area .*inf", area=INF),
    "area-huge": repaired("annotations", 1, "id 2: area .*1000", area=10**400),
    "area-negative": repaired("annotations", 1, "id 2: area .*-1", area=-1),
    "area-text": repaired("annotations", 1, "id 2: area .*'100'", area="100"),
    "area-bool": repaired("annotations", 1, "id 2: area .*True", area=True),
    "iscrowd-null": repaired("annotations", 0, "id 1: iscrowd .*None", iscrowd=None),
    "iscrowd-two": repaired("annotations", 0, "id 1: iscrowd .*2", iscrowd=2),
    "iscrowd-list": repaired("annotations", 0, r"id 1: iscrowd .*\[\]", iscrowd=[]),
    "ignore-odd": repaired("annotations", 0, "id 1: ignore .*'no'", ignore="no"),
    "id-null": repaired("annotations", 0, "annotation #0: id None is no integer; it is 4 now", id=None),
    "id-text": repaired("annotations", 0, "annotation #0: id 'x' is no integer; it is 4 now", id="x"),
    "id-list": repaired("annotations", 0, r"annotation #0: id \[1\] is no integer; it is 4 now", id=[1]),
    "id-missing": (without("annotations", 0, "id"), "annotation #0: id None is no integer; it is 4 now"),
    "id-twice": repaired("annotations", 1, "annotation #1: id 1 was used before; it is 4 now", id=1),
    "category-no-name": (without("categories", 1, "name"), "category id 5: name .*None; called '5'"),
    "image-width-zero": repaired("images", 2, "image id 9: width .*0, 16; the file has 16 x 16", width=0),
    "image-no-height": (without("images", 0, "height"), "image id 7: .*40, None; the file has 40 x 30"),
}


@pytest.mark.parametrize("name", REPAIRS)
def test_a_field_that_no_detector_needs_costs_no_object_its_life(name, folder):
    broken, message = REPAIRS[name]
    dataset = CocoFolder(folder, broken)
    report = dataset.report
    assert [problem.action for problem in report.problems] == ["repaired"] and "repaired" in report.problems[0].kind
    assert re.search(message, str(report.problems[0]))
    assert report.annotations == (3, 3) and report.images == (3, 3) and report.became_background == 0
    reference = CocoFolder(folder, good())
    for target, expected in zip(dataset.targets, reference.targets, strict=True):
        for key in ("boxes", "labels", "iscrowd"):
            assert torch.equal(target[key], expected[key])
    ids = [annotation["id"] for annotation in dataset.coco()["annotations"]]
    assert sorted(ids) in ([1, 2, 3], [1, 3, 4], [2, 3, 4])
    if name.startswith("area"):
        assert dataset.coco()["annotations"][1]["area"] == 64
    with pytest.raises(InvalidAnnotations, match=message):
        CocoFolder(folder, broken, strict=True)


def test_six_annotations_of_one_id_are_six_objects():
    """TACO's and Mapillary's files are such."""
    coco = good()
    coco["annotations"] = [good()["annotations"][0] | {"bbox": [5 * i, 5, 4, 4]} for i in range(6)]
    clean, report = check_coco(coco)
    assert [annotation["id"] for annotation in clean["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert report.counts() == {"annotation: id repaired": 5}


def test_whole_numbers_may_be_written_as_floats_and_flags_as_truth_values(folder):
    coco = good()
    coco["images"][0] |= {"id": 7.0, "width": 40.0, "height": 30.0}
    coco["categories"][0]["id"] = 12.0
    coco["annotations"][0] |= {"id": 1.0, "image_id": 7.0, "category_id": 12.0, "iscrowd": False}
    coco["annotations"][1]["iscrowd"] = True
    dataset = CocoFolder(folder, coco, strict=True)
    assert dataset.report.problems == [] and dataset.coco() == CocoFolder(folder, good()).coco()
    assert all(type(entry["width"]) is int for entry in dataset.coco()["images"])


def test_a_second_image_of_one_id_never_gives_its_boxes_to_the_first(folder):
    coco = change("images", 1, id=7)
    coco["annotations"][2]["image_id"] = 7
    dataset = CocoFolder(folder, coco)
    assert [target["image_id"] for target in dataset.targets] == [9] and len(dataset.targets[0]["boxes"]) == 0
    assert dataset.report.counts() == {"annotation: dropped image": 3, "image: duplicate id": 2}
    assert dataset.report.became_background == 0  # their images are gone with them


def test_the_same_record_twice_is_one(folder):
    coco = good()
    coco["images"].append(dict(coco["images"][0]))
    coco["categories"].append(dict(coco["categories"][0]))
    dataset = CocoFolder(folder, coco)
    assert len(dataset) == 3 and dataset.report.annotations == (3, 3) and dataset.classes == ("ant", "cat")
    assert dataset.report.counts() == {"category: listed twice": 1, "image: listed twice": 1}


def test_one_file_under_two_ids_is_said(folder):
    coco = good()
    coco["images"].append(coco["images"][0] | {"id": 8})
    report = CocoFolder(folder, coco).report
    assert report.counts() == {"image: same file twice": 1} and report.images == (4, 4)
    assert "image id 8" in str(report.problems[0]) and "image id 7" in str(report.problems[0])


def test_objects_that_became_background_are_counted(folder):
    coco = good()
    spoilt = {"image_id": 7, "category_id": 12, "bbox": [1, 2, 0, 4]}
    coco["annotations"] += [
        spoilt | {"id": 10},
        spoilt | {"id": 11, "category_id": 99, "bbox": [1, 1, 4, 4]},
        spoilt | {"id": 12, "iscrowd": 1},  # no object
        spoilt | {"id": 13, "bbox": [100, 100, 4, 4]},  # nothing of it is to be seen
        spoilt | {"id": 14, "image_id": 99},  # its image is not trained on
    ]
    report = CocoFolder(folder, coco).report
    assert report.annotations == (3, 8) and report.became_background == 2
    assert "2 objects became background" in report.summary()
    assert "became background" not in CocoFolder(folder).report.summary()


def test_a_byte_order_mark_and_backslashes(folder):
    coco = change("images", 1, file_name="sub\\b.jpg")
    (folder / "annotations.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(coco).encode())
    dataset = CocoFolder(folder, strict=True)
    assert len(dataset) == len(list(dataset)) == 3


def test_a_white_value_comes_with_the_file_or_is_refused(folder):
    assert CocoFolder(folder, good() | {"info": {"white": 4095}}).white == 4095
    assert CocoFolder(folder, good() | {"info": {"white": 4095}}, white=100).white == 100
    assert CocoFolder(folder, good() | {"info": "by hand"}).white is None
    with pytest.raises(ValueError, match="mine.json.*white.*'12 bits'"):
        CocoFolder(folder, good() | {"info": {"white": "12 bits"}}, file="mine.json")


def test_an_unreadable_and_a_cut_file(folder):
    (folder / "a.png").write_bytes(b"this is no picture")
    report = CocoFolder(folder).report
    assert report.counts() == {"annotation: dropped image": 2, "image: unreadable file": 1}
    assert "image id 7" in str(report) and "a.png" in str(report)
    Image.effect_noise((20, 20), 80).save(folder / "sub/b.jpg")
    (folder / "sub/b.jpg").write_bytes((folder / "sub/b.jpg").read_bytes()[:-150])
    lazy = CocoFolder(folder)
    assert lazy.report.images == (2, 3)
    with pytest.raises(OSError, match="image id 3, sub/b.jpg"):
        list(lazy)
    assert CocoFolder(folder, decode=True).report.counts()["image: unreadable file"] == 2


def test_a_box_over_the_border_is_clipped_and_reported_but_rounding_is_not():
    coco, report = check_coco(change("annotations", 0, bbox=[-2, 2, 5, 4], area=20))
    assert coco["annotations"][0]["bbox"] == [0, 2, 3, 4] and len(coco["annotations"]) == 3
    assert [problem.action for problem in report.problems] == ["clipped"] and report.annotations == (3, 3)
    coco, report = check_coco(change("annotations", 2, bbox=[-0.01, 0, 20.05, 20]))
    assert report.problems == [] and coco["annotations"][2]["bbox"] == [0, 0, 20, 20]


@pytest.mark.parametrize(
    ("bbox", "clipped"),
    [
        ([-3, 5, 9, 9], [0, 5, 6, 9]),
        ([5, -3, 9, 9], [5, 0, 9, 6]),
        ([35, 5, 9, 9], [35, 5, 5, 9]),
        ([5, 25, 9, 9], [5, 25, 9, 5]),
        ([-1, -1, 99, 99], [0, 0, 40, 30]),
    ],
    ids=["left", "top", "right", "bottom", "all"],
)
def test_each_border_clips(bbox, clipped):
    coco, report = check_coco(change("annotations", 0, bbox=bbox))
    assert coco["annotations"][0]["bbox"] == clipped
    assert report.counts() == {"annotation: box passes border": 1}


@pytest.mark.parametrize("bbox", [[40, 5, 3, 3], [5, 30, 3, 3], [-3, 5, 3, 3], [5, -3, 3, 3]])
def test_a_box_that_only_touches_the_image_is_outside(bbox):
    _, report = check_coco(change("annotations", 0, bbox=bbox))
    assert report.counts() == {"annotation: box outside": 1} and report.became_background == 0


def test_every_box_that_is_kept_has_a_size_in_float32_and_stays_inside(tmp_path):
    """Borders in steps far below what float32 can tell apart, on a wide image."""
    size = 5003
    Image.new("L", (size, 8)).save(tmp_path / "wide.png")
    starts = [size - 10.0**-k for k in range(12)] + [0.1 + 10.0**-k for k in range(12)]
    annotations = [
        {"image_id": 1, "category_id": 1, "bbox": [start, 1, width, 2]}
        for start in starts
        for width in (1e-9, 1e-4, 7.3)
    ]
    images = [{"id": 1, "file_name": "wide.png", "width": size, "height": 8}]
    coco = {"images": images, "categories": [{"id": 1, "name": "x"}], "annotations": annotations}
    dataset = CocoFolder(tmp_path, coco)
    boxes = torch.as_tensor(dataset.targets[0]["boxes"])
    assert 0 < len(boxes) < len(annotations)
    assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and boxes[:, 2].max() <= size


def test_ignore_becomes_crowd():
    coco, _ = check_coco(change("annotations", 0, ignore=1))
    assert [annotation["iscrowd"] for annotation in coco["annotations"]] == [1, 1, 0]


def test_the_strict_check_lists_every_problem_and_changes_nothing():
    coco = good()
    coco["annotations"][0]["bbox"] = [1, 2, 0, 4]
    coco["annotations"][2]["category_id"] = 99
    before = copy.deepcopy(coco)
    with pytest.raises(InvalidAnnotations, match=r"(?s)annotation id 1:.*annotation id 3:.*99"):
        check_coco(coco, strict=True, file="mine.json")
    check_coco(coco)
    assert coco == before


def test_files_that_are_no_annotations(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(good())[:100])
    with pytest.raises(ValueError, match=r"annotations.json: not JSON.*line 1.*cut short"):
        CocoFolder(tmp_path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="annotations.json: not UTF-8"):
        load_coco(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must hold an object.*list"):
        CocoFolder(tmp_path)
    path.write_text('{"images": [], "categories": {}}')
    with pytest.raises(ValueError, match='"categories" must be a list, got dict'):
        CocoFolder(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="annotations.json"):
        CocoFolder(tmp_path)


def test_an_empty_set_is_defined(tmp_path):
    dataset = CocoFolder(tmp_path, {"images": [], "categories": [], "annotations": []})
    assert len(dataset) == 0 and dataset.targets == [] and dataset.classes == ()


def test_the_summary_counts_what_it_does_not_print():
    coco = good()
    coco["annotations"] = [{"id": i, "image_id": 7, "category_id": 5, "bbox": [0, 0, 0, 1]} for i in range(30)]
    _, report = check_coco(coco)
    text = report.summary(first=5)
    assert "0 of 30 annotations" in text and "30 x annotation: zero-size box" in text and "25 more" in text
