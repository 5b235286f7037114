"""Against torchvision's own matching on tie-free input: the same labels, with a grid and without one."""

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from labelkit import Priors
from labelkit.assigners import FCOS, MaxIoU

STRIDES = (8, 16, 32, 64, 128)
ANCHORS = Priors.anchors((416, 640), STRIDES, [[4 * s, 5 * s, 6.3 * s] for s in STRIDES], (0.5, 1.0, 2.0))
POINTS = Priors.points((416, 640), STRIDES)


def random_boxes(count: int, device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    size = 6 * (70 ** torch.rand(count, 2, generator=generator))
    center = torch.rand(count, 2, generator=generator) * torch.tensor([640.0, 416.0])
    return torch.cat((center - size / 2, center + size / 2), dim=1).to(device)


def without_grid(priors: Priors) -> Priors:
    return Priors.from_boxes(priors.boxes, priors.level_sizes, priors.level_strides)


def shuffled(priors: Priors) -> tuple[Priors, torch.Tensor]:
    order = torch.randperm(len(priors), generator=torch.Generator().manual_seed(0)).to(priors.device)
    return Priors.from_boxes(priors.boxes[order]), order


def wanted_by_matcher(boxes: torch.Tensor, priors: torch.Tensor, fg: float, bg: float, low: bool) -> torch.Tensor:
    if len(boxes) == 0:
        return torch.full((len(priors),), -1, device=priors.device)
    return Matcher(fg, bg, allow_low_quality_matches=low)(box_iou(boxes, priors))


@pytest.mark.parametrize("count", [0, 1, 10, 300])
@pytest.mark.parametrize(("fg", "bg", "low"), [(0.5, 0.4, True), (0.7, 0.3, True), (0.5, 0.5, False)])
def test_max_iou_equals_the_matcher(count, fg, bg, low, device):
    priors, boxes = ANCHORS.to(device), random_boxes(count, device)
    target = {"boxes": boxes, "labels": torch.zeros(count, dtype=torch.int64, device=device)}
    assigner = MaxIoU(fg, bg, allow_low_quality_matches=low)
    wanted = wanted_by_matcher(boxes, priors.boxes, fg, bg, low)
    assert torch.equal(assigner(priors, target).gt, wanted)
    assert torch.equal(assigner(without_grid(priors), target).gt, wanted)
    mixed, order = shuffled(priors)
    assert torch.equal(assigner(mixed, target).gt, wanted_by_matcher(boxes, mixed.boxes, fg, bg, low))


def wanted_by_fcos(boxes: torch.Tensor, priors: Priors) -> torch.Tensor:
    """The matching inside torchvision's FCOS.compute_loss, as its source states it, on our points."""
    if len(boxes) == 0:
        return torch.full((len(priors),), -1, device=boxes.device)
    x, y = priors.centers.unbind(1)
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    sides = torch.stack((x - x0, y - y0, x1 - x, y1 - y), dim=-1)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    offset = (priors.centers[None] - center[:, None]).abs().amax(dim=-1)
    low = torch.where(priors.levels == 0, 0, 4 * priors.strides)
    high = torch.where(priors.levels == len(STRIDES) - 1, torch.inf, 8 * priors.strides)
    match = (offset < 1.5 * priors.strides) & (sides.amin(dim=-1) > 0)
    match &= (sides.amax(dim=-1) > low) & (sides.amax(dim=-1) < high)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    value, owner = torch.where(match, 1e8 - areas[:, None], 0).max(dim=0)
    return torch.where(value > 1e-5, owner, -1)


@pytest.mark.parametrize("count", [0, 1, 10, 300])
def test_fcos_equals_torchvisions_matching(count, device):
    priors, boxes = POINTS.to(device), random_boxes(count, device)
    target = {"boxes": boxes, "labels": torch.zeros(count, dtype=torch.int64, device=device)}
    assigner = FCOS(center_radius=1.5, closed_ranges=False)
    wanted = wanted_by_fcos(boxes, priors)
    assert torch.equal(assigner(priors, target).gt, wanted)
    assert torch.equal(assigner(without_grid(priors), target).gt, wanted)
