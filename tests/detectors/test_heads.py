"""Heads beyond torchvision's, and the losses that methods want of them: against slow loops, and by training."""

import copy
import io
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead

from labelkit import assigners
from labelkit.assignment import IGNORED, Assignment
from labelkit.boxes import centers, decode_ltrb
from labelkit.detectors import LOSSES, AssignedFCOS, LossRule, fcos, retinanet
from labelkit.detectors.heads import PointHead, shaped
from labelkit.detectors.loss_rule import METHODS
from labelkit.detectors.matched import Matched
from labelkit.losses import expected_distance
from labelkit.similarity import iou
from tests import slow_losses
from tests.detectors.scenes import Fixed, batch, losses_and_gradients
from tests.squares import squares

NONE = LossRule(quality=None)
CASES = {
    "paa": ("focal", METHODS["paa", None]),
    "ota": ("focal", METHODS["ota", None]),
    "simota": ("bce", METHODS["simota", None]),
    "tal": ("qfl", METHODS["tal", None]),
    "dsl": ("qfl", METHODS["dsl", None]),
    "poto": ("focal", METHODS["poto", None]),
    "hungarian": ("focal", METHODS["hungarian", None]),
    **{name: (name, rule) for name, rule in LOSSES.items()},
}


METHOD = {
    "paa": assigners.PAA(),
    "ota": assigners.OTA(),
    "simota": assigners.SimOTA(),
    "tal": assigners.TaskAligned(),
    "dsl": assigners.DynamicSoftLabel(),
    "poto": assigners.POTO(),
    "hungarian": assigners.Hungarian(image_size=(64, 64)),
}


def soft(images=2, size=(64, 64)):
    """An assigner that always answers with the same soft labels: FCOS's, with targets, weights and ignored priors."""
    pictures, targets = batch([size] * images, [4, 2][:images], seed=3)
    detector = fcos(3).train()
    detector(pictures, targets)
    answer = detector.last_assignment
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(2, *answer.gt.shape, generator=generator)
    gt = torch.where((answer.gt < 0) & (draw[0] < 0.1), IGNORED, answer.gt)
    positive = gt >= 0
    target, weight = torch.where(positive, draw[0], 0), torch.where(positive, 0.5 + draw[1], 1)
    assert positive.sum() > 8 and (gt == IGNORED).any() and positive.any(dim=1).all()
    return pictures, targets, Fixed(gt, target, weight, [])


def drawn(detector, seed=5):
    """Heads that have left their first weights, so that boxes have a size and scores differ."""
    generator = torch.Generator().manual_seed(seed)
    points = isinstance(detector, AssignedFCOS)
    with torch.no_grad():
        for name, parameter in detector.head.named_parameters():
            size = 0.5 if "bias" in name else 0.1
            parameter += torch.randn(parameter.shape, generator=generator) * (size if points else size / 5)
            if "bbox_reg.bias" in name and parameter.numel() == 4 and points:
                parameter += 1.5
            if "cls_logits.bias" in name:
                parameter += 3
    return detector


def with_outputs(detector, images, targets):
    captured = {}
    handle = detector.head.register_forward_hook(lambda module, inputs, outputs: captured.update(outputs))
    losses = detector(images, targets)
    handle.remove()
    if not getattr(detector.head, "scored", True):
        del captured["bbox_ctrness"]
    return losses, captured


@pytest.mark.parametrize("bins", [None, 6])
@pytest.mark.parametrize("case", CASES)
def test_fcos_losses_of_every_method_are_those_of_a_slow_loop(case, bins):
    name, rule = CASES[case]
    images, targets, assigner = soft()
    torch.manual_seed(4)
    detector = drawn(fcos(3, assigner=assigner, loss_rule=rule, bins=bins).train())
    losses, outputs = with_outputs(detector, images, targets)
    answer, anchors = detector.last_assignment, detector.anchor_generator.priors.boxes
    expected = slow_losses.of_detector(name, rule, outputs, answer, targets, anchors, points=True)
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(expected, rel=2e-4)
    assert len({round(value, 6) for value in expected.values()}) == len(expected) and min(expected.values()) > 0
    wanted = {"classification", "bbox_regression"} | ({"bbox_ctrness"} if rule.quality else set())
    assert losses.keys() == wanted | ({"bbox_distribution"} if bins else set())


