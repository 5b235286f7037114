"""Assigners as plain values: every argument there, the same rule back, the course's values only where they belong."""

import json
from functools import partial

import numpy as np
import pytest

from labelkit.assigners import ASSIGNERS, FCOS, RKA, MaxIoU, NoisyAnchors
from labelkit.similarity import nwd, simd
from labelkit.training import build_assigner
from labelkit.training.recipe import Recipe
from labelkit.training.rules import plain_arguments
from labelkit.training.spoken import parse_rule, write_rule


@pytest.mark.parametrize("name", list(ASSIGNERS))
def test_every_registered_rule_comes_back_from_its_plain_values(name):
    rule = Recipe(assigner=name).rule()
    values = plain_arguments(rule)
    again = build_assigner(name, json.loads(json.dumps(values)))
    assert type(again) is type(rule) and repr(again) == repr(rule)
    assert plain_arguments(again) == values


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("max_iou", MaxIoU(similarity=partial(simd, m=1.43, n=1.23), fg_thresh=0.7, low_quality_ties="nearest")),
        ("rka", RKA(k=2, similarity=partial(nwd, constant=5.0), bg_thresh=0.3)),
        ("fcos", FCOS(regress_ranges=((0.0, 64.0), (64.0, float("inf"))), center_radius=2.0)),
    ],
)
def test_arguments_of_every_kind_come_back(name, rule):
    again = build_assigner(name, json.loads(json.dumps(plain_arguments(rule))))
    assert plain_arguments(again) == plain_arguments(rule)
    if name == "fcos":
        assert [tuple(pair) for pair in again.regress_ranges] == [(0.0, 64.0), (64.0, float("inf"))]
    else:
        assert repr(again) == repr(rule)


def test_numpys_numbers_are_kept_as_json_holds_them(unchecked):
    rule = RKA(np.int64(2), partial(nwd, constant=np.float32(5)), np.float64(0.3))
    assert json.loads(json.dumps(plain_arguments(rule))) == plain_arguments(RKA(2, partial(nwd, constant=5.0), 0.3))


def test_a_rule_is_written_as_it_is_read():
    arguments = {
        "k": 3,
        "similarity": {"name": "simd", "m": 1.5, "n": 2},
        "ranges": [[0, 4.5]],
        "own": "a b",
        "off": None,
    }
    text = write_rule("topk", arguments)
    assert text == "topk k=3 similarity=simd similarity.m=1.5 similarity.n=2 ranges=[[0,4.5]] 'own=a b' off=null"
    assert parse_rule(text)[:2] == ("topk", arguments) and write_rule("atss", {}) == "atss"


def test_the_courses_values_hold_only_where_they_belong(unchecked):
    def noisy(**settings):
        return Recipe(assigner="noisy_anchors", **settings).rule()

    assert noisy().n == noisy(data="mine").n == 9  # the small detector has one anchor a cell
    assert noisy(backbone="resnet50_fpn").n == noisy(backbone="resnet50_fpn", data="mine").n == NoisyAnchors().n == 30
    assert noisy(assigner_args={"n": 5}).n == 5
    assert Recipe(assigner="fcos", data="trees:1").rule().center_radius == 1.5
    assert Recipe(assigner="fcos", data="mine").rule() == FCOS()
    for name, missing in (("rka", "similarity must be given"), ("hambox", "hambox takes .*missing 2 required")):
        assert Recipe(assigner=name, data="trees").rule()
        with pytest.raises(ValueError, match=missing):
            Recipe(assigner=name, data="mine").rule()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("max_iou", {"min_fg": None}, "max_iou: min_fg must be float, got None"),
        ("max_iou", {"min_fg": float("nan")}, "max_iou: min_fg must be float, got nan"),
        ("max_iou", {"fg_thresh": 10**20}, "max_iou: fg_thresh must be float, got 1000"),
        ("max_iou", {"allow_low_quality_matches": "no"}, "max_iou: allow_low_quality_matches must be bool, got 'no'"),
        ("atss", {"ddof": True}, "atss: ddof must be int, got True"),
        ("topk", {"k": 10**20}, "topk: k must be int, got 1000"),
        ("fcos", {"regress_ranges": 0}, r"fcos: regress_ranges must be .*None, got 0"),
        ("fcos", {"min_side": 10**20}, r"fcos: min_side must be float \| None, got 1000"),
        ("rka", {"similarity": {"name": "simd", "m": [], "n": 1}}, r"similarity simd: m must be float, got \[\]"),
        ("tal", {"overlap": "union"}, "overlap must be one of iou, giou, .* got 'union'"),
        ("topk", {"n": 3}, "topk takes k=9, similarity=iou: .*unexpected keyword argument 'n'"),
        ("rka", {"similarity": "nwd"}, "similarity nwd takes a, b, constant: missing .*'constant'"),
    ],
)
def test_a_value_of_a_wrong_kind_is_named_before_anything_is_computed(name, values, message, unchecked):
    with pytest.raises(ValueError, match=message):
        build_assigner(name, values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": 1.5}, r"warmup must lie in \[0, 1\], a share of the steps, got 1.5"),
        ({"clip": -1.0}, "clip must not be negative, and finite, got -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay must not be negative, and finite, got nan"),
        ({"anchor_scale": 0.0}, "anchor_scale must be positive, got 0.0"),
        ({"detections": 0}, "detections must be at least 1, got 0"),
        ({"min_size": 0}, "min_size must be at least 1, got 0"),
        ({"loss": "giou"}, "loss must be one of focal, qfl, vfl, mal, ia_bce, got 'giou'"),
        ({"quality": "score"}, "quality must be one of centerness, iou, objectness, none, got 'score'"),
        ({"quality": "iou"}, "quality is for fcos, a retinanet has no such head, got 'iou'"),
        ({"bins": 17}, "bins is for fcos, a retinanet has no such head, got 17"),
        ({"bins": 1, "detector": "fcos"}, "bins must be at least 2, got 1"),
        ({"second_args": {"k": 3}}, r"second_args are of a second_assigner, and there is none: got \{'k': 3\}"),
        ({"warmup_args": {"k": 3}}, r"warmup_args are of a warmup_assigner, and there is none: got \{'k': 3\}"),
        ({"second_weights": "linear"}, "second_weights must be one of equal, progressive, got 'linear'"),
        ({"second_weights": "progressive"}, "second_weights is for a second_assigner, and there is none"),
        ({"warmup_share": 1.0}, "warmup_share must lie between 0 and 1, a share of the steps, got 1.0"),
        ({"nms_thresh": 1.5}, r"nms_thresh must lie in \[0, 1\], an overlap, got 1.5"),
        ({"plain_loss": True, "loss": "qfl"}, "plain_loss and loss both say which loss: .* got loss='qfl'"),
        ({"box_loss": "l2"}, "box_loss must be one of l1, smooth_l1, giou, diou, ciou, got 'l2'"),
    ],
)
def test_a_wrong_value_is_named_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)
