"""The matching of all cells and sizes at once against a loop over them, detection by detection."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit.evaluation import PRESETS, evaluate
from labelkit.evaluation.matching import by_cell, match_all, overlaps
from labelkit.evaluation.olrp import match, olrp
from tests.evaluation.test_average_precision import scene

TAU = 0.5


def slow_match(ious, ignored, crowd):
    """One image, class and size: each detection in turn takes what is free."""
    matched, on_ignored, taken = np.zeros(len(ious)), np.zeros(len(ious), dtype=bool), set()
    for row, of_row in enumerate(ious):
        free = [(not ignored[gt], iou, gt) for gt, iou in enumerate(of_row) if iou >= TAU and gt not in taken]
        if free:
            counts, matched[row], gt = max(free)
            on_ignored[row] = not counts
            if not crowd[gt]:
                taken.add(gt)
    return matched, on_ignored


@st.composite
def cells(draw):
    """Tables of IoUs, many of them equal, with crowds and with what each of two ranges ignores beside them."""
    tables = []
    for _ in range(draw(st.integers(0, 3))):
        rows, columns = draw(st.integers(0, 5)), draw(st.integers(0, 4))
        values = st.sampled_from([0.0, 0.4, 0.5, 0.6, 0.9])
        ious = draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
        flags = st.lists(st.booleans(), min_size=columns, max_size=columns)
        crowd = np.array(draw(flags), dtype=bool)
        ignored = np.array([draw(flags), draw(flags)], dtype=bool).reshape(2, columns) | crowd
        tables.append((np.array(ious).reshape(rows, columns), ignored, crowd))
    return tables


@settings(deadline=None, max_examples=200)
@given(cells())
def test_matching_all_at_once_is_the_loop(tables):
    row, column, iou, cell = [np.empty(0, int)], [np.empty(0, int)], [np.empty(0)], [np.empty(0, int)]
    crowd, ignored = [np.empty(0, bool)], [np.empty((2, 0), bool)]
    rows, columns = 0, 0
    for number, (ious, of_range, of_crowd) in enumerate(tables):
        at = np.nonzero(ious >= TAU)
        row.append(at[0] + rows)
        column.append(at[1] + columns)
        iou.append(ious[at])
        cell.append(np.full(len(ious), number))
        crowd.append(of_crowd)
        ignored.append(of_range)
        rows, columns = rows + ious.shape[0], columns + ious.shape[1]
    every = [np.concatenate(part) for part in (row, column, iou, cell)]
    mixed = np.random.default_rng(0).permutation(len(every[0]))  # the order of the pairs says nothing
    pairs = [part[mixed] for part in every[:3]]
    matched, on_ignored = match_all(*pairs, every[3], np.concatenate(ignored, axis=1), np.concatenate(crowd))
    first = 0
    for ious, of_range, of_crowd in tables:
        part = slice(first, first := first + len(ious))
        for size in range(2):
            wanted = slow_match(ious, of_range[size], of_crowd)
            assert matched[size, part].tolist() == wanted[0].tolist()
            assert on_ignored[size, part].tolist() == wanted[1].tolist()
            alone = match(ious, of_range[size], of_crowd, TAU)
            assert [side.tolist() for side in alone] == [side.tolist() for side in wanted]


def slow_olrp(predictions, targets, label, limits, most):
    """Cell by cell, the IoUs worked out here."""
    scores, matched, num_gts = [np.empty(0)], [np.empty(0)], 0
    for found, truth in zip(predictions, targets, strict=True):
        mine = (truth["labels"] == label).numpy()
        gt, crowd = truth["boxes"].double().numpy()[mine], truth["iscrowd"].bool().numpy()[mine]
        area = (gt[:, 2:] - gt[:, :2]).prod(axis=1)
        area = truth["area"].double().numpy()[mine] if "area" in truth else area
        ignored = crowd | (area < limits[0]) | (area > limits[1])
        num_gts += int((~ignored).sum())
        of_class = (found["labels"] == label).numpy()
        score = found["scores"].double().numpy()[of_class]
        order = np.argsort(-score, kind="stable")[:most]
        score, det = score[order], found["boxes"].double().numpy()[of_class][order]
        size = (det[:, 2:] - det[:, :2]).prod(axis=1)
        common = np.minimum(det[:, None, 2:], gt[:, 2:]) - np.maximum(det[:, None, :2], gt[:, :2])
        common = common.clip(min=0).prod(axis=-1)
        whole = (gt[:, 2:] - gt[:, :2]).prod(axis=1)
        iou, on_ignored = slow_match(
            common / np.where(crowd, size[:, None], size[:, None] + whole - common), ignored, crowd
        )
        outside = (iou == 0) & ((size < limits[0]) | (size > limits[1]))
        scores.append(score[~on_ignored & ~outside])
        matched.append(iou[~on_ignored & ~outside])
    return olrp(np.concatenate(scores), np.concatenate(matched), num_gts, TAU)


@pytest.mark.parametrize("name", ["coco", "aitod"])
@pytest.mark.parametrize("seed", [20, 21])
def test_olrp_is_the_loop_over_images_classes_and_sizes(name, seed):
    predictions, targets = scene(seed)
    predictions[1]["labels"] += 5  # classes and images in which there is one without the other
    targets[4] = {key: value[:0] for key, value in targets[4].items()}
    rules = PRESETS[name]
    rows = evaluate(predictions, targets, name, per_class=True)["per_class"]
    ranges = dict([("", rules.headline[1]), *((f"_{size}", limits) for size, limits in rules.areas.items())])
    assert len(rows) > 3
    for label, row in rows.items():
        for suffix, limits in ranges.items():
            wanted = slow_olrp(predictions, targets, int(label), limits, rules.ap_max_dets)
            assert row[f"oLRP{suffix}"] == pytest.approx(wanted.value, abs=1e-12, nan_ok=True)
            if not suffix:
                parts = [row[key] for key in ("oLRP_Loc", "oLRP_FP", "oLRP_FN", "oLRP_score")]
                assert parts == pytest.approx([*wanted[1:]], abs=1e-12, nan_ok=True)


def test_without_olrp_the_other_numbers_are_the_same():
    predictions, targets = scene(22)
    full = evaluate(predictions, targets, "aitod", per_class=True)
    bare = evaluate(predictions, targets, "aitod", per_class=True, olrp=False)
    for label, row in bare.pop("per_class").items():
        expected = {key: value for key, value in full["per_class"][label].items() if not key.startswith("oLRP")}
        assert row == pytest.approx(expected, nan_ok=True)
    del full["per_class"]
    assert bare == pytest.approx({k: v for k, v in full.items() if not k.startswith("oLRP")}, nan_ok=True)
    empty = evaluate([], [], olrp=False)
    assert math.isnan(empty["AP"]) and not any(key.startswith("oLRP") for key in empty)


def test_the_best_detections_of_a_cell_stand_first_and_no_more_than_asked_for():
    images = [
        {"labels": np.array([2, 7, 2, 2]), "scores": np.array([0.1, 0.9, 0.8, 0.8])},
        {"labels": np.array([7]), "scores": np.array([0.3])},
    ]
    flat = by_cell([one | {"which": 10 * i + np.arange(len(one["labels"]))} for i, one in enumerate(images)], [2, 7], 2)
    assert flat["which"].tolist() == [2, 3, 1, 10] and flat["cell"].tolist() == [0, 0, 2, 3]


def test_overlaps_ask_only_for_tables_that_hold_something():
    found = {"cell": np.array([0, 0, 3])}
    truth = {"cell": np.array([0, 1, 3, 3])}
    tables = {(0, 2): [[0.6], [0.2]], (1, 7): [[0.1, 0.5]]}  # no other (image, label)
    row, column, iou = overlaps(tables, found, truth, [2, 7], 2, TAU)
    assert (row.tolist(), column.tolist(), iou.tolist()) == ([0, 2], [0, 3], [0.6, 0.5])
    assert len(overlaps({}, {"cell": np.array([1])}, {"cell": np.array([2])}, [2, 7], 2, TAU)[0]) == 0
