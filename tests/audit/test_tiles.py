"""Tiles and own anchors: the same numbers as the tiles as pictures, and the anchors as a detector, would have."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.models.detection.anchor_utils import AnchorGenerator

from labelkit import Priors, detectors
from labelkit.assigners import ATSS
from labelkit.audit import Anchors, Front, Tiles, audit
from labelkit.audit.tiles import Inputs
from labelkit.datasets.box_table import BoxTable
from labelkit.tiling import Tiling
from tests.audit.test_audit import by_brute_force, network, pictures


def by_hand(length, side, overlap):
    """Starts of the tiles along a side, by the sentence: neighbours share the overlap, the last ends at the border."""
    starts = [0]
    while starts[-1] + side < length:
        starts.append(min(starts[-1] + side - overlap, length - side))
    return starts


@pytest.mark.parametrize("length", [1, 39, 40, 41, 76, 77, 112, 200])
@pytest.mark.parametrize("overlap", [0, 4, 39])
def test_tiles_cover_a_side(length, overlap):
    starts = Tiles(40, overlap).starts(length).tolist()
    assert starts == by_hand(length, 40, overlap)
    assert (
        starts[0] == 0
        and starts[-1] + 40 >= length
        and all(b - a <= 40 - overlap for a, b in zip(starts, starts[1:], strict=False))
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 20), st.integers(0, 19), st.integers(1, 40), st.integers(1, 40))
def test_the_audits_tiles_are_those_of_training(side, overlap, height, width):
    overlap = min(overlap, side - 1)
    boxes = tv_tensors.BoundingBoxes([[0.0, 0, 1, 1]], format="XYXY", canvas_size=(height, width))
    table = BoxTable.of([{"boxes": boxes, "iscrowd": torch.zeros(1)}])
    inputs = Inputs.of(table, np.zeros(1, dtype=np.int64), Tiles(side, overlap))
    tiles = [(*corner, *(corner + size[::-1])) for corner, size in zip(inputs.corner, inputs.sizes, strict=True)]
    assert tiles == Tiling(side, overlap).windows(height, width)
    assert sorted({x for x, *_ in tiles}) == by_hand(width, side, overlap)


def cut_by_hand(target, side, overlap):
    """(tile as a target, indices of its boxes, which count there) of every tile, one box and one tile after another."""
    height, width = target["boxes"].canvas_size
    corners = [(x, y) for y in by_hand(height, side, overlap) for x in by_hand(width, side, overlap)]
    across, down = min(side, width), min(side, height)
    shares = []
    for x1, y1, x2, y2 in target["boxes"].tolist():
        row = []
        for x, y in corners:
            shown = max(0, min(x2, x + across) - max(x1, x)) * max(0, min(y2, y + down) - max(y1, y))
            row.append(shown / ((x2 - x1) * (y2 - y1)))
        shares.append(row)
    for number, (x, y) in enumerate(corners):
        rows, counts = [], []
        for g, row in enumerate(shares):
            best = min(t for t, share in enumerate(row) if share == max(row))
            if not target["iscrowd"][g] and (best == number or row[number] >= 0.5):
                rows.append(g)
                counts.append(best == number)
        boxes = target["boxes"].as_subclass(torch.Tensor)[rows] - torch.tensor([x, y, x, y])
        limit = torch.tensor([across, down, across, down])
        if (down, across) != (height, width):  # a picture that is one tile stays as it is
            boxes = boxes.clamp(min=0).minimum(limit)
        boxes = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(down, across))
        yield {"boxes": boxes, "iscrowd": torch.zeros(len(rows))}, rows, counts


@pytest.mark.parametrize(("side", "overlap"), [(40, 0), (50, 10), (100, 5)])
def test_every_tile_is_an_input_and_every_object_counts_once(side, overlap):
    targets = pictures(3, most=14)
    model = network(min_size=96, max_size=160, detections_per_img=2)
    rows, ceiling, priors = {}, 0, []
    for image, target in enumerate(targets):
        total = 0
        for tile, indices, counts in cut_by_hand(target, side, overlap):
            found, anchors = by_brute_force(model, tile)
            total += anchors
            ceiling += min(sum(counts), 2)
            for index, row, counted in zip(indices, found, counts, strict=True):
                if counted:
                    assert (image, index) not in rows
                    rows[image, index] = row
        priors.append(total)
    found = audit(targets, Front(model, tiles=Tiles(side, overlap)), what_if=False)
    objects = found.objects
    keys = list(zip(objects.image.tolist(), objects.index.tolist(), strict=True))
    assert keys == sorted(rows) and len(keys) == sum(int((t["iscrowd"] == 0).sum()) for t in targets)
    assert objects.best_iou.tolist() == pytest.approx([rows[key][1] for key in keys], abs=1e-4)
    assert objects.positives["max_iou"].tolist() == [rows[key][3] for key in keys]
    assert found.priors.tolist() == priors
    assert found.to_json()["output"]["recall_ceiling"] == pytest.approx(ceiling / len(keys), abs=1e-6)
    assert found.to_json()["tiles"] == {"side": side, "overlap": overlap}


def test_own_anchors_are_a_detector_with_these_anchors():
    targets, sizes = pictures(1), ((6, 9), (12,), (24,), (48,), (96,))
    model = network(anchor_generator=AnchorGenerator(sizes, ((0.5, 2.0),) * 5))
    expected = audit(targets, model, what_if=False)
    own = audit(targets, Front(network(), anchors=Anchors(sizes=sizes, ratios=(0.5, 2.0))), what_if=False)
    assert own.to_json() == expected.to_json() and own.to_json()["anchors"]["reachable_50"] > 0


def test_own_strides_and_sizes_stand_where_the_detectors_own_do():
    front = Front(detectors.retinanet(1), anchors=Anchors(strides=(2, 32), sizes=((8,), (64,))))
    seen, priors = front.see((60, 64))
    assert seen.feature_sizes == ((32, 32), (2, 2)) and priors.known_strides() == (2, 32)
    expected = Priors.anchors(seen.padded, (2, 32), ((8,), (64,)), offset=0.5)
    assert torch.equal(priors.boxes, expected.boxes) and front.finest_stride == 2
    points = Front(detectors.fcos(1), anchors=Anchors(strides=(2, 4))).see((64, 64))[1]
    assert torch.equal(points.centers, Priors.points((64, 64), (2, 4)).centers)
    levels = Front(network(), anchors=Anchors(strides=(4, 8, 16, 32, 64)))
    assert levels.see((75, 100))[1].known_strides() == (4, 8, 16, 32, 64) and levels.anchor_sides[0] == 32


def test_the_options_of_a_change_make_it():
    """What the report tells to type gives the row that it stands in."""
    targets = pictures()
    found = audit(targets, network(min_size=64, max_size=128), {"atss": ATSS()})
    rows = {row["change"]: row for row in found.what_if}
    assert rows["as it is"]["options"] == "" and rows["input x 2"]["options"] == "--min-size 128 --max-size 256"
    row = rows["anchors from 8 px, stride 4"]
    words = row["options"].split()
    strides = tuple(float(step) for step in words[words.index("--strides") + 1].split(","))
    sizes = [[float(s) for s in level.split("+")] for level in words[words.index("--sizes") + 1].split(",")]
    ratios = [float(ratio) for ratio in words[words.index("--ratios") + 1].split(",")]
    front = Front(network(min_size=64, max_size=128), anchors=Anchors(strides, sizes, ratios))
    [again, *_] = audit(targets, front, {"atss": ATSS()}).what_if
    assert strides == (4, 8, 16, 32, 64)
    assert {key: again[key] for key in ("anchors", "reachable_50", "starved")} == {
        key: row[key] for key in ("anchors", "reachable_50", "starved")
    }
    tiles = next(row for row in found.what_if if row["change"].startswith("tiles"))
    _, side, _, overlap = tiles["options"].split()
    [again, *_] = audit(
        targets, Front(network(min_size=64, max_size=128), tiles=Tiles(int(side), int(overlap))), {"atss": ATSS()}
    ).what_if
    assert again["anchors"] == tiles["anchors"] and again["starved"] == tiles["starved"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Tiles(40, 40), "overlap must be at least 0 and below the tile of 40 px, got 40"),
        (lambda: Tiles(0), "below the tile of 0 px"),
        (lambda: Tiles(40.5), "side must be a whole number of pixels, got 40.5"),
        (lambda: Tiles(40, 1.5), "overlap must be a whole number of pixels, got 1.5"),
        (lambda: Anchors(strides=(4, 0)), "must be positive"),
        (lambda: Anchors(sizes=((4,), ())), "must be positive"),
        (lambda: Front(network(), anchors=Anchors(sizes=((8,),))), "one entry for each level, got 1 for 5 strides"),
        (lambda: Front(detectors.fcos(1), anchors=Anchors(sizes=((8,),) * 3)), "begins from points"),
    ],
)
def test_what_cannot_be_is_refused(make, said, unchecked):
    with pytest.raises(ValueError, match=said):
        make()
