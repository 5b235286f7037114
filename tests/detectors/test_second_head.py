"""A second head on detached features: the first and the backbone train as if it were not there, and it answers."""

import copy
import io
import pickle

import pytest
import torch
from torch.nn import Module
from torchvision.models.detection import FCOS, RetinaNet

from labelkit import assigners
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet, LossRule, fcos, progressive_weights, retinanet
from labelkit.detectors.second_head import TwoHeads
from labelkit.similarity import ciou
from tests.detectors.scenes import Recorder, batch, fixed, losses_and_gradients

BUILD = [retinanet, fcos]
PRIORS = 16 * 16 + 8 * 8 + 4 * 4


def two(build, seed=1, **options):
    torch.manual_seed(seed)
    return build(3, **{"assigner": assigners.TopK(k=3), "score_thresh": 0.0} | options)


def moved(head: Module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.05


@pytest.mark.parametrize("build", BUILD)
def test_backbone_and_first_head_have_the_gradients_of_the_first_head_alone(build):
    images, targets = batch([(64, 64)] * 2, [5, 3])
    alone = two(build).train()
    both = two(build).train()
    both.use_second_head(assigners.TopK(k=1))
    moved(both.head.second)
    losses, gradients = losses_and_gradients(alone, images, targets)
    all_losses, all_gradients = losses_and_gradients(both, images, targets)
    assert set(all_losses) == set(losses) | {f"second_{name}" for name in losses}
    for name, loss in losses.items():
        assert torch.equal(all_losses[name], loss) and all_losses[f"second_{name}"] != loss
    for name, gradient in gradients.items():
        assert torch.equal(all_gradients[name.replace("head.", "head.first.", 1)], gradient), name
    of_second = [name for name in all_gradients if name.startswith("head.second.")]
    assert len(of_second) == sum(name.startswith("head.") for name in gradients)
    assert all(all_gradients[name].abs().sum() > 0 for name in of_second)
    assert gradients.keys() == dict(alone.named_parameters()).keys()


@pytest.mark.parametrize("build", BUILD)
def test_the_second_heads_losses_are_those_of_a_detector_that_has_it_alone(build):
    images, targets = batch([(64, 64)] * 2, [5, 0])
    both = two(build).train()
    rule = assigners.TopK(k=1)
    both.use_second_head(rule)
    moved(both.head.second)
    losses = both(images, targets)
    single = build(3, assigner=rule).train()
    single.backbone, single.head = both.backbone, both.head.second
    for name, loss in single(images, targets).items():
        torch.testing.assert_close(losses[f"second_{name}"], loss, rtol=0, atol=0)
    assert torch.equal(both.last_second_assignment.gt, single.last_assignment.gt)
    assert both.last_assignment.positive.sum() > both.last_second_assignment.positive.sum() > 0


@pytest.mark.parametrize("build", BUILD)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (assigners.TaskAligned(k=10, alpha=0.5, overlap=ciou), assigners.TaskAligned(k=1, alpha=0.5, overlap=ciou)),
        (assigners.TopK(k=3), assigners.POTO()),
    ],
)
def test_consistent_dual_assignment_gives_each_object_many_and_one(build, first, second):
    images, targets = batch([(64, 64)] * 2, [3, 1], seed=4)
    detector = two(build, assigner=first).train()
    with torch.no_grad():
        detector.head.regression_head.bbox_reg.bias.add_(2.0 if build is fcos else 0.0)  # boxes of a size
    detector.use_second_head(second)
    losses, gradients = losses_and_gradients(detector, images, targets)
    counts = [len(target["labels"]) for target in targets]
    many, one = (
        torch.cat(assignment.positives_per_gt(counts))
        for assignment in (detector.last_assignment, detector.last_second_assignment)
    )
    assert (one <= 1).all() and one.sum() >= 3 and many.sum() > one.sum()
    assert (
        all(loss.isfinite() for loss in losses.values())
        and gradients.keys() == dict(detector.named_parameters()).keys()
    )


@pytest.mark.parametrize("build", BUILD)
def test_the_second_head_begins_as_a_copy_answers_and_nothing_is_suppressed(build):
    detector = two(build).eval()
    images, _ = batch([(64, 64)], [0])
    before = detector(images)
    detector.use_second_head(assigners.TopK(k=1))
    assert detector.nms_thresh == 1.0
    detector.nms_thresh = 0.5
    torch.testing.assert_close(detector(images), before, rtol=0, atol=0)
    assert not {id(p) for p in detector.head.first.parameters()} & {id(p) for p in detector.head.second.parameters()}
    moved(detector.head.second)
    second = detector(images)
    assert not torch.equal(second[0]["scores"], before[0]["scores"])
    detector.head.answers = "first"
    torch.testing.assert_close(detector(images), before, rtol=0, atol=0)
    torch.testing.assert_close(detector.to_torchvision()(images), before, rtol=0, atol=0)
    detector.head.answers = "second"
    torch.testing.assert_close(detector(images), second, rtol=0, atol=0)


@pytest.mark.parametrize("build", BUILD)
def test_only_the_answering_head_runs_at_test_time(build):
    detector = two(build)
    detector.use_second_head(assigners.TopK(k=1))
    ran = []
    for name in ("first", "second"):
        getattr(detector.head, name).register_forward_hook(lambda *_, name=name: ran.append(name))
    images, targets = batch([(64, 64)], [2])
    detector.eval()(images)
    assert ran == ["second"]
    detector.train()(images, targets)
    assert sorted(ran[1:]) == ["first", "second"]


