"""The sky: the same objects everywhere, boxes that hug what is bright, tiles that share no pixel between the splits."""

import hashlib

import numpy as np
import pytest
import torch

from labelkit.boxes import area
from labelkit.datasets import CocoFolder, deep_field, hubble
from labelkit.similarity import dotd_constant, nwd_constant
from labelkit.training.recipe import Recipe
from tests.datasets.test_course import all_boxes, pinned


@pytest.fixture(scope="module")
def training():
    return deep_field("train")


@pytest.fixture(scope="module")
def testing():
    return deep_field("test")


def test_the_objects_are_2023():
    """Exactly: the signal is rounded before anything is decided, and two sets of versions gave the same boxes
    (scikit-image 0.24.0, SciPy 1.13.0, NumPy 2.0.0; 0.26.0, 1.17.1, 2.4.6)."""
    pixels, boxes = hubble._picture()
    assert pixels.shape == (872, 1000, 3) and len(boxes) == 2023
    assert hashlib.sha256(boxes.tobytes()).hexdigest().startswith("982d1f1b82aa337a")
    sides = boxes[:, 2:] - boxes[:, :2]
    assert np.median(np.sqrt(sides.prod(axis=1))) == pytest.approx(30**0.5)
    assert sides.min() == 3 and boxes.min() >= 0 and (boxes <= [1000, 872, 1000, 872]).all()
    assert len(np.unique(boxes, axis=0)) == 2023


@pinned
def test_the_bytes_are_pinned(training, testing):
    assert training.sha256() == "f24d1278139a343a89176759f211877e4c0e439bc0b2720ba6461cef74d83baa"
    assert testing.sha256() == "3b5c3178301ace7d918d62c7e86f0ab7da29466cff80fcb93ca7b415c74b34db"


def test_a_box_is_brighter_than_its_surroundings():
    """Hardly a box without a pixel well above the median of its neighbourhood, and most of what is bright is boxed."""
    pixels, boxes = hubble._picture()
    brightest = pixels.max(axis=-1).astype(int)
    middle = np.median(brightest)
    assert all(brightest[y1:y2, x1:x2].max() >= middle + hubble.ABOVE for x1, y1, x2, y2 in boxes)
    covered = np.zeros(brightest.shape, dtype=bool)
    for x1, y1, x2, y2 in boxes:
        covered[y1:y2, x1:x2] = True
    assert covered[brightest > middle + 100].mean() > 0.98 and covered.mean() < 0.2


def test_a_made_up_sky_is_found_as_it_was_drawn(monkeypatch):
    """Two discs that touch are two objects; a faint one, and one of two pixels, are none."""
    sky = np.full((100, 100, 3), 10, dtype=np.uint8)
    down, across = np.mgrid[:100, :100]
    for y, x, radius in ((30, 30, 6), (30, 43, 6), (70, 70, 3)):
        distance = np.hypot(down - y, across - x)
        sky[..., 0] = np.maximum(sky[..., 0], np.where(distance <= radius, 210 - 15 * distance, 10))
    sky[80:84, 20:24] = 18
    sky[10, 80:82] = 60
    monkeypatch.setattr("skimage.data.hubble_deep_field", lambda: sky)
    _, boxes = hubble._picture.__wrapped__()
    assert len(boxes) == 3
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.abs(centres[np.lexsort(centres.T)] - [(30.5, 30.5), (43.5, 30.5), (70.5, 70.5)]).max() <= 1
    assert (boxes[:, 2:] - boxes[:, :2]).max() <= 16


def test_the_splits_share_no_pixel_and_each_object_is_tested_once(training, testing):
    pixels, _ = hubble._picture()
    corners = {"train": [(x, y) for y in (0, 200, 400, 600, 672) for x in (0, 200, 400)]}
    corners["test"] = [(x, y) for y in (0, 200, 400, 600) for x in (600, 800)]
    for name, dataset in (("train", training), ("test", testing)):
        assert [target["image_id"] for target in dataset.targets] == list(range(len(corners[name])))
        for (x, y), image in zip(corners[name], dataset.images, strict=True):
            assert (image.permute(1, 2, 0).numpy() == pixels[y : y + 200, x : x + 200]).all()
    assert max(x + 200 for x, _ in corners["train"]) <= min(x for x, _ in corners["test"])


def test_boxes_of_a_tile_are_inside_it_and_at_least_half_of_the_object(training, testing):
    for dataset in (training, testing):
        boxes = all_boxes(dataset)
        assert boxes.min() >= 0 and boxes.max() <= 200
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    _, boxes = hubble._picture()
    inside = torch.tensor([(b[:2] >= [600, 0]).all() and (b[2:] <= [800, 200]).all() for b in boxes])
    whole = torch.from_numpy(boxes)[inside] - torch.tensor([600, 0, 600, 0])
    assert set(map(tuple, whole.tolist())) <= {tuple(map(int, box)) for box in testing.targets[0]["boxes"].tolist()}
    assert len(all_boxes(training)) == 1421 and len(all_boxes(testing)) == 753


def test_most_of_the_sky_is_tiny_and_the_metrics_constants_are_its_own(training):
    size = area(all_boxes(training)).sqrt()
    assert [((size >= low) & (size < high)).float().mean().item() for low, high in ((0, 8), (8, 16), (16, 99))] == (
        pytest.approx([0.775, 0.184, 0.042], abs=0.001)
    )
    rule = Recipe(assigner="rka", data="sky").as_dict()["assigner_args"]
    assert rule["similarity"] == {"name": "nwd", "constant": round(nwd_constant(all_boxes(training)), 1)}
    assert round(dotd_constant(all_boxes(training)), 1) == 8.1


def test_another_tile_and_what_is_refused():
    small = deep_field("test", tile=128)
    assert small.images.shape == (6 * 3, 3, 128, 128)
    for tile in (0, 401):
        with pytest.raises(ValueError, match=rf"tile must lie in \[1, 400\].*got {tile}"):
            deep_field("train", tile=tile)
    with pytest.raises(ValueError, match="split must be.*'val'"):
        deep_field("val")


def test_the_sky_is_written_as_any_set_and_named_by_a_recipe(tmp_path, testing):
    back = CocoFolder(testing.to_coco(tmp_path))
    assert not back.report.problems and back.classes == ("galaxy",) and len(back) == 8
    plain, mirrored = Recipe(data="sky"), Recipe(data="sky", flip=True)
    assert plain.of_course and plain.val_set().sha256() == testing.sha256()
    image, _ = plain.train_set()[0]
    torch.manual_seed(0)
    turned = [mirrored.train_set()[0] for _ in range(8)]
    same = [torch.equal(image, other) for other, _ in turned]
    assert 0 < sum(same) < 8
    other, target = turned[same.index(False)]
    assert torch.equal(image.flip(-1), other)
    boxes = torch.as_tensor(plain.train_set().targets[0]["boxes"])
    assert torch.equal(
        torch.as_tensor(target["boxes"]),
        torch.stack((200 - boxes[:, 2], boxes[:, 1], 200 - boxes[:, 0], boxes[:, 3]), 1),
    )
