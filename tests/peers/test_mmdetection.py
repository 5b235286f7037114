"""Inside MMDetection's own heads and against its assigners, where mmdet is installed: last run with 3.3.0."""

import pytest
import torch

pytest.importorskip("mmdet.models", reason="mmdet is not installed", exc_type=ImportError)

from mmdet.models.dense_heads import ATSSHead, RetinaHead
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.prior_generators import (
    AnchorGenerator,
    MlvlPointGenerator,
    SSDAnchorGenerator,
    YOLOAnchorGenerator,
)
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData

from labelkit.interop import LabelkitAssigner, mmdet_priors

SIZES = [(20, 28), (10, 14), (5, 7)]
OCTAVES = {"octave_base_scale": 4, "scales_per_octave": 3}
SQUARE = {
    "type": "AnchorGenerator",
    "strides": [8, 16, 32],
    "ratios": [1.0],
    "octave_base_scale": 8,
    "scales_per_octave": 1,
}
NINE = {"type": "AnchorGenerator", "strides": [8, 16, 32], "ratios": [0.5, 1.0, 2.0], **OCTAVES}


def objects(seed: int, count: int = 12) -> InstanceData:
    pick = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(count, 2, generator=pick) * 110, 9 + 70 * torch.rand(count, 2, generator=pick)
    return InstanceData(bboxes=torch.cat((corner, corner + size), dim=1), labels=torch.arange(count) % 3)


@pytest.mark.parametrize(
    "generator",
    [
        AnchorGenerator(strides=[8, 16, 32], ratios=[0.5, 1.0, 2.0], **OCTAVES),
        AnchorGenerator(strides=[(8, 4), (16, 8), (32, 16)], ratios=[1.0], scales=[8], center_offset=0.5),
        SSDAnchorGenerator(
            strides=[8, 16, 32], ratios=[[2], [2, 3], [2]], min_sizes=[20, 50, 90], max_sizes=[50, 90, 140]
        ),
        YOLOAnchorGenerator(
            strides=[8, 16, 32], base_sizes=[[(10, 13), (16, 30)], [(30, 61), (62, 45)], [(116, 90), (156, 198)]]
        ),
        MlvlPointGenerator([8, 16, 32]),
        MlvlPointGenerator([8, 16, 32], offset=0),
    ],
)
def test_every_generator_is_recognised_bit_for_bit(generator):
    priors = mmdet_priors(generator, SIZES)
    theirs = torch.cat(generator.grid_priors(SIZES, device="cpu"))
    assert (
        torch.equal(priors.boxes, theirs if theirs.shape[1] == 4 else theirs.repeat(1, 2)) and priors.grid is not None
    )


@pytest.mark.parametrize(
    ("rule", "theirs", "generator"),
    [
        ({"name": "atss", "k": 9}, {"type": "ATSSAssigner", "topk": 9}, SQUARE),
        (
            {"name": "max_iou", "allow_low_quality_matches": False},
            {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "match_low_quality": False},
            NINE,
        ),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_the_same_labels_as_their_assigner(rule, theirs, generator, seed):
    ours = TASK_UTILS.build({"type": "LabelkitAssigner", "rule": rule, "anchor_generator": generator})
    levels = TASK_UTILS.build(generator).grid_priors(SIZES, device="cpu")
    given, gts = InstanceData(priors=torch.cat(levels)), objects(seed)
    counts = [[len(level) for level in levels]] if theirs["type"] == "ATSSAssigner" else []
    found, want = ours.assign(given, *counts, gts), TASK_UTILS.build(theirs).assign(given, *counts, gts)
    assert isinstance(found, AssignResult) and found.num_gts == want.num_gts
    assert torch.equal(found.gt_inds, want.gt_inds) and torch.equal(found.labels, want.labels)
    positive = found.gt_inds > 0
    torch.testing.assert_close(found.max_overlaps[positive], want.max_overlaps[positive])
    assert positive.sum() >= 10


@pytest.mark.parametrize(("head", "generator", "each"), [(RetinaHead, NINE, 9), (ATSSHead, SQUARE, 1)])
def test_a_head_trains_with_it(head, generator, each):
    assigner = {"type": "LabelkitAssigner", "rule": {"name": "atss"}, "anchor_generator": generator}
    train = {"assigner": assigner, "allowed_border": -1, "pos_weight": -1, "debug": False}
    model = head(
        3, 8, stacked_convs=1, feat_channels=8, anchor_generator=generator, train_cfg=_Config(train), **_of(head)
    )
    features = [torch.randn(2, 8, *size) for size in SIZES]
    metas = [{"img_shape": (160, 224), "pad_shape": (160, 224), "batch_input_shape": (160, 224)}] * 2
    metas[1] = {**metas[0], "img_shape": (130, 170), "pad_shape": (144, 192)}  # a smaller picture, padded
    losses = model.loss_by_feat(*model(features), [objects(0), objects(1)], metas)
    total = sum(part for parts in losses.values() for part in parts)
    total.backward()
    assert torch.isfinite(total) and total > 0
    assert isinstance(model.assigner, LabelkitAssigner) and model.assigner._latest.grid is not None
    assert len(model.assigner._latest) == each * (18 * 24 + 9 * 12 + 5 * 6)  # of the smaller picture, the last one


def _of(head: type) -> dict:
    """ATSS's own loss, and groups that fit so few channels."""
    if head is RetinaHead:
        return {}
    giou = {"loss_bbox": {"type": "GIoULoss"}, "reg_decoded_bbox": True}
    return {"norm_cfg": {"type": "GN", "num_groups": 2}, **giou}


class _Config(dict):
    def __getattr__(self, name):
        return self[name]
