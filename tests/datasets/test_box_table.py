"""Boxes in columns: from a file read record by record the same as from the checked folder, and nothing valid lost."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from labelkit.datasets import CocoFolder, digits, record_stream
from labelkit.datasets.box_table import BoxTable
from labelkit.datasets.record_stream import stream

BROKEN = [
    {"id": 1, "image_id": 20, "category_id": 7, "bbox": [1, 2, 3.5, 4]},
    {"id": 2, "image_id": 10, "category_id": 3, "bbox": [0.1, 0.2, 0.3, 0.4], "iscrowd": 1},
    {"id": 2, "image_id": 10, "category_id": 3, "bbox": [5, 5, 9, 9]},  # an id used before
    {"id": 4, "image_id": 20, "category_id": 3, "bbox": [5, 5, 0, 9]},
    {"id": 5, "image_id": 99, "category_id": 3, "bbox": [5, 5, 9, 9]},
    {"id": 6, "image_id": 20, "category_id": 3, "bbox": [20, 20, 90, 90]},  # passes the border
    {"id": "x", "image_id": 10, "category_id": 7, "bbox": [8, 8, 4, 4]},
    {"id": 8, "image_id": 20, "category_id": 7, "bbox": [8, float("nan"), 4, 4]},
    "no record",
]
LISTS = {
    "info": {"year": 1.5, "nested": [[1], {}]},
    "annotations": BROKEN,
    "images": [
        {"id": 20, "file_name": "b.png", "width": 32, "height": 30},
        {"id": 10, "file_name": "a.png", "width": 40, "height": 20},
        {"id": 30, "file_name": "lost.png", "width": 40, "height": 20},
    ],
    "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}],
}


@pytest.fixture
def folder(tmp_path):
    for name, size in (("a.png", (40, 20)), ("b.png", (32, 30))):
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "annotations.json").write_text(json.dumps(LISTS, indent=1))
    return tmp_path


def same(table, dataset):
    """As the data set's targets have it, picture by picture."""
    targets = dataset.targets
    assert len(table) == len(targets) and table.classes == tuple(dataset.classes)
    assert table.sizes.tolist() == [list(target["boxes"].canvas_size) for target in targets]
    assert table.image_ids.tolist() == [target["image_id"] for target in targets]
    for image, target in enumerate(targets):
        own = slice(table.starts[image], table.starts[image + 1])
        assert torch.equal(torch.from_numpy(table.boxes[own]), target["boxes"].as_subclass(torch.Tensor))
        assert table.labels[own].tolist() == target["labels"].tolist()
        assert table.ignored[own].tolist() == target["iscrowd"].bool().tolist()
        assert table.index[own].tolist() == list(range(len(target["boxes"])))
        assert (table.image[own] == image).all()


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_read_record_by_record_it_is_the_checked_folder(folder, monkeypatch, chunk):
    monkeypatch.setattr(record_stream, "CHUNK", chunk)
    table, dataset = BoxTable.read(folder), CocoFolder(folder)
    same(table, dataset)
    assert table.ids.tolist() == [2, 9, 10, 1, 6]  # of picture 10, then of picture 20
    assert table.names == ["a.png", "b.png"] and table.folder == folder
    assert [str(problem) for problem in table.report.problems] == [str(p) for p in dataset.report.problems]
    assert (table.report.images, table.report.annotations) == (dataset.report.images, dataset.report.annotations)
    assert table.report.became_background == dataset.report.became_background > 0
    same(BoxTable.of(dataset), dataset)
    same(BoxTable.of(str(folder)), dataset)


def test_without_pictures_the_stated_sizes_do(folder):
    with_pictures = BoxTable.read(folder)
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    table = BoxTable.read(folder)
    assert table.folder is None and table.image_ids.tolist() == [10, 20, 30]
    assert table.boxes.tolist() == with_pictures.boxes.tolist() and "sizes that the file states" in str(table.report)
    with pytest.raises(ValueError, match="none of the first 3 is found"):
        BoxTable.read(folder, folder)


def test_of_data_in_memory_and_of_bare_targets():
    dataset = digits("train", 5)
    same(BoxTable.of(dataset), dataset)
    boxes = torch.tensor([[0.0, 0, 4, 4], [3, 3, 3, 9], [1, 1, torch.nan, 9], [2, 2, 8, 8]])
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(9, 9)),
        "ignore": torch.tensor([0, 0, 0, 1]),
    }
    table = BoxTable.of([target])
    assert table.boxes.tolist() == [[0, 0, 4, 4], [2, 2, 8, 8]] and table.index.tolist() == [0, 3]
    assert table.ignored.tolist() == [False, True] and table.ids.tolist() == [-1, -1]
    first, second = map(str, table.report.problems)
    assert "targets[0]['boxes'][1]: a box must have x1 < x2 and y1 < y2, got [3.0, 3.0, 3.0, 9.0]" in first
    assert "targets[0]['boxes'][2]: a box must be finite" in second
    assert len(BoxTable.of([])) == 0 and BoxTable.of([]).boxes.shape == (0, 4)


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_a_stream_is_what_json_reads(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(record_stream, "CHUNK", chunk)
    content = {"a": [1, 2.5, -3e10, "x]", {"b": [1]}, []], "n": 123456, "e": [], "o": {"k": [1, "}"]}, "t": True}
    (tmp_path / "x.json").write_text("\ufeff" + json.dumps(content, indent=2) + "\n", encoding="utf-8")
    read = {key: list(value) if isinstance(content[key], list) else value for key, value in stream(tmp_path / "x.json")}
    assert read == content
    assert [key for key, _ in stream(tmp_path / "x.json")] == list(content)  # what is not read is passed over


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"images": [{"id": 1}, {"id"', "not JSON: .*cut short"),
        ('{"images": [1 2]}', "not JSON"),
        ("[1, 2]", "must hold an object"),
        ('{"a": 1} x', "not JSON: Extra data"),
        ('{"a": 1, "a": [2]}', "'a' stands twice in the object that begins {'a': "),
        ("", "not JSON"),
    ],
)
def test_what_is_no_object_is_said_with_its_place(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        for _, value in stream(tmp_path / "x.json"):
            list(value) if not isinstance(value, int) else value


@pytest.mark.parametrize("key", ["images", "categories", "annotations"])
def test_lists_that_are_none(folder, key):
    for wrong in (LISTS | {key: 5}, {name: value for name, value in LISTS.items() if name != key}):
        (folder / "annotations.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=f'"{key}" must be a list, got (int|NoneType)'):
            BoxTable.read(folder)


def test_ids_beyond_64_bits_are_unknown(folder):
    record = {"id": 2**70, "image_id": 10, "category_id": 3, "bbox": [5, 5, 9, 9]}
    (folder / "annotations.json").write_text(json.dumps(LISTS | {"annotations": [record]}))
    assert BoxTable.read(folder).ids.tolist() == [-1]
    assert np.array_equal(BoxTable.read(folder).boxes, [[5, 5, 14, 14]])
