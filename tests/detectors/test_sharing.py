"""A model of torchvision's under another class: all of it is there, none of it is changed, and it comes back."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator

from labelkit.assigners import ATSS, MaxIoU  # fmt: skip
from labelkit.assigners import FCOS as FCOSRule
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet, SmallPyramid, fcos, receptive_field_view, retinanet
from tests.detectors.scenes import Recorder, batch

WRAPPED = [(RetinaNet, AssignedRetinaNet), (FCOS, AssignedFCOS)]


class Counting:
    """What a user adds to a model of torchvision's: a state, a way of its own to finish, a method."""

    def __init__(self, *args, note="", **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note

    def postprocess_detections(self, *args):
        found = super().postprocess_detections(*args)
        return [detection | {"note": self.note} for detection in found]

    def shout(self):
        return self.note.upper()


class CountingRetinaNet(Counting, RetinaNet):
    pass


class CountingFCOS(Counting, FCOS):
    pass


class OwnLoss(RetinaNet):
    def compute_loss(self, targets, head_outputs, anchors):
        return super().compute_loss(targets, head_outputs, anchors)


def plain(kind, **options):
    torch.manual_seed(1)
    generator = AnchorGenerator(((4,), (8,), (16,)), ((1.0,),) * 3)
    return kind(SmallPyramid(), 3, anchor_generator=generator, min_size=64, score_thresh=0.0, **options)


@pytest.mark.parametrize(("kind", "wrap"), WRAPPED)
@pytest.mark.parametrize("training", [True, False])
def test_the_detector_has_the_mode_of_the_model_and_the_model_keeps_all_of_its_own(kind, wrap, training):
    model = plain(kind).train(training)
    model.backbone.stem[1].train(not training)  # one module apart, as frozen norms are
    modes = {name: module.training for name, module in model.named_modules()}
    attributes, tables = dict(vars(model)), dict(model._modules)
    detector = wrap.from_torchvision(model, ATSS())
    assert detector.training is training and type(model) is kind
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(module.training == modes[name] for name, module in detector.named_modules() if name in modes)
    assert detector.anchor_generator.training is training
    assert vars(model) == attributes and model._modules == tables
    assert type(model.anchor_generator) is AnchorGenerator and not hasattr(model, "assigner")
    detector.train(not training)
    assert model.training is training  # the detector's own; modules are shared, so their modes are as well


@pytest.mark.parametrize(("kind", "wrap"), WRAPPED)
def test_weights_are_shared_and_named_alike_and_thresholds_are_the_models(kind, wrap):
    model = plain(kind, nms_thresh=0.11, detections_per_img=7, topk_candidates=13).eval()
    detector = wrap.from_torchvision(model)
    assert list(detector.state_dict()) == list(model.state_dict())
    ours, theirs = dict(detector.named_parameters()), dict(model.named_parameters())
    assert ours.keys() == theirs.keys() and all(ours[name] is theirs[name] for name in ours)
    assert (detector.nms_thresh, detector.detections_per_img, detector.topk_candidates) == (0.11, 7, 13)
    images, _ = batch([(64, 64), (80, 48)], [0, 0])
    torch.testing.assert_close(detector(images), model(images), rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "wrap"), [(CountingRetinaNet, AssignedRetinaNet), (CountingFCOS, AssignedFCOS)])
def test_a_subclass_keeps_its_methods_and_its_state(kind, wrap):
    model = plain(kind, note="mine").eval()
    rule = Recorder(MaxIoU(), [])
    detector = wrap.from_torchvision(model, rule)
    images, targets = batch([(64, 64)], [3])
    assert isinstance(detector, wrap) and isinstance(detector, kind)
    assert detector.shout() == "MINE"
    assert detector(images)[0]["note"] == "mine" and not rule.seen
    losses = detector.train()(images, targets)
    assert len(rule.seen) == 1 and all(loss.isfinite() for loss in losses.values())
    assert type(wrap.from_torchvision(model, ATSS())) is type(detector)  # one class, however often
    again = wrap.from_torchvision(detector, ATSS())  # a detector is a model as well
    assert type(again) is type(detector) and again.assigner == ATSS() and detector.assigner is rule
    back = detector.to_torchvision()
    assert type(back) is kind and back.shout() == "MINE" and type(back.anchor_generator) is AnchorGenerator


