"""Boxes: checks that name what is wrong, sizes, and the two codings."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from labelkit import Priors, boxes
from labelkit.assigners import ATSS
from labelkit.detectors import retinanet
from labelkit.evaluation import evaluate

coordinates = st.floats(-1000, 1000, width=32)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0, 0, math.nan, 5], r"gt\[1\] must be finite.*nan"),
        ([0, 0, math.inf, 5], r"gt\[1\] must be finite.*inf"),
        ([-math.inf, 0, -math.inf, 5], r"gt\[1\] must be finite"),
        ([-1e30, 0, 1e30, 5], r"gt\[1\] must be finite with sides below 1e18"),
        ([0, 0, 5, 0], r"gt\[1\] must have x1 < x2 and y1 < y2, got \[0.0, 0.0, 5.0, 0.0\], which is of zero size"),
        ([6, 0, 5, 5], r"gt\[1\].*\[6.0, 0.0, 5.0, 5.0\], which is inverted"),
    ],
)
def test_a_bad_box_is_named(row, words, device):
    with pytest.raises(ValueError, match=words):
        boxes.check_boxes(torch.tensor([[0.0, 0, 1, 1], row], device=device), "gt")


@pytest.mark.parametrize("shape", [(4,), (2, 5), (1, 2, 4)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"gt must have shape \[N, 4\], got \["):
        boxes.check_boxes(torch.zeros(shape), "gt")


def test_a_box_is_judged_as_float32_will_see_it():
    """0.001 px at 1e5 px is a box in float64 and nothing in float32, where networks and losses compute."""
    thin = torch.tensor([[0.0, 0, 1, 1], [1e5, 0, 1e5 + 1e-3, 9]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"gt\[1\] must have x1 < x2.*which is of zero size in float32"):
        boxes.check_boxes(thin, "gt")
    assert torch.equal(boxes.check_boxes(thin, "gt", zero_size=True), thin), "equality is allowed there"
    with pytest.raises(ValueError, match=r"gt\[0\] must be finite"):
        boxes.check_boxes(torch.tensor([[1e300, 0, 1.1e300, 1]], dtype=torch.float64), "gt")
    backwards = torch.tensor([[1e5 + 1e-3, 0, 1e5, 9]], dtype=torch.float64)
    with pytest.raises(ValueError, match="which is inverted"):
        boxes.check_boxes(backwards, "gt", zero_size=True)


def test_what_is_no_tensor_of_numbers_is_refused():
    with pytest.raises(ValueError, match="must be a tensor"):
        boxes.check_boxes([[0, 0, 1, 1]], "gt")
    with pytest.raises(ValueError, match="must hold numbers"):
        boxes.check_boxes(torch.ones(1, 4, dtype=torch.bool), "gt")


def test_a_point_is_a_box_only_where_that_is_said():
    point = torch.tensor([[3.0, 4, 3, 4]])
    assert torch.equal(boxes.check_boxes(point, "priors", zero_size=True), point)
    with pytest.raises(ValueError, match="of zero size"):
        boxes.check_boxes(point, "priors")
    with pytest.raises(ValueError, match="inverted"):
        boxes.check_boxes(torch.tensor([[3.0, 4, 2, 4]]), "priors", zero_size=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.float32, torch.float64])
def test_arithmetic_runs_in_float32_or_wider(dtype):
    box = torch.tensor([[0, 0, 300, 300]], dtype=dtype)
    assert boxes.area(box).item() == pytest.approx(90000)
    checked = boxes.check_boxes(box, "gt")
    assert checked.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_areas_of_degenerate_boxes_are_zero():
    assert boxes.area(torch.tensor([[5.0, 5, 2, 2], [1, 1, 1, 9], [5, 0, 2, 9]])).tolist() == [0, 0, 0]


def test_torchvisions_half_precision_area():
    box = torch.tensor([2.825, 1.8625, 3.9, 4.85], dtype=torch.float16)
    assert boxes.area(box).item() == pytest.approx(3.2170, abs=5e-3)


@given(
    centre=st.tuples(coordinates, coordinates),
    size=st.tuples(st.floats(1, 500), st.floats(1, 500)),
    anchor_size=st.tuples(st.floats(1, 500), st.floats(1, 500)),
)
def test_deltas_round_trip(centre, size, anchor_size):
    middle, half = torch.tensor(centre), torch.tensor(size) / 2
    box = torch.cat((middle - half, middle + half))
    anchor = torch.tensor([-anchor_size[0], -anchor_size[1], anchor_size[0], anchor_size[1]]) / 2
    for weights in ((1, 1, 1, 1), (10.0, 10.0, 5.0, 5.0)):
        back = boxes.decode_deltas(boxes.encode_deltas(box, anchor, weights), anchor, weights)
        assert torch.allclose(back, box, atol=2e-2)


def test_deltas_by_hand_and_against_torchvision():
    from torchvision.models.detection._utils import BoxCoder

    anchor, box = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 5, 25, 15]])
    code = boxes.encode_deltas(box, anchor)
    assert code[0].tolist() == pytest.approx([1.0, 0.0, math.log(2), math.log(0.5)])
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    assert torch.allclose(code, coder.encode_single(box, anchor))
    assert torch.allclose(boxes.decode_deltas(code, anchor), coder.decode_single(code, anchor), atol=1e-5)
    capped = boxes.decode_deltas(torch.tensor([[0.0, 0, 100, 0]]), anchor, max_log_size=math.log(8))
    assert (capped[0, 2] - capped[0, 0]).item() == pytest.approx(80)


def test_max_log_size_caps_what_is_above_it_in_both_directions():
    anchor = torch.tensor([0.0, 0, 10, 20])
    code = torch.tensor([[0.0, 0, 9, 9], [0, 0, math.log(3), -2], [0, 0, 9, math.log(3)]])
    width, height = boxes.sizes(boxes.decode_deltas(code, anchor, max_log_size=math.log(8)))
    assert width.tolist() == pytest.approx([80, 30, 80], rel=1e-5)
    assert height.tolist() == pytest.approx([160, 20 * math.exp(-2), 60], rel=1e-5)
    width, height = boxes.sizes(boxes.decode_deltas(code, anchor))
    assert width.tolist() == pytest.approx([10 * math.exp(9), 30, 10 * math.exp(9)], rel=1e-5)
    # The cap is on the logarithm itself, after the weights are taken out.
    weighted = boxes.decode_deltas(code * 5, anchor, (5.0, 5.0, 5.0, 5.0), max_log_size=math.log(8))
    assert boxes.sizes(weighted)[0].tolist() == pytest.approx([80, 30, 80], rel=1e-5)


@pytest.mark.parametrize("stated", ["XYWH", "CXCYWH"])
def test_boxes_that_state_another_format_are_no_xyxy(stated):
    """As xyxy [5, 6, 30, 40] would be another box, and a sound one."""
    row, size = torch.tensor([[5.0, 6, 30, 40]]), (64, 64)
    wrapped = tv_tensors.BoundingBoxes(row, format=stated, canvas_size=size)
    sound = tv_tensors.BoundingBoxes(row, format="XYXY", canvas_size=size)
    target = {"labels": torch.tensor([0])}
    images, anchors = [torch.rand(3, 64, 64)], Priors.anchors((64, 64), (8,), ((16,),))
    detected = target | {"boxes": row, "scores": torch.ones(1)}
    for look in (
        lambda given: boxes.check_boxes(given, "gt"),
        lambda given: ATSS()(anchors, target | {"boxes": given}),
        lambda given: retinanet(1).train()(images, [target | {"boxes": given}]),
        lambda given: evaluate([detected], [target | {"boxes": given}]),
    ):
        with pytest.raises(ValueError, match=rf"(boxes'\]|gt) must be xyxy, got BoundingBoxes that are {stated}"):
            look(wrapped)
        look(sound)
    assert type(boxes.check_boxes(sound, "gt")) is torch.Tensor


def test_distances_round_trip_and_centerness():
    points, box = torch.tensor([[10.0, 20.0]]), torch.tensor([[0.0, 0, 40, 40]])
    distances = boxes.encode_ltrb(box, points)
    assert distances[0].tolist() == [10, 20, 30, 20]
    assert torch.equal(boxes.decode_ltrb(distances, points), box)
    assert boxes.centerness(distances).item() == pytest.approx(0.57735, abs=1e-5)
    assert boxes.centerness(torch.ones(4)).item() == 1
