"""torchvision's detectors with any assigner: equal losses under its own rule, and what soft methods change."""

from functools import partial
from urllib.error import URLError

import pytest
import torch
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet, fcos_resnet50_fpn, retinanet_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from labelkit import assigners
from labelkit.assignment import IGNORED, NEGATIVE, Assignment
from labelkit.boxes import decode_deltas, decode_ltrb
from labelkit.detectors import (
    AssignedFCOS,
    AssignedRetinaNet,
    SmallPyramid,
    build,
    fcos,
    receptive_field_view,
    retinanet,
)
from labelkit.detectors.loss_rule import LossRule, hambox_weights
from labelkit.losses import focal_loss
from labelkit.receptive_field import receptive_fields, resnet_stages
from labelkit.similarity import nwd
from labelkit.training.recipe import Recipe
from tests.detectors.scenes import Fixed, batch, fixed, losses_and_gradients, torchvisions


@pytest.mark.parametrize("build_detector", [retinanet, fcos])
@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        ([(128, 128)] * 3, [12, 5, 1]),
        ([(96, 130), (150, 75), (64, 64)], [7, 0, 4]),  # different sizes, padded; one image without objects
        ([(72, 100)] * 2, [60, 60]),  # a crowd: conflicts and ties
        ([(64, 64)] * 2, [0, 0]),
    ],
)
def test_losses_and_gradients_equal_torchvisions(build_detector, sizes, counts, device):
    torch.manual_seed(1)
    detector = build_detector(3).to(device).train()
    images, targets = batch(sizes, counts, device=device)
    ours = losses_and_gradients(detector, images, targets)
    theirs = losses_and_gradients(torchvisions(detector), images, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    if not sum(counts):
        assert ours[0]["bbox_regression"] == 0 and ours[0]["classification"] > 0


@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "giou"])
def test_every_box_loss_and_several_anchors_a_cell_equal_torchvisions(kind):
    torch.manual_seed(2)
    generator = AnchorGenerator(((16, 20), (32, 40), (64, 80)), ((0.5, 1.0, 2.0),) * 3)
    model = RetinaNet(SmallPyramid(), 3, anchor_generator=generator, min_size=96).train()
    model.head.regression_head._loss_type = kind
    images, targets = batch([(90, 100), (120, 96)], [9, 3])
    theirs = losses_and_gradients(model, images, targets)
    ours = losses_and_gradients(AssignedRetinaNet.from_torchvision(model).train(), images, targets)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("build_torchvision", "wrap"),
    [(retinanet_resnet50_fpn, AssignedRetinaNet), (fcos_resnet50_fpn, AssignedFCOS)],
)
def test_resnet50_equals_torchvisions_where_strides_do_not_divide_the_image(build_torchvision, wrap):
    torch.manual_seed(3)
    model = build_torchvision(weights=None, weights_backbone=None, num_classes=3, min_size=96, max_size=200)
    images, targets = batch([(96, 150), (100, 96)], [8, 2])
    model.eval()  # the running statistics of batch norm must not move between the two passes
    model.training = model.transform.training = True
    theirs = model(images, targets)
    detector = wrap.from_torchvision(model)
    ours = detector(images, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert detector.last_assignment.positive.any()
    model.training = detector.training = False
    model.transform.training = False
    torch.testing.assert_close(detector(images), model(images))


EXAMPLES = {
    "max_iou": [assigners.MaxIoU(low_quality_ties="nearest"), assigners.MaxIoU(allow_low_quality_matches=False)],
    "fcos": [assigners.FCOS()],
    "hambox": [assigners.HAMBox(k=3, decoded_thresh=0.2)],
    "hungarian": [
        assigners.Hungarian(image_size=(64, 96)),
        assigners.Hungarian("softmax", (1, 0, 2), candidates="inside", repeat=3),
    ],
    "noisy_anchors": [assigners.NoisyAnchors(n=5), assigners.NoisyAnchors(n=5, variant="paper")],
    "paa": [assigners.PAA(), assigners.PAA(variant="mmdet")],
    "rka": [assigners.RKA(similarity=partial(nwd, constant=12.8))],
}


@pytest.mark.parametrize("build_detector", [retinanet, fcos])
@pytest.mark.parametrize("name", list(assigners.ASSIGNERS))
def test_every_registered_method_trains_in_both_detectors(build_detector, name):
    images, targets = batch([(64, 96)] * 2, [5, 0])
    for assigner in EXAMPLES.get(name) or [assigners.ASSIGNERS[name]()]:
        view = receptive_field_view(receptive_fields(SmallPyramid.layers)) if name == "rfla" else None
        detector = build_detector(3, assigner=assigner, assignment_priors=view).train()
        losses = detector(images, targets)
        sum(losses.values()).backward()
        assert all(value.isfinite() for value in losses.values())
        assert detector.last_assignment.gt.shape == (2, len(detector.anchor_generator.priors))
        assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)


