"""The course's own data: pinned bytes, promised sizes, boxes that hug what they mark, no leak between splits."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from labelkit.boxes import area
from labelkit.datasets import (
    CocoFolder,
    DetectionDataset,
    collate,
    data_dir,
    digits,
    drop_crowd,
    make_target,
    neon_trees,
)
from labelkit.datasets import digit_scenes as digits_module
from labelkit.datasets import tree_crowns as trees_module

PINNED = {"numpy": "2.4.6", "pillow": "13.0.0", "scikit-image": "0.26.0", "scikit-learn": "1.9.1"}
pinned = pytest.mark.skipif(
    any(version(name) != expected for name, expected in PINNED.items()),
    reason=f"the bytes are promised under {PINNED} only",
)


def all_boxes(dataset: DetectionDataset) -> torch.Tensor:
    return torch.cat([torch.as_tensor(target["boxes"]) for target in dataset.targets])


@pytest.fixture(scope="module")
def train_digits() -> DetectionDataset:
    return digits("train", 300)


@pinned
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: digits("train", 64), "43c51bdf8c7db2add02031ca01b4a49ada877fd29de2d9085c0fcfad44018fd4"),
        (lambda: digits("test"), "2a8aa09af7791c0b8854fb524f4bc453235c751d5ecdf4e2120cd5af66504550"),
        (lambda: neon_trees("test", None), "cab128d028494037a9b68b03918c64e06e9b9769cdd8e5cb9e8f2f8e7b82448b"),
        (lambda: neon_trees("train", 1, n=50), "08f30aa3f4cad20a62f25f098970ec78addd6aa9e9a5a0b792ef4af653fba3fe"),
    ],
    ids=["digits-train", "digits-test", "trees-test", "trees-train"],
)
def test_the_bytes_are_pinned(make, expected):
    assert make().sha256() == expected


def test_digits_have_ai_tods_sizes(train_digits):
    size = area(all_boxes(train_digits)).sqrt()
    assert len(size) / len(train_digits) == pytest.approx(12, abs=0.6)
    assert size.mean() == pytest.approx(12.8, abs=0.4)
    assert size.std() == pytest.approx(5.9, abs=0.4)
    shares = [((size >= low) & (size < high)).float().mean().item() for low, high in ((0, 8), (8, 16), (16, 32))]
    assert shares == pytest.approx([0.21, 0.56, 0.22], abs=0.03)


def test_a_smaller_digit_set_is_the_beginning_of_a_larger_one(train_digits):
    few = digits("train", 5)
    assert torch.equal(few.images, train_digits.images[:5])
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(few.targets, train_digits.targets, strict=False))
    assert not torch.equal(few.images, digits("train", 5, seed=1).images)


def test_digits_hardly_overlap_and_stay_inside(train_digits):
    for target in train_digits.targets:
        boxes = torch.as_tensor(target["boxes"])
        assert boxes.min() >= 0 and boxes.max() <= 128
        left_top = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
        right_bottom = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        common = (right_bottom - left_top).clamp(min=0).prod(-1).fill_diagonal_(0)
        assert (common < 0.05 * torch.minimum(area(boxes)[:, None], area(boxes)[None])).all()


def test_a_digits_ink_ends_where_its_box_ends():
    """Paste on a flat scene: what changed is inside the boxes, and reaches each of their sides."""
    scene = np.full((128, 128, 3), 90.0, dtype=np.float32)
    rng = np.random.default_rng(0)
    boxes = digits_module._paste_digits(scene, np.array([30.0, 14.0, 9.0]), digits_module._scans("train"), rng)
    changed = (scene != 90).any(axis=-1)
    assert len(boxes) == 3
    for x1, y1, x2, y2 in boxes:
        inside = changed[y1:y2, x1:x2]
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        changed[y1:y2, x1:x2] = False
    assert not changed.any()


def test_the_splits_share_no_photograph_and_no_scan():
    assert not set(digits_module.BACKGROUNDS["train"]) & set(digits_module.BACKGROUNDS["test"])
    assert len(digits_module._scans("train")) == 1297 and len(digits_module._scans("test")) == 500


def test_the_committed_boxes_are_853():
    assert sum(len(picture.boxes) for picture in trees_module._pictures(data_dir())) == 853


def test_tree_tiles_are_the_sum_of_the_folds_and_have_the_expected_sizes():
    pooled = neon_trees("test", None)
    assert len(pooled) == 42 and [target["image_id"] for target in pooled.targets] == list(range(42))
    folds = [neon_trees("test", fold) for fold in range(3)]
    assert torch.equal(pooled.images, torch.cat([fold.images for fold in folds]))
    assert [target["image_id"] for fold in folds for target in fold.targets] == list(range(42))
    size = area(all_boxes(pooled)).sqrt()
    assert len(size) == 725
    assert size.mean() == pytest.approx(13.3, abs=0.1) and size.std() == pytest.approx(5.4, abs=0.1)


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_training_windows_show_no_tested_pixel(fold, monkeypatch):
    """Paint the tested pixels red: no training window may contain any."""
    pictures = trees_module._pictures(data_dir())
    blank = [trees_module.Picture(picture.image.point(lambda _: 0), picture.boxes) for picture in pictures]
    shrunk = [trees_module._shrunk(picture, 2.99 / 2) for picture in blank]
    for picture, axis in zip(shrunk, trees_module.SPLIT_AXIS, strict=True):
        begin, end = trees_module._bands(picture.image.size[axis], 128)[fold]
        width, height = picture.image.size
        picture.image.paste((255, 0, 0), (0, begin, width, end) if axis == 1 else (begin, 0, end, height))
    tested = [trees_module._bands(p.image.size[a], 128)[fold] for p, a in zip(shrunk, (1, 0), strict=True)]
    monkeypatch.setattr(trees_module, "_jitter", lambda pixels, boxes, rng: (pixels.astype(np.uint8), boxes))
    windows, targets = trees_module._train_windows(shrunk, tested, 128, 100, np.random.default_rng(fold))
    assert np.stack(windows).max() == 0
    assert min(len(target["boxes"]) for target in targets) >= 3


def test_symmetries_move_boxes_with_the_pixels():
    """A white rectangle stays exactly under its box in each of the 8 symmetries."""
    seen = set()
    for seed in range(40):
        pixels = np.zeros((64, 64, 3), dtype=np.float32)
        pixels[5:15, 20:50] = 200
        turned, boxes = trees_module._jitter(pixels, np.array([[20.0, 5, 50, 15]]), np.random.default_rng(seed))
        x1, y1, x2, y2 = boxes[0].astype(int)
        bright = turned[..., 0] > turned[..., 0].mean()
        assert bright.sum() == 300 and bright[y1:y2, x1:x2].all()
        seen.add((x1, y1, x2, y2))
    assert len(seen) == 8


def test_a_box_needs_half_of_itself_inside_the_window():
    boxes = np.array([[-6.0, 0, 4, 10], [-5, 0, 5, 10], [20, 20, 30, 30], [95, 50, 105, 60]])
    kept = trees_module.window_boxes(boxes + 7, (7, 7, 107, 107))
    assert kept.tolist() == [[0, 0, 5, 10], [20, 20, 30, 30], [95, 50, 100, 60]]


def test_an_item_is_what_a_torchvision_detector_takes(train_digits):
    image, target = train_digits[3]
    assert image.dtype == torch.float32 and image.shape == (3, 128, 128) and image.min() >= 0 and image.max() <= 1
    assert target["boxes"].dtype == torch.float32 and target["boxes"].canvas_size == (128, 128)
    assert {key: target[key].dtype for key in ("labels", "area", "iscrowd")} == {
        "labels": torch.int64, "area": torch.float32, "iscrowd": torch.int64,
    }  # fmt: skip
    assert target["image_id"] == 3 and not target["labels"].any()
    images, targets = collate([train_digits[0], train_digits[1]])
    assert len(images) == len(targets) == 2


def test_transforms_see_uint8_and_cannot_change_the_stored_data():
    def halve(image, target):
        assert image.dtype == torch.uint8
        target["boxes"] = target["boxes"][:1] / 2
        return image, {key: value[:1] if isinstance(value, torch.Tensor) else value for key, value in target.items()}

    dataset = digits("train", 1, transforms=halve)
    before = dataset.sha256()
    _, target = dataset[0]
    assert target["area"].item() == pytest.approx(dataset.targets[0]["area"][0].item() / 4)
    assert len(dataset.targets[0]["boxes"]) > 1 and dataset.sha256() == before
    dataset.transforms = lambda image, target: (image, target | {"labels": target["labels"][:0]})
    with pytest.raises(ValueError, match="differ in length.*box_fields"):
        dataset[0]


def test_drop_crowd_removes_them_from_every_field():
    target = make_target(torch.tensor([[0.0, 0, 4, 4], [1, 1, 9, 9]]), [0, 2], 5, (32, 32), iscrowd=[1, 0])
    _, rest = drop_crowd(torch.zeros(3, 32, 32), target)
    assert rest["boxes"].tolist() == [[1, 1, 9, 9]] and rest["labels"].tolist() == [2]
    assert rest["area"].tolist() == [64] and rest["iscrowd"].tolist() == [0]
    assert len(target["boxes"]) == 2


@pytest.mark.parametrize("make", [lambda: digits("test", 4), lambda: neon_trees("test", 2)], ids=["digits", "trees"])
def test_a_written_folder_reads_back_as_the_same_data(make, tmp_path):
    dataset = make()
    folder = dataset.to_coco(tmp_path / "set")
    back = CocoFolder(folder)
    assert not back.report.problems and back.classes == dataset.classes and len(back) == len(dataset)
    for (image, target), (image2, target2) in zip(dataset, back, strict=True):
        assert torch.equal(image, image2) and target["image_id"] == target2["image_id"]
        for key in ("boxes", "labels", "area", "iscrowd"):
            torch.testing.assert_close(torch.as_tensor(target[key]), torch.as_tensor(target2[key]), rtol=0, atol=2e-5)


def test_bad_arguments_are_named(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="split must be.*'val'"):
        digits("val")
    with pytest.raises(ValueError, match="n=-1"):
        digits("train", -1)
    with pytest.raises(ValueError, match="fold must be.*3"):
        neon_trees("test", 3)
    with pytest.raises(ValueError, match="fold must be.*None"):
        neon_trees("train", None)
    with pytest.raises(ValueError, match="shrink=1.0"):
        neon_trees(shrink=1.0)
    with pytest.raises(ValueError, match="tile = 512 px does not fit"):
        neon_trees(tile=512)
    with pytest.raises(ValueError, match="one length, got 2 and 0"):
        DetectionDataset(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [], ("a",))
    monkeypatch.setenv("LABELKIT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="LABELKIT_DATA"):
        neon_trees()


def test_empty_sets_are_defined():
    assert len(digits("test", 0)) == 0 and len(neon_trees(n=0)) == 0
    empty = digits("test", 2, objects=0.0)
    _, target = empty[0]
    assert target["boxes"].shape == (0, 4) and empty.coco()["annotations"] == []


def test_the_readme_states_the_committed_checksums():
    import hashlib

    readme = (Path(data_dir()) / "README.md").read_text()
    for name in ("yell_528.jpg", "yell_541.jpg", "annotations.json"):
        assert hashlib.sha256((data_dir() / "neon_trees" / name).read_bytes()).hexdigest() in readme
