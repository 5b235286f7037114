"""MMDetection: its labels by a loop, its generators with their grid, its assigner's call.

The package is pretended, in the shapes that mmdet 3.3.0 documents; tests/peers/test_mmdetection.py has the real one.
"""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hypothesis import given, settings

from labelkit import IGNORED, Predictions, Priors
from labelkit.assigners import ATSS, FCOS, RFLA, MaxIoU, SimOTA, TaskAligned, TopK
from labelkit.detectors import receptive_field_view
from labelkit.interop import LabelkitAssigner, mmdet_priors, to_mmdet
from tests import strategies


class Anchors:
    """What `AnchorGenerator` has: strides (across, down), base anchors about the corner of a cell."""

    def __init__(self, strides=((8, 8), (16, 16)), sides=(24.0, 48.0), offset=0.0):
        self.strides = list(strides)
        shapes = torch.tensor([[1.0, 1.0], [0.7, 1.43], [1.6, 0.6]])
        self.base_anchors = [torch.cat((-shapes, shapes), dim=1) * side / 2 + offset for side in sides]

    def grid_priors(self, sizes, device="cpu"):
        found = []
        for (rows, columns), (across, down), base in zip(sizes, self.strides, self.base_anchors, strict=True):
            shift = [(c * across, r * down, c * across, r * down) for r in range(rows) for c in range(columns)]
            found.append((torch.tensor(shift, dtype=torch.float32)[:, None] + base).reshape(-1, 4).to(device))
        return found


class Points:
    """What `MlvlPointGenerator` has; with their strides behind, as RTMDet's and YOLOX's heads ask for them."""

    def __init__(self, strides=((8, 8), (16, 16)), offset=0.5, with_stride=True):
        self.strides, self.offset, self.with_stride = list(strides), offset, with_stride

    def grid_priors(self, sizes, device="cpu"):
        found = []
        for (rows, columns), (across, down) in zip(sizes, self.strides, strict=True):
            cells = [(c + self.offset, r + self.offset, 1, 1) for r in range(rows) for c in range(columns)]
            points = torch.tensor(cells) * torch.tensor([across, down, across, down])
            found.append((points if self.with_stride else points[:, :2]).to(device))
        return found


class AssignResult:
    def __init__(self, num_gts, gt_inds, max_overlaps, labels):
        self.num_gts, self.gt_inds, self.max_overlaps, self.labels = num_gts, gt_inds, max_overlaps, labels