@pytest.mark.parametrize("build_detector", [retinanet, fcos])
def test_soft_targets_weights_and_ignored_priors_reach_the_loss(build_detector):
    torch.manual_seed(4)
    images, targets = batch([(64, 64)], [2])
    num_priors = 16 * 16 + 8 * 8 + 4 * 4
    detector = build_detector(3, assigner=fixed(num_priors, loss_rule=LossRule(partial(focal_loss, alpha=0.5)))).train()
    captured = {}
    detector.head.register_forward_hook(lambda module, inputs, outputs: captured.update(outputs))
    losses = detector(images, targets)
    logits = captured["cls_logits"][0].detach().double()
    wanted = torch.zeros_like(logits)
    wanted[0, targets[0]["labels"][1]], wanted[1, targets[0]["labels"][0]] = 0.5, 1.0
    each = focal_loss(logits, wanted, alpha=0.5).sum(dim=1)
    each[0] *= 3
    each[2] = 0
    assert losses["classification"].item() == pytest.approx(each.sum().item() / 2, rel=1e-5)

    captured["cls_logits"].retain_grad()
    losses = detector(images, targets)
    captured["cls_logits"].retain_grad()
    losses["classification"].backward()
    gradient = captured["cls_logits"].grad[0]
    assert (gradient[2] == 0).all() and (gradient[3] != 0).all()


def test_a_recipe_can_leave_out_what_a_method_says_of_the_loss():
    for name in ("hambox", "noisy_anchors"):
        assert Recipe(assigner=name).build(3).loss_rule != LossRule()
        assert Recipe(assigner=name, plain_loss=True).build(3).loss_rule == LossRule()


@pytest.mark.parametrize("build_detector", [retinanet, fcos])
def test_weights_scale_the_box_loss_and_can_keep_its_sum(build_detector):
    torch.manual_seed(5)
    images, targets = batch([(64, 64)], [2])
    rule = fixed(16 * 16 + 8 * 8 + 4 * 4)

    def box_loss(gt, **options):
        rule_ = Fixed(gt, rule.score_target, rule.weight, [], **options)
        torch.manual_seed(6)
        return build_detector(3, assigner=rule_).train()(images, targets)["bbox_regression"].item()

    only_first, only_second = rule.gt.clone(), rule.gt.clone()
    only_first[0, 1] = only_second[0, 0] = NEGATIVE
    heavy, light = box_loss(only_first), box_loss(only_second)
    assert box_loss(rule.gt) == pytest.approx((heavy + light) / 2, rel=1e-5)
    assert box_loss(rule.gt, loss_rule=LossRule(keeps_scale=True)) == pytest.approx((heavy / 3 + light) / 2, rel=1e-5)


