"""Pictures in tiles: the pixels of each, what a border leaves of an object, and that the report loses none."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from labelkit.datasets import BoxDataset, CocoFolder, DetectionDataset, Tiles, check_trainable, make_target
from labelkit.datasets.tiles import cut_target
from labelkit.tiling import Tiling


def dataset_of(boxes, crowd=(), size=(30, 40), labels=None):
    """One picture whose every pixel tells where it is."""
    height, width = size
    place = torch.arange(height * width).reshape(height, width)
    image = torch.stack([place % 251, place // 251, place % 7]).to(torch.uint8)
    target = make_target(
        boxes, labels or [0] * len(boxes), 7, size, iscrowd=[int(i in crowd) for i in range(len(boxes))]
    )
    return DetectionDataset(image[None], [target], ("thing", "other"))


def by_the_rule(boxes, labels, crowd, window):
    """The definition, box by box, in whole numbers."""
    x1, y1, x2, y2 = window
    rows = []
    for (a, b, c, d), label, region in zip(boxes, labels, crowd, strict=True):
        left, top, right, bottom = max(a, x1), max(b, y1), min(c, x2), min(d, y2)
        if right <= left or bottom <= top:
            continue
        share = Fraction((right - left) * (bottom - top), (c - a) * (d - b))
        ignored = int(region or share < Fraction(1, 2))
        rows.append(((left - x1, top - y1, right - x1, bottom - y1), label, ignored))
    return rows


@st.composite
def scene(draw):
    boxes = []
    for _ in range(draw(st.integers(0, 5))):
        x, y = draw(st.integers(0, 38)), draw(st.integers(0, 28))
        boxes.append((x, y, draw(st.integers(x + 1, 40)), draw(st.integers(y + 1, 30))))
    labels = [draw(st.integers(0, 1)) for _ in boxes]
    crowd = [draw(st.booleans()) for _ in boxes]
    tile = draw(st.integers(4, 30))
    return boxes, labels, crowd, Tiling(tile, draw(st.integers(0, tile - 1)))


@settings(deadline=None)
@given(scene())
def test_every_tile_shows_what_the_rule_says(given):
    boxes, labels, crowd, tiling = given
    dataset = dataset_of(boxes, {i for i, region in enumerate(crowd) if region}, labels=labels)
    tiles, windows = Tiles(dataset, tiling), tiling.windows(30, 40)
    assert len(tiles) == len(windows) == len(tiles.targets)
    for index, (target, window) in enumerate(zip(tiles.targets, windows, strict=True)):
        rows = zip(target["boxes"].tolist(), target["labels"].tolist(), target["iscrowd"].tolist(), strict=True)
        assert [(tuple(box), label, region) for box, label, region in rows] == by_the_rule(boxes, labels, crowd, window)
        assert target["image_id"] == index
        height, width = window[3] - window[1], window[2] - window[0]
        assert target["boxes"].canvas_size == (height, width)


def test_items_are_cut_from_the_picture():
    dataset = dataset_of([(2, 3, 12, 13), (18, 4, 28, 10)])
    tiles, whole = Tiles(dataset, Tiling(20, 4)), dataset[0][0]
    assert isinstance(tiles, BoxDataset) and tiles.classes == ("thing", "other") and tiles.category_ids == (1, 2)
    for index, (x1, y1, x2, y2) in enumerate(Tiling(20, 4).windows(30, 40)):
        image, target = tiles[index]
        assert image.dtype == torch.float32 and torch.equal(image, whole[:, y1:y2, x1:x2])
        assert target["boxes"].tolist() == tiles.targets[index]["boxes"].tolist()
    assert torch.equal(tiles[-1][0], tiles[len(tiles) - 1][0])
    with pytest.raises(IndexError):
        tiles[len(tiles)]


def test_transforms_see_the_tile():
    mirrored = Tiles(dataset_of([(2, 3, 12, 13)]), Tiling(20, 4), v2.RandomHorizontalFlip(p=1.0))
    image, target = mirrored[0]
    assert target["boxes"].tolist() == [[8, 3, 18, 13]]
    assert torch.equal(image.flip(-1), Tiles(mirrored.dataset, Tiling(20, 4))[0][0])


def test_a_part_has_its_part_of_the_area_and_a_border_decides_at_half():
    target = make_target([(0, 0, 10, 10), (0, 0, 10, 10)], [0, 1], 0, (20, 20), area=[80.0, 60.0])
    at_half = cut_target(target, (5, 0, 15, 10), 3)
    assert at_half["iscrowd"].tolist() == [0, 0] and at_half["area"].tolist() == [40, 30]
    assert cut_target(target, (6, 0, 16, 10), 3)["iscrowd"].tolist() == [1, 1]
    assert len(cut_target(target, (10, 0, 20, 10), 3)["boxes"]) == 0


def test_the_report_counts_what_borders_do():
    # 10 px: whole in the first tile. 30 px long: by half in none of 12 px. A crowd is no object.
    tiles = Tiles(dataset_of([(0, 0, 10, 10), (2, 20, 32, 22), (0, 0, 40, 30)], crowd={2}), Tiling(12, 0))
    (note,) = tiles.report.notes
    starts_x, starts_y = (0, 12, 24, 28), (0, 12, 18)
    assert f"1 picture makes {len(starts_x) * len(starts_y)} tiles, 11 of them without an object" in note.message
    parts = sum(min(x + 12, 32) > max(x, 2) and min(y + 12, 22) > max(y, 20) for x in starts_x for y in starts_y)
    assert f"of 2 objects 1 is whole in no tile; {parts} times a tile shows less than half of one" in note.message
    assert note.message.endswith(
        "1 is shown by half in no tile, so it teaches nothing: take larger tiles or more overlap"
    )
    check_trainable(tiles)
    (quiet,) = Tiles(dataset_of([(0, 0, 10, 10)]), Tiling(20, 10)).report.notes
    assert "teach" not in quiet.message


def test_a_folders_report_ids_and_white_stay(tmp_path):
    dataset_of([(0, 0, 10, 10)]).to_coco(tmp_path)
    folder = CocoFolder(tmp_path, white=4095)
    tiles = Tiles(folder, Tiling(16, 4))
    assert tiles.white == 4095 and tiles.category_ids == folder.category_ids == (1, 2)
    assert tiles.report.images == (1, 1) and len(tiles.report.notes) == len(folder.report.notes) + 1
    assert torch.equal(tiles[0][0], folder[0][0][:, :16, :16])
    assert folder.folder == tmp_path / "images"


def test_only_too_large_objects_teach_nothing():
    with pytest.raises(ValueError, match="the training set holds no object.*(?s:.*)it teaches nothing"):
        check_trainable(Tiles(dataset_of([(0, 0, 40, 30)]), Tiling(8, 0)))