@pytest.mark.parametrize("case", CASES)
def test_retinanet_losses_of_every_method_are_those_of_a_slow_loop(case):
    name, rule = CASES[case]
    images, targets, assigner = soft()
    torch.manual_seed(4)
    detector = drawn(retinanet(3, assigner=assigner, loss_rule=rule, box_loss="giou").train())
    losses, outputs = with_outputs(detector, images, targets)
    answer, anchors = detector.last_assignment, detector.anchor_generator.priors.boxes
    expected = slow_losses.of_detector(name, rule, outputs, answer, targets, anchors, points=False)
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("build", [retinanet, fcos])
@pytest.mark.parametrize("case", CASES)
def test_no_target_no_positive_and_no_class_gradient_to_boxes(build, case):
    """An empty batch has losses and gradients everywhere; targets and weights that are made of boxes move none."""
    images, targets, assigner = soft()
    nothing = [target | {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for target in targets]
    detector = drawn(build(3, assigner=assigners.ATSS(), loss_rule=CASES[case][1]).train())
    losses, gradients = losses_and_gradients(detector, images, nothing)
    assert losses["bbox_regression"] == 0 and all(loss.isfinite() for loss in losses.values())
    assert gradients.keys() == dict(detector.named_parameters()).keys()  # what DDP asks for
    detector.assigner = assigner
    detector.zero_grad()
    detector(images, targets)["classification"].backward()
    assert all(p.grad is None for p in detector.head.regression_head.parameters())
    assert all(p.grad.isfinite().all() for p in detector.head.classification_head.parameters())


@pytest.mark.parametrize(("quality", "bins"), [("iou", 9), (None, 9), (None, None), ("centerness", 2)])
def test_a_side_is_the_expectation_of_its_bins_and_boxes_decode_from_it(quality, bins):
    torch.manual_seed(1)
    rule = LossRule(quality=quality)
    detector = drawn(fcos(3, loss_rule=rule, bins=bins, score_thresh=0.0, nms_thresh=1.0, detections_per_img=5000))
    detector.topk_candidates = 5000
    images, targets = batch([(64, 96)], [3])
    _, outputs = with_outputs(detector.train(), images, targets)
    numbers, scores = outputs["bbox_regression"][0], outputs["cls_logits"][0].sigmoid()
    if bins:
        assert outputs["bbox_distribution"].shape == (1, len(detector.anchor_generator.priors), 4, bins)
        torch.testing.assert_close(numbers, expected_distance(outputs["bbox_distribution"][0]))
        assert numbers.max() <= bins - 1
    assert numbers.min() >= 0 and numbers.std() > 0.1
    if quality is None:
        assert not [name for name in detector.state_dict() if "ctrness" in name]
        scores = scores.sqrt()  # the score torchvision gives where the third branch is certain
    else:
        scores = (scores * outputs["bbox_ctrness"][0].sigmoid()).sqrt()
    found = detector.eval()(images)[0]
    priors = detector.anchor_generator.priors
    boxes = decode_ltrb(numbers * (priors.boxes[:, 2] - priors.boxes[:, 0])[:, None], centers(priors.boxes))
    limits = torch.tensor([96.0, 64.0, 96.0, 64.0])
    expected = boxes.clamp(min=torch.zeros(4), max=limits)[:, None].expand(-1, 3, 4).reshape(-1, 4)
    order = scores.flatten().argsort(descending=True)
    assert len(found["scores"]) == 3 * len(priors)  # nothing suppressed
    torch.testing.assert_close(found["scores"], scores.flatten()[order])
    best = slice(0, 50)
    torch.testing.assert_close(found["boxes"][best], expected[order][best])
    assert torch.equal(found["labels"][best], (order % 3)[best])


def test_identical_boxes_all_stay_without_suppression():
    detector = fcos(1, loss_rule=NONE, nms_thresh=1.0, score_thresh=0.0, detections_per_img=5000).eval()
    with torch.no_grad():
        detector.head.regression_head.bbox_reg.bias.fill_(500)  # every box is the whole image after clipping
    images, _ = batch([(64, 64)], [0])
    found = detector(images)[0]
    assert len(found["boxes"]) == 16 * 16 + 8 * 8 + 4 * 4 and len(found["boxes"].unique(dim=0)) == 1
    detector.nms_thresh = 0.99
    assert len(detector(images)[0]["boxes"]) == 1


def test_torchvisions_head_stays_where_it_does_what_is_asked():
    head = fcos(3).head
    assert type(head) is FCOSHead and shaped(head, "iou", None) is head
    assert type(fcos(3, assigner=assigners.ATSS(), loss_rule=METHODS["paa", None]).head) is FCOSHead
    objectness = shaped(head, "objectness", None).regression_head.bbox_ctrness.bias
    assert objectness.sigmoid().item() == pytest.approx(0.01)
    before = fcos(3)
    trunk, branch = before.head.regression_head.conv, before.head.regression_head.bbox_ctrness
    after = shaped(before.head, "centerness", 5)
    assert after.regression_head.conv is trunk and after.regression_head.bbox_ctrness is branch
    assert after.classification_head is before.head.classification_head
    with pytest.raises(ValueError, match="bins must be at least 2, got 1"):
        fcos(3, bins=1)


def test_objectness_is_in_the_scores_that_an_assigner_sees():
    images, targets, assigner = soft()
    for rule, with_objectness in ((METHODS["simota", None], True), (METHODS["ota", None], False)):
        detector = drawn(fcos(3, assigner=replace(assigner, seen=[]), loss_rule=rule).train())
        _, outputs = with_outputs(detector, images, targets)
        scores = outputs["cls_logits"].sigmoid()
        if with_objectness:
            scores = (scores * outputs["bbox_ctrness"].sigmoid()).sqrt()
        torch.testing.assert_close(detector.assigner.seen[0][2].scores, scores)


def test_a_head_without_the_branch_learns_the_class_everywhere():
    """SimOTA on a head made for another method: the class score has to tell background by itself."""
    images, targets, assigner = soft()
    detector = fcos(3, assigner=assigner, loss_rule=NONE).train()
    detector.loss_rule = METHODS["simota", None]
    _, outputs = with_outputs(detector, images, targets)
    outputs["cls_logits"].retain_grad()
    detector.compute_loss(
        targets,
        outputs | {"bbox_ctrness": outputs["cls_logits"][..., :1] * 0},
        [detector.anchor_generator.priors.boxes],
    )["classification"].backward()
    assert (outputs["cls_logits"].grad[assigner.gt == -1] > 0).all()


HEADS = {
    "no third branch": {"loss_rule": NONE},
    "bins": {"bins": 17},
    "bins alone": {"loss_rule": LOSSES["qfl"], "bins": 8},
    "objectness": {"loss_rule": METHODS["simota", None]},
}


@pytest.mark.parametrize("kind", HEADS)
def test_copies_pickles_and_the_plain_model_have_the_head(kind):
    torch.manual_seed(2)
    detector = fcos(3, assigner=assigners.ATSS(), score_thresh=0.0, **HEADS[kind]).eval()
    images, _ = batch([(64, 64), (80, 48)], [0, 0])
    expected = detector(images)
    whole = io.BytesIO()
    torch.save(detector, whole)
    whole.seek(0)
    others = [copy.deepcopy(detector), pickle.loads(pickle.dumps(detector)), torch.load(whole, weights_only=False)]
    model = detector.to_torchvision()
    assert type(model) is FCOS and list(model.state_dict()) == list(detector.state_dict())
    again = fcos(3, assigner=assigners.ATSS(), score_thresh=0.0, **HEADS[kind]).eval()
    again.load_state_dict(detector.state_dict())
    for other in [*others, model, again, AssignedFCOS.from_torchvision(model, assigners.ATSS())]:
        torch.testing.assert_close(other(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", HEADS)
def test_mixed_precision_has_the_labels_and_about_the_losses_of_float32(kind):
    torch.manual_seed(3)
    detector = fcos(3, assigner=assigners.ATSS(), **HEADS[kind]).train()
    images, targets = batch([(96, 96)], [6])
    exact = detector(images, targets)
    labels = detector.last_assignment.gt
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = detector(images, targets)
    assert torch.equal(detector.last_assignment.gt, labels)
    assert {key: value.item() for key, value in mixed.items()} == pytest.approx(
        {key: value.item() for key, value in exact.items()}, rel=0.05
    )
    sum(mixed.values()).backward()
    assert all(p.grad.isfinite().all() for p in detector.parameters())


SCRIPTING = """
import torch
from labelkit.detectors import LOSSES, LossRule, fcos, retinanet
from labelkit.assigners import ATSS, TopK
torch.manual_seed(2)
images = [torch.rand(3, 64, 64), torch.rand(3, 80, 48)]
none = LossRule(quality=None)
detectors = [fcos(3, assigner=ATSS(), score_thresh=0.0, **o) for o in (dict(loss_rule=none), dict(bins=17),
    dict(loss_rule=none, bins=5))]
for build in (fcos, retinanet):
    detectors.append(build(3, assigner=ATSS(), score_thresh=0.0))
    detectors[-1].use_second_head(TopK(k=1))
for detector in detectors:
    expected = detector.eval()(images)
    for model in (detector.to_torchvision(), detector):
        _, found = torch.jit.script(model)(images)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
print("scripted")
"""


def test_all_heads_can_be_scripted():
    """In a process of its own: TorchScript reads no function that a type checker wrapped."""
    run = subprocess.run([sys.executable, "-c", SCRIPTING], capture_output=True, text=True)
    assert run.stdout == "scripted\n", run.stderr


def overfit(detector, steps=30):
    """Train on four pictures: the positives' mean IoU before and after, and how much more they score than others."""
    pictures = squares(4)
    images, targets = zip(*(pictures[index] for index in range(4)), strict=True)
    images = [image.float() / 255 for image in images]
    targets = [{key: target[key] for key in ("boxes", "labels")} for target in targets]
    optimizer = torch.optim.AdamW(detector.train().parameters(), lr=3e-3)
    overlaps, last = [], {}
    detector.head.register_forward_hook(lambda module, inputs, outputs: last.update(outputs))
    for _ in range(steps):
        losses = detector(images, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimizer.step()
        assert all(loss.isfinite() for loss in losses.values())
        matched = Matched(detector.last_assignment, targets)
        anchors = detector.anchor_generator.priors.boxes[matched.prior]
        boxes = detector.decode(matched.of(last["bbox_regression"].detach()), anchors)
        overlaps.append(iou(boxes, matched.boxes).mean().item())
    positive, scores = detector.last_assignment.positive, last["cls_logits"][..., 0].sigmoid()
    if "bbox_ctrness" in last:
        scores = scores * last["bbox_ctrness"][..., 0].sigmoid()
    return overlaps[0], overlaps[-1], (scores[positive].mean() / scores[~positive].mean()).item()


# A loss whose target or weight is the box's own IoU may rise while all gets better; these two rise whenever it does.
@pytest.mark.parametrize(
    ("build", "loss"), [*((fcos, name) for name in ("qfl", "vfl", "mal", "ia_bce")), (retinanet, "qfl")]
)
def test_every_loss_can_be_learnt_with_atss_labels(build, loss):
    torch.manual_seed(0)
    options = {"bins": 12} if build is fcos and loss == "qfl" else {"box_loss": "giou"} if build is retinanet else {}
    before, after, contrast = overfit(build(1, assigner=assigners.ATSS(), loss_rule=LOSSES[loss], **options))
    assert after > before + (0.15 if build is fcos else 0.015) and contrast > 1.4


@pytest.mark.parametrize("name", METHOD)
def test_every_method_learns_four_pictures_with_its_head_and_loss(name):
    torch.manual_seed(0)
    before, after, contrast = overfit(fcos(1, assigner=METHOD[name]))
    assert after > before + 0.1 and contrast > 1.4


@pytest.mark.parametrize("build", [retinanet, fcos])
@pytest.mark.parametrize("name", METHOD)
def test_the_losses_of_every_method_on_its_own_labels_are_those_of_a_slow_loop(build, name):
    images, targets = batch([(64, 64)] * 2, [4, 2], seed=3)
    torch.manual_seed(4)
    options = {"box_loss": "giou"} if build is retinanet else {}
    detector = drawn(build(3, assigner=METHOD[name], **options).train())
    assert detector.loss_rule == METHODS[name, None]
    losses, outputs = with_outputs(detector, images, targets)
    answer, anchors = detector.last_assignment, detector.anchor_generator.priors.boxes
    assert answer.positive.sum() > 2
    expected = slow_losses.of_detector(
        CASES[name][0], METHODS[name, None], outputs, answer, targets, anchors, points=build is fcos
    )
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(expected, rel=2e-4)


def test_rules_are_looked_up_by_name_and_variant():
    assert LossRule.of(assigners.NoisyAnchors()) == METHODS["noisy_anchors", "official"]
    assert LossRule.of(assigners.NoisyAnchors(variant="paper")) == LossRule()
    for name, assigner in METHOD.items():
        assert LossRule.of(assigner) is METHODS[name, None]

    class Own(assigners.PAA):
        pass

    assert LossRule.of(Own()) is METHODS["paa", None] and {name for name, _ in METHODS} <= {*assigners.ASSIGNERS}
    foreign = Fixed(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1), torch.ones(1, 1), [], loss_rule=NONE)
    assert LossRule.of(foreign) is NONE and type(fcos(3, assigner=foreign).head) is PointHead
    assert LossRule.of(lambda *_: None) == LossRule()


@pytest.mark.parametrize(
    ("field", "value", "known"),
    [
        ("target", "soft", "assigned, iou"),
        ("class_divisor", "priors", "positives, targets"),
        ("box_weight", "weight", "None, target, iou, score"),
        ("quality", "none", "centerness, iou, objectness, None"),
    ],
)
def test_a_wrong_field_of_a_rule_is_named(field, value, known):
    with pytest.raises(ValueError, match=f"{field} must be one of {known}, got '{value}'"):
        LossRule(**{field: value})


def test_an_unused_assignment_field_is_not_read():
    """`Assignment` is what assigners answer with: the rules read gt, score_target and weight, and nothing else."""
    images, targets, assigner = soft()
    detector = fcos(3, assigner=assigner, loss_rule=LOSSES["vfl"]).train()
    expected = detector(images, targets)

    class Other(Fixed):
        def __call__(self, priors, targets, predictions=None):
            nan = torch.full_like(self.weight, torch.nan)
            return Assignment(self.gt, nan, torch.where(self.gt >= 0, torch.nan, 0.0), self.weight)

    detector.assigner = Other(assigner.gt, assigner.score_target, assigner.weight, [])
    torch.testing.assert_close(detector(images, targets), expected, rtol=0, atol=0)
