"""Detection in tiles: every object once, whole, in the picture's pixels, wherever the borders fall."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit.tiling import Tiling
from labelkit.training.measuring import detect, measure
from labelkit.training.tiled import detect_in_tiles, merge
from tests.squares import TINY, squares


class Finder(torch.nn.Module):
    """Finds everything that an image shows of each painted value; a part may well score higher than the whole."""

    def __init__(self, nms_thresh=0.5):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.nms_thresh, self.detections_per_img, self.seen = nms_thresh, 1000, []

    def forward(self, images):
        self.seen.append([tuple(image.shape[-2:]) for image in images])
        return [self.find(image[0]) for image in images]

    def find(self, plane):
        boxes, scores, labels = [], [], []
        for value in plane.unique().tolist():
            if value:
                y, x = (plane == value).nonzero(as_tuple=True)
                boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
                scores.append((value * 7919 + int(x.min()) * 31 + int(y.max()) * 17 + len(x)) % 97 / 100 + 0.01)
                labels.append(int(value) % 2)
        order = torch.tensor(scores).argsort(descending=True)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return one(boxes[order], torch.tensor(scores)[order], torch.tensor(labels)[order])


def painted(boxes, height, width):
    plane = torch.zeros(height, width)
    for value, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        plane[y1:y2, x1:x2] = value
    return plane.expand(3, -1, -1)


@st.composite
def scene(draw):
    """(tiling, height, width, boxes apart from each other that are no larger than the overlap)"""
    tile = draw(st.integers(3, 20))
    overlap = draw(st.integers(1, tile - 1))
    height, width = draw(st.integers(overlap, 50)), draw(st.integers(overlap, 50))
    cells = st.tuples(st.integers(0, width // overlap - 1), st.integers(0, height // overlap - 1))
    boxes = []
    for column, row in draw(st.sets(cells, max_size=8)):
        x, y = draw(st.integers(0, overlap - 1)), draw(st.integers(0, overlap - 1))
        w, h = draw(st.integers(1, overlap - x)), draw(st.integers(1, overlap - y))
        boxes.append((column * overlap + x, row * overlap + y, column * overlap + x + w, row * overlap + y + h))
    return Tiling(tile, overlap), height, width, boxes


@settings(deadline=None)
@given(scene(), st.sampled_from([0.3, 0.5, 1.0]))
def test_every_object_is_found_once_and_whole(given, threshold):
    tiling, height, width, boxes = given
    found = detect_in_tiles(Finder(threshold), painted(boxes, height, width), tiling, batch_size=3)
    assert sorted(map(tuple, found["boxes"].tolist())) == sorted(tuple(map(float, box)) for box in boxes)
    expected = {tuple(map(float, box)): value % 2 for value, box in enumerate(boxes, start=1)}
    pairs = zip(map(tuple, found["boxes"].tolist()), found["labels"].tolist(), strict=True)
    assert all(expected[box] == label for box, label in pairs)
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)


def test_tiles_go_through_in_batches_of_one_size():
    detector = Finder()
    detect_in_tiles(detector, painted([], 20, 33), Tiling(12, 4), batch_size=4)
    assert [len(batch) for batch in detector.seen] == [4, 4] and {s for b in detector.seen for s in b} == {(12, 12)}


def test_what_is_larger_than_the_overlap_stays_in_pieces_that_are_flagged():
    found = detect_in_tiles(Finder(), painted([(4, 4, 26, 8)], 12, 30), Tiling(12, 2), batch_size=8)
    pieces = sorted(map(tuple, found["boxes"].tolist()))
    assert pieces == [(4, 4, 12, 8), (10, 4, 22, 8), (18, 4, 26, 8)] and found["cut"].all()
    without = detect_in_tiles(Finder(), painted([(10, 4, 14, 8)], 12, 24), Tiling(12, 0))
    assert sorted(map(tuple, without["boxes"].tolist())) == [(10, 4, 12, 8), (12, 4, 14, 8)]


def test_a_picture_of_one_tile_is_as_without_tiles():
    torch.manual_seed(0)
    detector, dataset = TINY.build(1), squares(2)
    detector.score_thresh = 0.0
    plain = detect(detector, dataset, 1)  # one by one, as tiles go: in a batch the last digits differ
    for tile in (64, 100):
        for whole, tiled in zip(plain, detect(detector, dataset, tiling=Tiling(tile, 5)), strict=True):
            assert all(torch.equal(whole[name], tiled[name]) for name in whole) and not tiled["cut"].any()
    assert not torch.equal(detect(detector, dataset, tiling=Tiling(40, 10))[0]["boxes"], plain[0]["boxes"])
    assert measure(detector, dataset, 1, Tiling(64, 5)) == measure(detector, dataset, 1)
    assert detector.training


def one(boxes, scores, labels):
    return {
        "boxes": torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.as_tensor(scores),
        "labels": torch.as_tensor(labels, dtype=torch.int64),
    }


TWO = [(0, 0, 20, 20), (10, 0, 30, 20)]  # two tiles of 20 px that share 10


def test_merging_by_hand():
    whole, piece = [13.0, 5, 24, 10], [13.0, 5, 20, 10]
    here, there = one([piece], [0.9], [0]), one([[3.0, 5, 14, 10]], [0.2], [0])
    merged = merge([here, there], TWO, (20, 30), 0.5)
    assert merged["boxes"].tolist() == [whole] and merged["scores"].tolist() == pytest.approx([0.2])
    other_class = merge([here, there | {"labels": torch.tensor([1])}], TWO, (20, 30), 0.5)
    assert other_class["boxes"].tolist() == [piece, whole] and other_class["cut"].tolist() == [True, False]
    # The same object whole in both tiles, seen a little differently: the better one.
    both = merge([one([[13, 4, 17, 9]], [0.3], [0]), one([[3, 4, 7, 10]], [0.4], [0])], TWO, (20, 30), 0.5)
    assert both["boxes"].tolist() == [[13, 4, 17, 10]]


def test_what_one_tile_alone_shows_is_left_as_it_is():
    twice = one([[1, 1, 8, 8], [1, 1, 8, 8.5], [12, 1, 17, 8], [12, 1, 17, 8.5]], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0])
    merged = merge([twice, one([], [], [])], TWO, (20, 30), 0.5)
    assert merged["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7])  # of the two in the overlap one is left


def test_a_picture_returns_as_many_as_the_detector_may():
    detector = Finder()
    detector.detections_per_img = 2
    picture = painted([(1, 1, 3, 3), (22, 1, 24, 3), (12, 9, 14, 11)], 12, 26)
    found, everything = (detect_in_tiles(finder, picture, Tiling(12, 4)) for finder in (detector, Finder()))
    assert len(everything["scores"]) == 3 and found["scores"].tolist() == everything["scores"][:2].tolist()