@pytest.mark.parametrize(("build", "kind"), [(retinanet, RetinaNet), (fcos, FCOS)])
def test_the_plain_model_is_torchvisions_with_the_answering_head(build, kind):
    detector = two(build).eval()
    plain_names = list(detector.state_dict())
    detector.use_second_head(assigners.TopK(k=1))
    moved(detector.head.second)
    images, _ = batch([(64, 64), (80, 48)], [0, 0])
    model = detector.to_torchvision()
    assert type(model) is kind and list(model.state_dict()) == plain_names and model.nms_thresh == 1.0
    assert not [name for name in vars(model) if "second" in name]
    torch.testing.assert_close(model(images), detector(images), rtol=0, atol=0)
    assert isinstance(detector.head, TwoHeads)


@pytest.mark.parametrize("build", BUILD)
def test_copies_pickles_and_state_dicts_hold_both_heads(build):
    detector = two(build).eval()
    detector.use_second_head(assigners.TopK(k=1))
    moved(detector.head.second)
    images, targets = batch([(64, 64)], [3])
    whole = io.BytesIO()
    torch.save(detector, whole)
    whole.seek(0)
    again = two(build, seed=9).eval()
    again.use_second_head(assigners.TopK(k=1))
    again.load_state_dict(detector.state_dict())
    expected, losses = detector(images), copy.deepcopy(detector).train()(images, targets)
    for twin in (
        copy.deepcopy(detector), pickle.loads(pickle.dumps(detector)), torch.load(whole, weights_only=False), again
    ):  # fmt: skip
        torch.testing.assert_close(twin(images), expected, rtol=0, atol=0)
        torch.testing.assert_close(twin.train()(images, targets), losses)


@pytest.mark.parametrize(("build", "wrap"), [(retinanet, AssignedRetinaNet), (fcos, AssignedFCOS)])
def test_a_model_of_torchvisions_gets_one_and_is_left_as_it_is(build, wrap):
    model = build(3).to_torchvision().train()
    modules, settings = dict(model._modules), model.nms_thresh
    detector = wrap.from_torchvision(model, assigners.TopK(k=3))
    detector.use_second_head(assigners.TopK(k=1))
    assert model._modules == modules and model.nms_thresh == settings
    assert detector.head.first is model.head
    images, targets = batch([(64, 64)], [3])
    assert detector(images, targets)["second_classification"].isfinite()
    assert set(model(images, targets)) == {name for name in detector(images, targets) if "second" not in name}
    again = wrap.from_torchvision(detector, assigners.ATSS())  # both heads, another first rule
    assert again.second_assigner == assigners.TopK(k=1) and again.head is detector.head


def test_the_second_assigner_sees_the_second_heads_predictions_and_the_detectors_priors():
    images, targets = batch([(64, 64)], [2])
    rule = fixed(PRIORS)
    detector = two(retinanet, assignment_priors=lambda priors: priors).train()
    detector.use_second_head(rule)
    moved(detector.head.second)
    captured = {}
    detector.head.register_forward_hook(lambda module, inputs, outputs: captured.update(outputs))
    detector(images, targets)
    priors, _, predictions = rule.seen[0]
    torch.testing.assert_close(predictions.scores, captured["second_cls_logits"].sigmoid())
    assert not torch.equal(captured["cls_logits"], captured["second_cls_logits"])
    assert priors is detector.anchor_generator.priors


def test_another_second_assigner_keeps_the_heads():
    detector = two(fcos)
    detector.use_second_head(assigners.TopK(k=1))
    head = detector.head
    other = Recorder(assigners.ATSS(), [])
    detector.use_second_head(other)
    assert detector.head is head and detector.second_assigner is other
    detector.use_assigner(assigners.ATSS())
    assert detector.second_assigner is other and detector.assigner == assigners.ATSS()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [(None, "got None: torchvision has no rule for a second head"), (assigners.ATSS, "got the class ATSS")],
)
def test_what_is_no_assigner_makes_no_second_head(wrong, message):
    detector = two(fcos)
    with pytest.raises(TypeError, match=message):
        detector.use_second_head(wrong)
    assert not isinstance(detector.head, TwoHeads) and detector.second_assigner is None


def test_the_second_third_branch_learns_what_the_firsts_does():
    detector = two(fcos, loss_rule=LossRule(quality="iou", quality_weight=0.5))
    detector.use_second_head(assigners.TopK(k=1))
    assert detector.second_loss_rule == LossRule(quality="iou", quality_weight=0.5)
    bare = two(fcos, loss_rule=LossRule(quality=None)).train()
    bare.use_second_head(assigners.TopK(k=1))
    images, targets = batch([(64, 64)], [3])
    assert not [name for name in bare(images, targets) if "ctrness" in name]


@pytest.mark.parametrize("build", BUILD)
def test_mixed_precision_trains_both_heads(build):
    detector = two(build).train()
    detector.use_second_head(assigners.TopK(k=1))
    moved(detector.head.second)
    images, targets = batch([(64, 64)], [4])
    exact = detector(images, targets)
    labels = detector.last_second_assignment.gt
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = detector(images, targets)
    assert torch.equal(detector.last_second_assignment.gt, labels)
    assert {key: value.item() for key, value in mixed.items()} == pytest.approx(
        {key: value.item() for key, value in exact.items()}, rel=0.05
    )


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.8), (1, 0.7929), (10, 0.7293), (50, 0.4465), (99, 0.1), (150, 0.1)]
)
def test_progressive_weights_published_values(epoch, expected):
    first, second = progressive_weights(epoch, 100)
    assert first == pytest.approx(expected, abs=5e-5) and first + second == 1
    assert progressive_weights(0, 1) == pytest.approx((0.8, 0.2))