def test_noisy_anchors_official_form_has_its_papers_loss():
    assert LossRule.of(assigners.NoisyAnchors()).keeps_scale
    logits = torch.tensor([0.3])
    alpha = LossRule.of(assigners.NoisyAnchors()).class_loss(logits, torch.ones(1))
    torch.testing.assert_close(alpha, focal_loss(logits, torch.ones(1), alpha=0.5))
    assert LossRule.of(assigners.NoisyAnchors(variant="paper")) == LossRule() == LossRule.of(assigners.ATSS())


def test_hambox_divides_matched_and_compensated_priors_by_their_own_number():
    gt = torch.tensor([[0, 0, 0, 1, NEGATIVE, IGNORED], [NEGATIVE] * 6])
    weight = torch.tensor([[1, 1, 0.6, 0.8, 1, 1], [1.0] * 6])
    classes, boxes = hambox_weights(Assignment(gt, weight, weight, weight))
    # the detector divides the first image by its 4 positives: 2 matched, 2 compensated
    torch.testing.assert_close(boxes[0] / 4, torch.tensor([1, 1, 1, 1, 1, 1]) / 2)
    torch.testing.assert_close(classes[0] / 4, torch.tensor([1, 1, 0.6, 0.8, 1, 1]) / 2)
    torch.testing.assert_close(classes[1], torch.ones(6))
    weight[0, 3] = 1.0  # 3 matched, 1 compensated
    classes, _ = hambox_weights(Assignment(gt, weight, weight, weight))
    torch.testing.assert_close(classes[0] / 4, torch.tensor([1 / 3, 1 / 3, 0.6, 1 / 3, 1 / 3, 1 / 3]))


@pytest.mark.parametrize("build_detector", [retinanet, fcos])
def test_predictions_are_decoded_detached_and_float32_under_autocast(build_detector):
    images, targets = batch([(64, 64)], [2])
    rule = fixed(16 * 16 + 8 * 8 + 4 * 4)
    detector = build_detector(3, assigner=rule).train()
    captured = {}
    detector.head.register_forward_hook(lambda module, inputs, outputs: captured.update(outputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector(images, targets)
    sum(losses.values()).backward()
    priors, _, predictions = rule.seen[0]
    assert priors.boxes.dtype == predictions.boxes.dtype == predictions.scores.dtype == torch.float32
    assert not predictions.boxes.requires_grad and not predictions.scores.requires_grad
    assert predictions.boxes.shape == (1, len(priors), 4) and predictions.scores.shape == (1, len(priors), 3)
    assert predictions.scores.sub(0.01).abs().max() < 0.01  # the prior probability of an untrained head
    numbers = captured["bbox_regression"][0].float()
    if build_detector is retinanet:
        decoded = decode_deltas(numbers, priors.boxes)
    else:
        decoded = decode_ltrb(numbers * priors.strides[:, None], priors.centers)
    torch.testing.assert_close(predictions.boxes[0], decoded)


def test_a_static_method_costs_no_decoding():
    images, targets = batch([(64, 64)], [2])
    rule = fixed(16 * 16 + 8 * 8 + 4 * 4, needs_predictions=False)
    retinanet(3, assigner=rule).train()(images, targets)
    assert rule.seen[0][2] is None


@pytest.mark.parametrize("build_detector", [retinanet, fcos])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_trains_with_the_labels_of_float32(build_detector, dtype, device):
    if dtype == torch.float16 and device.type == "cpu":
        pytest.skip("half-precision convolutions are for the GPU")
    torch.manual_seed(7)
    detector = build_detector(3).to(device).train()
    images, targets = batch([(600, 320)], [30], device=device)
    exact = detector(images, targets)
    labels = detector.last_assignment.gt
    with torch.autocast(device.type, dtype=dtype):
        mixed = detector(images, targets)
    assert torch.equal(detector.last_assignment.gt, labels)
    sum(mixed.values()).backward()
    assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)
    for name, value in exact.items():
        assert mixed[name].item() == pytest.approx(value.item(), rel=0.05)


def test_evaluation_is_torchvisions():
    torch.manual_seed(8)
    detector = retinanet(3, score_thresh=0.0).eval()
    images, _ = batch([(64, 64), (80, 40)], [0, 0])
    model = torchvisions(detector)
    model.score_thresh, model.detections_per_img = 0.0, 300
    torch.testing.assert_close(detector(images), model(images))
    assert (detector(images)[1]["boxes"][:, 2] <= 40).all()


def test_a_positive_outside_its_box_is_as_far_from_central_as_can_be():
    images, targets = batch([(64, 64)], [2])
    targets[0]["boxes"] = torch.tensor([[40.0, 40.0, 60.0, 60.0], [44.0, 2.0, 50.0, 9.0]])
    detector = fcos(3, assigner=fixed(16 * 16 + 8 * 8 + 4 * 4)).train()  # priors 0 and 1 stand in the top left corner
    losses = detector(images, targets)
    sum(losses.values()).backward()
    # BCE of an untrained logit (about 0) with target 0 is ln 2; weights 3 and 1 over two positives
    assert losses["bbox_ctrness"].item() == pytest.approx(2 * 0.693, rel=0.05)
    assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)