@pytest.fixture
def mmdet(monkeypatch):
    """A registry and an AssignResult under mmdet's names."""
    registry = SimpleNamespace(
        known={}, build=lambda config: Anchors(**{k: v for k, v in config.items() if k != "type"})
    )
    registry.register_module = lambda module, force: registry.known.update({module.__name__: module})
    for name in ("mmdet", "mmdet.registry", "mmdet.models", "mmdet.models.task_modules"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["mmdet.registry"].TASK_UTILS = registry
    assigners = ModuleType("mmdet.models.task_modules.assigners")
    assigners.AssignResult = AssignResult
    monkeypatch.setitem(sys.modules, assigners.__name__, assigners)
    return registry


SIZES = ((7, 11), (4, 6))


def instances(**fields):
    return SimpleNamespace(**fields)


def objects(seed=0, count=8):
    pick = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(count, 2, generator=pick) * 50, 6 + 30 * torch.rand(count, 2, generator=pick)
    return instances(bboxes=torch.cat((corner, corner + size), dim=1), labels=torch.arange(count) % 3)


@settings(max_examples=12, deadline=None)
@given(strategies.batches("boxes"))
def test_the_labels_are_those_of_the_loop(batch):
    assignment = MaxIoU()(batch.priors, batch.targets)
    found = to_mmdet(assignment, [target["labels"] for target in batch.targets])
    assert found._fields == ("gt_inds", "max_overlaps", "labels")
    for image, target in enumerate(batch.targets):
        classes, similarity = target["labels"].tolist(), assignment.similarity[image].tolist()
        rows = zip(assignment.gt[image].tolist(), similarity, *(part[image].tolist() for part in found), strict=True)
        for owner, value, index, overlap, label in rows:
            assert index == (-1 if owner == IGNORED else owner + 1)
            assert label == (classes[owner] if owner >= 0 else -1)
            assert overlap == (value if owner >= 0 else 0)
        alone = to_mmdet(assignment[image], target["labels"])
        assert all(torch.equal(one, many[image]) for one, many in zip(alone, found, strict=True))


def test_weights_are_said_to_be_left_out(monkeypatch):
    monkeypatch.setattr("labelkit.once._said", set())
    priors = mmdet_priors(Anchors(), SIZES)
    target = {"boxes": objects().bboxes, "labels": objects().labels}
    assignment = TopK()(priors, target)
    object.__setattr__(assignment, "weight", assignment.weight / 2)
    with pytest.warns(UserWarning, match="mmdet's AssignResult has no place for weights of this assignment"):
        to_mmdet(assignment, target["labels"])


@pytest.mark.parametrize(
    "generator",
    [
        Anchors(),
        Anchors(strides=((8, 4), (16, 8)), offset=2.5),
        Anchors(strides=((6.4, 6.4), (12.8, 12.8)), sides=(25.6, 51.2)),
        Points(),
        Points(offset=0.0, with_stride=False),
        Points(strides=((8, 8), (16, 16), (32, 32))),
    ],
)
def test_the_priors_are_theirs_bit_for_bit_and_know_their_grid(generator):
    sizes = [*SIZES, (1, 1)][: len(generator.strides)]
    priors = mmdet_priors(generator, sizes)
    theirs = torch.cat(generator.grid_priors(sizes))
    wanted = theirs if isinstance(generator, Anchors) else theirs[:, :2].repeat(1, 2)
    assert torch.equal(priors.boxes, wanted) and priors.grid is not None
    assert priors.level_strides == tuple(max(map(float, pair)) for pair in generator.strides)
    each = 3 if isinstance(generator, Anchors) else 1
    assert priors.level_sizes == tuple(rows * columns * each for rows, columns in sizes)
    target = {"boxes": objects().bboxes, "labels": objects().labels}
    rule = ATSS(k=3) if each == 3 else FCOS()
    free = Priors.from_boxes(priors.boxes, priors.level_sizes, priors.level_strides)
    assert torch.equal(rule(priors, target).gt, rule(free, target).gt)


def test_rounded_boxes_that_are_off_the_grid_are_not_taken_for_it():
    generator = Anchors(strides=((8, 8),), sides=(24.0,))
    boxes = torch.cat(generator.grid_priors([(5, 5)]))
    boxes[40, 2] += 0.01
    generator.grid_priors = lambda *_, **__: [boxes]
    with pytest.raises(ValueError, match="generator must lay its priors on a grid, which a Anchors does not"):
        mmdet_priors(generator, [(5, 5)])


@pytest.mark.parametrize("rule", [{"name": "atss", "k": 3}, "max_iou", TopK(k=2)])
def test_a_head_gets_the_labels_of_the_rule(mmdet, rule):
    generator, gts = Anchors(), objects()
    priors = mmdet_priors(generator, SIZES)
    assigner = LabelkitAssigner(rule, generator)
    result = assigner.assign(instances(priors=priors.boxes), gts, None)
    want = to_mmdet(assigner.rule(priors, vars(gts) | {"boxes": gts.bboxes}), gts.labels)
    assert isinstance(result, AssignResult) and result.num_gts == 8 and assigner._latest.grid is not None
    assert all(torch.equal(getattr(result, name), getattr(want, name)) for name in want._fields)
    assert (result.gt_inds > 0).any() and torch.equal(result.assign_metrics > 0, result.gt_inds > 0)
    latest = assigner._latest
    # ATSS's head names its levels second; YOLOX's gives names; TOOD's adds alpha and beta.
    for call in (
        lambda: assigner.assign(instances(priors=priors.boxes), [231, 72], gts, None),
        lambda: assigner.assign(
            pred_instances=instances(priors=priors.boxes), gt_instances=gts, gt_instances_ignore=None
        ),
        lambda: assigner.assign(instances(priors=priors.boxes), gts, None, 1, 6),
    ):
        assert torch.equal(call().gt_inds, want.gt_inds) and assigner._latest is latest


def test_what_is_left_of_a_padded_picture_keeps_its_grid(mmdet):
    generator = Anchors()
    whole = generator.grid_priors(SIZES)
    left = [level.view(*size, 3, 4)[:5, :7].reshape(-1, 4) for level, size in zip(whole, SIZES, strict=True)]
    assigner = LabelkitAssigner("atss", generator)
    assigner.assign(instances(priors=torch.cat(left)), objects())
    assert assigner._latest.grid is not None and assigner._latest.level_sizes == (105, 72)


def test_without_a_grid_levels_must_be_known(mmdet):
    generator, gts = Anchors(), objects()
    boxes = torch.cat(generator.grid_priors(SIZES))
    inside = (boxes[:, :2] >= 0).all(dim=1)
    counts = [int(part.sum()) for part in inside.split([231, 72])]
    assigner = LabelkitAssigner(ATSS(k=3), generator)
    with pytest.raises(ValueError, match=r"the \d+ priors are not those of the anchor_generator.*allowed_border to -1"):
        assigner.assign(instances(priors=boxes[inside]), gts)
    result = assigner.assign(instances(priors=boxes[inside]), counts, gts)
    free = Priors.from_boxes(boxes[inside], counts, (8, 16))
    want = ATSS(k=3)(free, {"boxes": gts.bboxes, "labels": gts.labels})
    assert torch.equal(result.gt_inds, want.gt + 1) and assigner._latest.level_sizes == tuple(counts)
    proposals = LabelkitAssigner(MaxIoU(), None).assign(instances(priors=boxes[inside]), gts)
    assert len(proposals.gt_inds) == int(inside.sum())


def test_regions_to_ignore_and_box_types(mmdet):
    generator, gts = Anchors(), objects(count=2)
    priors = mmdet_priors(generator, SIZES)
    gts.bboxes = SimpleNamespace(tensor=gts.bboxes)
    region = instances(bboxes=torch.tensor([[0.0, 0, 60, 60]]))
    plain = LabelkitAssigner(TopK(k=1), generator).assign(instances(priors=priors.boxes), gts)
    result = LabelkitAssigner(TopK(k=1), generator).assign(instances(priors=priors.boxes), gts, region)
    assert (result.gt_inds == -1).any() and result.num_gts == 2 and result.gt_inds.max() <= 2
    assert torch.equal(result.gt_inds > 0, plain.gt_inds > 0)


@pytest.mark.parametrize(("rule", "logits"), [(SimOTA(), False), (TaskAligned(), True)])
def test_predictions_are_handed_over(mmdet, rule, logits):
    generator, gts = Points(), objects()
    pick = torch.Generator().manual_seed(1)
    given = torch.cat(generator.grid_priors(SIZES))
    priors = mmdet_priors(generator, SIZES)
    raw = torch.randn(len(given), 3, generator=pick)
    decoded = priors.boxes + torch.tensor([-9.0, -9, 9, 9]) + torch.randn(len(given), 4, generator=pick)
    asked = instances(priors=given, bboxes=decoded, scores=raw if logits else raw.sigmoid())
    result = LabelkitAssigner(rule, generator, logits=logits).assign(asked, gts)
    want = rule(priors, {"boxes": gts.bboxes, "labels": gts.labels}, Predictions(decoded, raw.sigmoid()))
    assert torch.equal(result.gt_inds, want.gt + 1) and torch.equal(result.assign_metrics, want.score_target)
    assert want.positive.any()


def test_rfla_asks_for_its_fields(mmdet):
    generator, gts = Anchors(), objects()
    generator.base_anchors = [base[:1] for base in generator.base_anchors]
    with pytest.raises(ValueError, match=r"RFLA assigns receptive fields.* give receptive_fields=\(\.\.\.\)"):
        LabelkitAssigner("rfla", generator)
    assigner = LabelkitAssigner("rfla", generator, receptive_fields=(35, 91))
    priors = mmdet_priors(generator, SIZES)
    want = RFLA()(receptive_field_view((35, 91))(priors), {"boxes": gts.bboxes, "labels": gts.labels})
    assert torch.equal(assigner.assign(instances(priors=priors.boxes), gts).gt_inds > 0, want.positive)


def test_it_is_registered_where_mmdet_is_and_a_configuration_builds_its_generator(mmdet):
    module = importlib.reload(sys.modules["labelkit.interop.mmdet_assigner"])
    assert mmdet.known == {"LabelkitAssigner": module.LabelkitAssigner}
    assigner = module.LabelkitAssigner({"name": "topk", "k": 1}, {"type": "AnchorGenerator", "sides": (16.0, 32.0)})
    assert assigner.rule == TopK(k=1) and float(assigner.generator.base_anchors[0][0, 2]) == 8


def test_an_unknown_rule_is_named(mmdet):
    with pytest.raises(ValueError, match="assigner must be one of max_iou.*got 'atts'; did you mean 'atss'"):
        LabelkitAssigner({"name": "atts"}, None)
    with pytest.raises(ValueError, match="assigner must be one of max_iou.*got 'None'"):
        LabelkitAssigner({"k": 3}, None)