@pytest.mark.parametrize(
    ("kind", "wrap"), [*WRAPPED, (CountingRetinaNet, AssignedRetinaNet), (CountingFCOS, AssignedFCOS)]
)
def test_copies_and_pickles_are_whole_detectors(kind, wrap):
    detector = wrap.from_torchvision(plain(kind).eval(), FCOSRule(), receptive_field_view((15, 39, 87)))
    images, targets = batch([(64, 64)], [3])
    whole = io.BytesIO()
    torch.save(detector, whole)
    whole.seek(0)
    copies = [copy.deepcopy(detector), pickle.loads(pickle.dumps(detector)), torch.load(whole, weights_only=False)]
    for twin in copies:
        assert type(twin) is type(detector) and twin.assigner == detector.assigner and not twin.training
        assert all(a is not b for a, b in zip(twin.parameters(), detector.parameters(), strict=True))
        assert all(
            torch.equal(twin(images)[0][key], value) for key, value in detector(images)[0].items() if key != "note"
        )
        torch.testing.assert_close(twin.train()(images, targets), copy.deepcopy(detector).train()(images, targets))
    weights = {name: value + 1 for name, value in detector.state_dict().items()}
    assert not any(copies[0].load_state_dict(weights))
    assert not torch.equal(next(copies[0].parameters()), next(detector.parameters()))


@pytest.mark.parametrize("build", [retinanet, fcos])
def test_the_plain_model_comes_back(build):
    torch.manual_seed(2)
    detector = build(3, assigner=ATSS(), score_thresh=0.0).eval()
    images, _ = batch([(64, 64), (80, 48)], [0, 0])
    model = detector.to_torchvision()
    assert type(model) in (RetinaNet, FCOS) and list(model.state_dict()) == list(detector.state_dict())
    torch.testing.assert_close(model(images), detector(images), rtol=0, atol=0)
    assert detector.assigner == ATSS() and hasattr(detector.anchor_generator, "generator")


SCRIPTING = """
import sys, torch
from labelkit import detectors
from labelkit.assigners import ATSS
torch.manual_seed(2)
detector = getattr(detectors, sys.argv[1])(3, assigner=ATSS(), score_thresh=0.0).eval()
images = [torch.rand(3, 64, 64), torch.rand(3, 80, 48)]
expected = detector(images)
for model in (detector.to_torchvision(), detector):
    _, found = torch.jit.script(model)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
print("scripted")
"""


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_it_can_be_scripted(name):
    """In a process of its own: TorchScript reads no function that a type checker wrapped."""
    run = subprocess.run([sys.executable, "-c", SCRIPTING, name], capture_output=True, text=True)
    assert run.stdout == "scripted\n", run.stderr


@pytest.mark.parametrize(
    ("wrap", "model", "message"),
    [
        (
            AssignedRetinaNet,
            lambda: FasterRCNN(SmallPyramid(), 3),
            "model must be a torchvision RetinaNet, got a Fa",
        ),
        (AssignedFCOS, lambda: FasterRCNN(SmallPyramid(), 3), "model must be a torchvision FCOS, got a FasterRCNN"),
        (AssignedFCOS, lambda: plain(RetinaNet), "model must be a torchvision FCOS, got a RetinaNet"),
        (AssignedRetinaNet, lambda: plain(FCOS), "model must be a torchvision RetinaNet, got a FCOS"),
        (AssignedRetinaNet, lambda: fcos(3), "model must be a torchvision RetinaNet, got a AssignedFCOS"),
        (AssignedRetinaNet, lambda: RetinaNet, "model must be a torchvision RetinaNet, got the class RetinaNet"),
        (
            AssignedRetinaNet,
            lambda: plain(OwnLoss),
            "OwnLoss, whose own compute_loss would be lost: derive",
        ),
        (
            AssignedRetinaNet,
            lambda: ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2),
            "model must be a torchvision RetinaNet, got a SSD",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_other_models_are_refused_by_name(wrap, model, message):
    with pytest.raises(TypeError, match=message):
        wrap.from_torchvision(model(), ATSS())
