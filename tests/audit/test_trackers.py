"""What people ask in the trackers of detectors, rebuilt in small, and the number with which the audit answers."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.models import detection

from labelkit import detectors
from labelkit.assigners import FCOS, MaxIoU
from labelkit.audit import Anchors, Front, audit
from labelkit.audit.words import verdict

NO_RESCUE = MaxIoU(0.5, 0.4, allow_low_quality_matches=False)  # keras-retinanet's rule


def picture(boxes, size):
    wrapped = tv_tensors.BoundingBoxes(torch.as_tensor(boxes, dtype=torch.float32), format="XYXY", canvas_size=size)
    return {"boxes": wrapped}


def squares(sides, columns, step):
    """One a cell of a grid, so that nobody meets a neighbour."""
    return [
        [n % columns * step + 9, n // columns * step + 9, n % columns * step + 9 + s, n // columns * step + 9 + s]
        for n, s in enumerate(sides)
    ]


def retinanet(**options):
    return detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, **options)


def test_thirty_percent_are_red_at_2000_by_1300():
    """keras-retinanet 481: objects of 20 px are 12 px at the input, where the smallest anchor has 32."""
    target = picture(squares([20] * 3 + [80] * 7, 5, 260), (1300, 2000))
    found = audit([target], retinanet(), {"max_iou": NO_RESCUE})
    numbers = found.to_json()
    assert numbers["rules"]["max_iou"]["starved"] == 0.3 and numbers["rules"]["max_iou"]["starved_by_a_neighbour"] == 0
    assert {row["side"] < 13 for row in found.objects if row["positives max_iou"] == 0} == {True}
    starved = {row["change"]: row["starved"]["max_iou"] for row in numbers["what_if"]}
    assert starved["as it is"] == 0.3 and starved["input x 2"] == starved["input x 4"] == 0
    assert [starved[f"tiles of {side} px"] for side in (1000, 500)] == [0.3, 0]  # 16 px at the input, then 32 px
    assert verdict(numbers).startswith("Look first at the anchors")


def test_a_regression_loss_of_0_is_100_percent_without_a_positive():
    """keras-retinanet 555: the loss has no positive to divide by from the first step on."""
    numbers = audit(
        [picture(squares([8] * 20, 5, 60), (240, 320))], retinanet(min_size=240), {"rule": NO_RESCUE}
    ).to_json()
    assert numbers["rules"]["rule"]["starved"] == 1 and numbers["rules"]["rule"]["positives_per_object"] == 0
    assert numbers["anchors"]["reachable_50"] == 0


def test_an_rpn_loss_of_0_is_a_threshold_that_nothing_reaches():
    """MMDetection 3357: at 0.7 and 0.3, with a low-quality rule that asks for 0.3, small objects get nothing;
    torchvision's low-quality rule asks for no least overlap and gives everyone one."""
    model = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=240)
    rules = {"mmdet": MaxIoU(0.7, 0.3, min_fg=0.3), "torchvision": Front(model).own_rule()}
    numbers = audit([picture(squares([12] * 20, 5, 60), (240, 320))], model, rules, what_if=False).to_json()
    assert numbers["rules"]["mmdet"]["starved"] == 1 and numbers["rules"]["torchvision"]["starved"] == 0
    assert rules["torchvision"].fg_thresh == 0.7 and numbers["anchors"]["median_best_iou"] < 0.3


def test_a_thousand_objects_meet_the_ceiling_of_the_output():
    """detectron2 1481 and 1164, detecto 88: most are missing however long one trains."""
    numbers = audit(
        [picture(squares([10] * 1200, 40, 16), (512, 700))], detectors.retinanet(1), what_if=False
    ).to_json()
    assert numbers["output"]["detections_per_image"] == 300
    assert numbers["output"]["recall_ceiling"] == 0.25 and numbers["output"]["recall_ceiling_coco"] == pytest.approx(
        1 / 12, abs=1e-6
    )
    assert verdict(numbers).startswith("Look first at the output")


def test_labels_under_3_px():
    """yolov5 7118: 5,669 of 8,075 labels; here 57 of 81, by the shorter side at the input."""
    boxes = squares([2] * 57 + [11] * 24, 9, 30)
    found = audit([picture(boxes, (320, 320))], detectors.retinanet(1), what_if=False)
    shorter = (found.objects.boxes[:, 2:] - found.objects.boxes[:, :2]).amin(dim=1)
    assert int((shorter < 3).sum()) == 57 and found.to_json()["sizes"][0]["objects"] == 57
    assert found.to_json()["data"]["under_2_px"] == 0 and float(shorter.min()) >= 2


def test_objects_without_a_centre_inside_at_strides_8_16_32():
    """Ultralytics 4848, 7285, 19514: a rule of points has no candidate for an object between the cells."""
    random = torch.Generator().manual_seed(0)
    corner, side = 230 * torch.rand(300, 2, generator=random), 1 + 14 * torch.rand(300, 2, generator=random)
    target = picture(torch.cat((corner, corner + side), dim=1), (256, 256))
    front = Front(detectors.fcos(1), anchors=Anchors(strides=(8, 16, 32)))
    rule = FCOS(regress_ranges=((0.0, float("inf")),) * 3)
    objects = audit([target], front, {"points": rule}, what_if=False).objects
    nobody = ((objects.positives["points"] == 0) & (objects.taken_by["points"] < 0)).tolist()
    slow = []
    for x1, y1, x2, y2 in target["boxes"].tolist():
        centres = [
            (s * (i + 0.5), s * (j + 0.5)) for s in (8, 16, 32) for i in range(256 // s) for j in range(256 // s)
        ]
        slow.append(not any(x1 < x < x2 and y1 < y < y2 for x, y in centres))
    assert nobody == slow and 0.3 < sum(slow) / len(slow) < 0.7


def test_an_ap_small_of_minus_1_is_no_small_object():
    """MMDetection 3610, 3775: the metric has nothing to count; the table by size has no such line."""
    found = audit([picture(squares([40, 60, 50], 3, 70), (240, 320))], detectors.retinanet(1), what_if=False)
    assert [size["from"] for size in found.to_json()["sizes"]] == [32.0]
    assert int((found.objects.original_side < 32).sum()) == 0
