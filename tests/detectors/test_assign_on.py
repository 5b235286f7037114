"""Assigning on the CPU while another device computes the network: on the CPU itself nothing changes, and what can't be
is refused. `tests/test_pretended.py` has the same on a device that counts what it is waited for."""

from functools import partial

import pytest
import torch
from torchvision.models.detection import RetinaNet

from labelkit.assigners import ASSIGNERS, ATSS, POTO, MaxIoU, TaskAligned, TopK
from labelkit.detectors import LOSSES, AssignedFCOS, AssignedRetinaNet, SmallPyramid, fcos, retinanet
from labelkit.devices import shipped
from tests.detectors.scenes import batch, fixed, losses_and_gradients
from tests.elsewhere import VIEWS, built

BUILD = pytest.mark.parametrize("build", [retinanet, fcos])
STATIC = [name for name, kind in ASSIGNERS.items() if not kind.needs_predictions]


def both_ways(build, device="cpu", **options):
    """The same detector twice, the second with its assigner on the CPU, and what a training step gives each."""
    answers = []
    for assign_on in (None, "cpu"):
        torch.manual_seed(1)
        detector = build(3, assign_on=assign_on, **options).to(device).train()
        images, targets = batch([(64, 96), (80, 72)], [12, 5])
        targets[1]["iscrowd"] = torch.arange(5) == 1
        images = [image.to(device) for image in images]
        if assign_on is None:
            targets = [{key: value.to(device) for key, value in target.items()} for target in targets]
        answers.append((detector, *losses_and_gradients(detector, images, targets)))
    return answers


def assert_equal(one, other):
    assert one.keys() == other.keys() and one
    for name in one:
        assert torch.equal(one[name], other[name]), name


@BUILD
@pytest.mark.parametrize("name", STATIC)
def test_losses_and_gradients_are_the_same_to_the_bit(build, name):
    plain, beside = both_ways(build, assigner=built(name), assignment_priors=VIEWS.get(name))
    assert_equal(plain[1], beside[1])
    assert_equal(plain[2], beside[2])
    assert beside[0].last_assignment.positive.any() and beside[0].last_assignment.ignored.any()


@pytest.mark.gpu
@BUILD
@pytest.mark.parametrize("name", ["max_iou", "fcos", "topk"])
def test_on_a_gpu_labels_and_losses_are_the_same_and_the_assignment_stays_here(build, name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    plain, beside = both_ways(build, "cuda", assigner=built(name))
    assert plain[0].last_assignment.gt.is_cuda and not beside[0].last_assignment.gt.is_cuda
    assert torch.equal(plain[0].last_assignment.gt.cpu(), beside[0].last_assignment.gt)
    assert_equal(plain[1], beside[1])


def test_what_goes_to_a_gpu_is_pinned_in_one_piece_and_not_waited_for(monkeypatch):
    went = []

    def to(self, device, non_blocking):
        went.append((self, device, non_blocking))
        return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)
    monkeypatch.setattr(torch.Tensor, "to", to)
    shipped(torch.ones(1).expand(3), torch.device("cuda", 0))
    shipped(torch.ones(2), torch.device("cpu"))
    (pinned, device, non_blocking), (plain, *_) = went
    assert pinned.tolist() == [2, 2, 2] and pinned.is_contiguous() and non_blocking and device.type == "cuda"
    assert plain.tolist() == [1, 1]


@BUILD
def test_torchvisions_own_rule_and_a_loss_that_asks_the_network_go_with_it(build):
    loss = LOSSES["vfl" if build is retinanet else "mal"]
    for options in ({}, {"loss_rule": loss}, {"min_size": 48}):
        plain, beside = both_ways(build, **options)
        assert_equal(plain[1], beside[1])


@BUILD
def test_a_second_head_whose_rule_never_asks_the_network(build):
    def two(*args, **options):
        detector = build(*args, **options)
        detector.use_second_head(TopK(1))
        return detector

    plain, beside = both_ways(two, assigner=ATSS())
    assert_equal(plain[1], beside[1])
    assert_equal(plain[2], beside[2])
    assert {name for name in beside[1] if name.startswith("second_")}
    assert torch.equal(plain[0].last_second_assignment.gt, beside[0].last_second_assignment.gt)


REFUSED = r"assign_on='cpu' is for rules that need no predictions, .*: "


def test_a_rule_that_needs_predictions_is_refused():
    for build in (retinanet, fcos):
        with pytest.raises(ValueError, match=REFUSED + "assigner TaskAligned needs them"):
            build(3, assigner=TaskAligned(), assign_on="cpu")
    with pytest.raises(ValueError, match=REFUSED + "assigner Fixed needs them"):
        retinanet(3, assigner=fixed(4), assign_on="cpu")  # of a rule from elsewhere it is what it says
    with pytest.raises(ValueError, match=REFUSED + "assigner function needs them"):
        retinanet(3, assigner=lambda *_: None, assign_on="cpu")  # and where it says nothing, it may
    detector = retinanet(3, assigner=ATSS(), assign_on="cpu")
    with pytest.raises(ValueError, match=REFUSED + "second_assigner POTO needs them"):
        detector.use_second_head(POTO())
    with pytest.raises(ValueError, match=REFUSED + "assigner TaskAligned needs them"):
        detector.use_assigner(TaskAligned(), assign_on="cpu")
    assert detector.assigner == ATSS() and detector.assign_on == "cpu" and detector.second_assigner is None
    detector = retinanet(3, assigner=ATSS())
    detector.use_second_head(POTO())
    with pytest.raises(ValueError, match=REFUSED + "second_assigner POTO needs them"):
        detector.use_assigner(MaxIoU(), assign_on="cpu")


def test_another_place_is_refused():
    with pytest.raises(ValueError, match="assign_on must be None, .*, or 'cpu', got 'cuda'"):
        retinanet(3, assign_on="cuda")


@BUILD
@pytest.mark.parametrize("key", ["boxes", "labels"])
def test_targets_that_are_elsewhere_are_refused(build, key):
    images, targets = batch([(64, 64)] * 2, [1, 3])
    targets[1][key] = targets[1][key].to("meta")
    with pytest.raises(ValueError, match=rf"targets\[1\]\['{key}'\] is on meta: with assign_on='cpu' the targets stay"):
        build(3, assign_on="cpu").train()(images, targets)


def test_every_door_takes_it_and_the_plain_model_knows_nothing_of_it():
    model = RetinaNet(SmallPyramid(), 3, anchor_generator=retinanet(3).anchor_generator.generator)
    detector = AssignedRetinaNet.from_torchvision(model, assign_on="cpu")
    assert detector.assign_on == "cpu" and "assign_on" not in vars(detector.to_torchvision())
    for kind, small in ((AssignedRetinaNet, retinanet), (AssignedFCOS, fcos)):
        made = partial(kind, SmallPyramid(), 3, anchor_generator=small(3).anchor_generator.generator)
        assert made(assign_on="cpu").assign_on == "cpu" and made().assign_on is None
    detector.use_assigner(ATSS())  # as with assignment_priors, what isn't said again is over
    assert detector.assign_on is None
