"""The report as a page: well-formed, self-contained, with every name escaped, and the numbers of the audit in it."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import detection

from labelkit import detectors
from labelkit.assigners import ATSS, TopK
from labelkit.audit import Front, Tiles, audit, charts
from labelkit.audit.pictures import worst
from labelkit.datasets import DetectionDataset
from labelkit.datasets.box_table import BoxTable
from tests.audit.test_audit import network, pictures

NASTY = '<b>&"quote".png'
OUTSIDE = re.compile(r"""(?:src|href|url\(|@import)\s*=?\s*["']?(?!data:|#)(?:\w+:|//|\.)""")


def parsed(text):
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def written(folder, name=NASTY):
    """A folder whose file and category names have marks of HTML, with a duplicate, a fault and a tiny box."""
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(folder / name)
    boxes = [
        [5, 5, 20, 20],
        [5, 5, 20, 20],
        [60, 40, 3, 3],
        [61, 41, 3, 3],
        [62, 42, 3, 3],
        [1, 1, 1, 30],
        [0, 0, 0, 3],
    ]
    records = [{"id": 5 + n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)]
    content = {
        "images": [{"id": 1, "file_name": name, "width": 120, "height": 90}],
        "categories": [{"id": 1, "name": "<i>&"}],
        "annotations": records,
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_one_file_that_needs_nothing_and_escapes_names(tmp_path):
    folder = written(tmp_path / "a&<b>")
    found = audit(folder, network(), {"max_iou": Front(network()).own_rule(), "topk": TopK(k=3)})
    text = found.html(tmp_path / "report.html", command="labelkit audit 'a&<b>'")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    tree = parsed(text)
    assert "<script" not in text and not OUTSIDE.search(text) and "<link" not in text
    assert NASTY not in text and "a&<b>" not in text
    words = " ".join(tree.itertext())
    assert NASTY in words and "labelkit audit 'a&<b>'" in words
    assert "1 pair of one class overlaps by an IoU of 0.9 or more, 1 of them are" in words
    assert "1 × annotation: zero-size box" in words
    assert "annotations 5 and 6 have an IoU of 1.000" in words and "[0, 0, 0, 3]" in words
    assert re.search(r"SHA-256\s+[0-9a-f]{64}", words) and "torchvision" in words
    for heading in ("Three causes", "Sizes, under max_iou", "Rules", "By size at the input", "What would change it"):
        assert heading in words
    assert words.count("labelkit audit ") >= 3 and "data:image/jpeg;base64," in text
    for image in tree.iter("svg"):
        assert image.get("aria-hidden") or image.get("aria-label")


def test_the_bars_are_the_shares_and_the_charts_hold_every_object(tmp_path):
    targets = pictures()
    found = audit(targets, network(detections_per_img=2), what_if=False)
    tree, numbers = parsed(found.html()), found.to_json()
    bars = [float(one.get("width")) for one in tree.iter("rect") if one.get("class") == "lost"]
    shares = [1 - numbers["output"]["recall_ceiling"], 1 - numbers["anchors"]["reachable_50"]]
    assert bars == pytest.approx([100 * s for s in [*shares, numbers["rules"]["max_iou"]["starved"]]], abs=0.01)
    labels = [one.get("aria-label") for one in tree.iter("svg") if one.get("aria-label")]
    assert sum(label.endswith(f": {numbers['objects']} objects") for label in labels) == 2
    assert any(label.endswith(": 4 pictures") for label in labels)


def test_bars_of_a_chart_are_counts():
    sides = np.array([1.0, 1.2, 4, 4, 4, 100])
    kinds = [("a", "good", sides[:3]), ("b", "none", sides[3:])]
    tree = ElementTree.fromstring(charts.by_size("t", kinds, (2.0,)))
    unit = (charts.HEIGHT - charts.TOP - charts.BOTTOM) / 3  # of the fullest bin, which holds three
    bars = sorted((one.get("class"), round(float(one.get("height")) / unit, 1)) for one in tree.iter("rect"))
    assert bars == [("good", 1), ("good", 2), ("none", 1), ("none", 2)]
    assert charts.by_size("t", [("a", "good", np.zeros(0))]) == ""


def test_the_curve_is_the_share_at_or_above():
    best = np.array([0.2, 0.5, 0.5, 0.9])
    tree = ElementTree.fromstring(charts.curve("t", [("all", "good", best)], "IoU"))
    points = [tuple(map(float, point.split(","))) for point in next(tree.iter("polyline")).get("points").split()]
    height = charts.HEIGHT - charts.TOP - charts.BOTTOM
    for place in (0, 20, 21, 50, 51, 90, 91, 100):
        share = (best >= place / 100 - 1e-12).mean()
        assert points[place][1] == pytest.approx(charts.TOP + (1 - share) * height, abs=0.06)


def test_the_worst_pictures_are_those_with_most_starved():
    targets = pictures(2, most=14)
    found = audit(targets, network(), what_if=False)
    starved = [0] * 4
    for row in found.objects:
        starved[row["image"]] += row["positives max_iou"] == 0
    order = worst(found, "max_iou")
    assert [starved[index] for index in order] == sorted((starved[index] for index in order), reverse=True)
    assert starved[order[0]] == max(starved) > 0 and 1 not in order  # picture 1 has no object
    text = found.html()
    assert text.count('class="starved"') == sum(starved) and text.count('class="loses"') == sum(
        int(row["taken by, max_iou"] >= 0) for row in found.objects
    )


def test_pictures_in_memory_are_drawn_and_lost_ones_are_not_missed(tmp_path):
    targets = pictures()[3:]
    images = torch.zeros(1, 3, 75, 100, dtype=torch.uint8)
    full = [target | {"area": torch.ones(len(target["boxes"]))} for target in targets]
    found = audit(DetectionDataset(images, full, ("a",)), network(), what_if=False)
    assert "data:image/jpeg" in found.html()
    folder = written(tmp_path / "x", "p.png")
    table = BoxTable.read(folder)
    (folder / "p.png").write_bytes(b"no picture")
    text = audit(table, network(), what_if=False).html()
    assert "data:image" not in text and "<image" not in text and "p.png (image id 1)" in text


@pytest.mark.parametrize("targets", [[], [pictures()[1]]])
def test_nothing_to_audit_is_a_page_too(targets):
    text = audit(targets, detectors.retinanet(1)).html()
    assert "nothing to audit" in "".join(parsed(text).itertext())


def test_points_and_tiles_and_a_notebook():
    targets = pictures()
    points = audit(
        targets,
        Front(detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=64), tiles=Tiles(60)),
        {"atss": ATSS()},
    )
    words = " ".join(parsed(points.html()).itertext())
    assert "begins from points" in words and "an anchor of IoU" not in words
    shown = points._repr_html_()
    assert ElementTree.fromstring(f"<div>{shown}</div>") is not None and "Three causes" in shown
    table = points.table()
    assert table[0]["objects"] == points.to_json()["sizes"][0]["objects"] and "starved atss" in table[0]
    assert "side at input" in str(table) and ElementTree.fromstring(table._repr_html_()).tag == "table"