def test_the_small_pyramids_fields_are_where_gradients_reach():
    torch.manual_seed(9)
    pyramid = SmallPyramid()
    image = torch.rand(1, 3, 192, 192, requires_grad=True)
    x = pyramid.stem[0](image)  # the stem's convolution without its norm, whose statistics see everything
    for level, stage in enumerate(pyramid.stages):
        x = stage.down[0](x)
        x = x + stage.refine[0](x)
        (gradient,) = torch.autograd.grad(x[0, 0, x.shape[2] // 2, x.shape[3] // 2], image, retain_graph=True)
        reached = gradient[0].abs().sum(0).gt(0).any(0).nonzero()
        assert int(reached.max() - reached.min()) + 1 == receptive_fields(SmallPyramid.layers)[level]


@pytest.mark.parametrize("weights", ["imagenet", "coco"])
def test_weights_that_cannot_be_downloaded_are_an_error_that_says_where_to_put_them(monkeypatch, weights):
    def offline(**options):
        raise URLError("no route")

    monkeypatch.setattr(build, "retinanet_resnet50_fpn", offline)
    with pytest.raises(ValueError, match=rf"weights='{weights}' could not be downloaded.*no route.*checkpoints"):
        retinanet(3, "resnet50_fpn", weights=weights)


@pytest.mark.parametrize("build_detector", [retinanet, fcos])
def test_a_new_number_of_classes_renews_only_the_class_layer(build_detector):
    detector = build_detector(91)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    build._set_num_classes(detector, 5)
    after = detector.state_dict()
    changed = [name for name in before if before[name].shape != after[name].shape]
    assert sorted(changed) == [f"head.classification_head.cls_logits.{kind}" for kind in ("bias", "weight")]
    assert all(torch.equal(before[name], after[name]) for name in before if name not in changed)
    assert after["head.classification_head.cls_logits.bias"].sigmoid().sub(0.01).abs().max() < 1e-6
    images, targets = batch([(64, 64)], [4], classes=5)
    assert detector.train()(images, targets)["classification"].isfinite()


def test_resnet_fields_come_from_its_layers():
    with torch.device("meta"):
        stages = resnet_stages(resnet50())
    assert receptive_fields(stages)[1:4] == (91, 267, 427)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet"}, "backbone must be one of small, resnet50_fpn, got 'resnet'"),
        ({"weights": "coco"}, "weights must be None for the small backbone"),
        ({"backbone": "resnet50_fpn", "weights": "best"}, "weights must be None, 'imagenet' or 'coco', got 'best'"),
        ({"num_classes": None}, "num_classes must be given"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"box_loss": "l2"}, "box_loss must be .* got 'l2'"),
        ({"backbone": "resnet50_fpn", "anchor_scale": 8}, "anchor_scale is for the small backbone.* got 8"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        retinanet(**{"num_classes": 1} | arguments)
