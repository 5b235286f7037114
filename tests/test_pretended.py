"""The GPU path without a GPU: on a pretended device every rule gives the CPU's labels, mixes no devices, and waits for
it no more often than is written here. `benchmarks/counted.py` has the same counts at the size of real pyramids."""

import itertools
import multiprocessing
from unittest import mock

import pytest
import torch
from pretended import DEVICE, pretended_device

from labelkit.assigners import ASSIGNERS
from labelkit.assignment import Predictions
from labelkit.detectors import assigning, fcos, matched, retinanet
from labelkit.priors import Priors
from labelkit.search import windows
from tests.detectors.scenes import batch
from tests.elsewhere import VIEWS, built, losses_agree, moved, step_there

FIELDS = ("gt", "similarity", "score_target", "weight")
every = pytest.mark.parametrize("name", list(ASSIGNERS))

# (launches, synchronisations) of a second call with 12 ground truths in one image. What a rule needs it may need less
# of: lower the number then. Who never asks the network never waits more than three times; who does waits once more for
# each time that it reads scores, which are checked there.
MOST = {
    "max_iou": (89, 2),
    "fcos": (59, 1),
    "topk": (109, 2),
    "atss": (118, 1),
    "s3fd": (137, 2),
    "hambox": (287, 17),
    "noisy_anchors": (234, 10),
    "rka": (110, 2),
    "rfla": (241, 3),
    "paa": (1167, 32),
    "ota": (1553, 13),
    "dcfl": (268, 12),
    "simota": (448, 28),
    "tal": (161, 9),
    "dsl": (542, 29),
    "hungarian": (170, 12),
    "poto": (115, 10),
}


@pytest.fixture(scope="module")
def elsewhere():
    """Runs a function in a process that has a pretended device; what it returns or raises comes back."""
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (1,)) as pool:
        yield lambda function, *args: pool.apply_async(_run, (function, *args)).get(300)


def _run(function, *args):
    try:
        with pretended_device() as device:
            return function(device, *args)
    except BaseException as error:  # some can't be sent to another process as they are
        raise AssertionError(f"{type(error).__name__}: {error}") from None


def _scene(flags=False):
    """Priors, targets (one of them empty, and with `flags` some regions), predictions."""
    generator = torch.Generator().manual_seed(0)
    priors = Priors.anchors((64, 96), (4, 8, 16), ((16,), (32,), (64,)))
    _, targets = batch([(64, 96)] * 3, [12, 0, 5])
    if flags:
        targets[0]["iscrowd"] = torch.arange(12) % 5 == 0
        targets[2]["ignore"] = torch.arange(5) % 2
    noise = torch.rand(3, len(priors), 4, generator=generator) * 8
    return priors, targets, Predictions(priors.boxes + noise, torch.rand(3, len(priors), 3, generator=generator))


def _ways():
    """A batch on a grid with regions, one image without, a batch without a grid."""
    priors, targets, seen = _scene(flags=True)
    yield priors, targets, seen
    priors, targets, seen = _scene()
    yield priors, targets[0], Predictions(seen.boxes[0], seen.scores[0])
    yield Priors.from_boxes(priors.boxes, priors.level_sizes, priors.level_strides), targets, seen


def _there(priors, targets, seen):
    there = moved(targets) if isinstance(targets, dict) else [*map(moved, targets)]
    return priors.to(DEVICE), there, Predictions(seen.boxes.to(DEVICE), seen.scores.to(DEVICE))


def _labels(device, name):
    _compare(name, _ways())


def _labels_in_portions(device, name):
    """The windows and blocks of a problem too large to be taken at once."""
    with mock.patch.object(windows, "ON_GPU", windows.Portions(0, 64, 512)):
        _compare(name, itertools.islice(_ways(), 0, None, 2))


def _compare(name, ways):
    rule = built(name)
    for way in ways:
        there = _there(*way)
        expected, ours = rule(*way), rule(*there)
        assert ours.gt.device.type == DEVICE and expected.positive.any()
        for field in FIELDS:
            # Sums over a ground truth's candidates may round otherwise where their order differs.
            torch.testing.assert_close(getattr(ours, field).cpu(), getattr(expected, field), rtol=1e-6, atol=1e-7)


@every
@pytest.mark.parametrize("labels", [_labels, _labels_in_portions])
def test_every_rule_gives_the_labels_of_the_cpu(elsewhere, name, labels):
    elsewhere(labels, name)


def _explained(device, name):
    priors, targets, seen = _scene()
    one = priors, targets[0], Predictions(seen.boxes[0], seen.scores[0])
    there, here = built(name).explain(*_there(*one)), built(name).explain(*one)
    torch.testing.assert_close(there.bar.cpu(), here.bar, rtol=1e-6, atol=1e-7)
    for stage in ("chosen", "winners", "losers"):
        assert _set(getattr(there, stage)) == _set(getattr(here, stage)), stage


def _set(pairs):
    return set(zip(pairs.prior.tolist(), pairs.gt.tolist(), strict=True))


@every
def test_explanations_are_those_of_the_cpu(elsewhere, name):
    elsewhere(_explained, name)


def _empty(device, name):
    priors, targets, seen = _scene()
    nothing = Predictions(seen.boxes[1], seen.scores[1])
    assert built(name)(*_there(priors, targets[1], nothing)).negative.all()


@every
def test_an_image_without_objects(elsewhere, name):
    elsewhere(_empty, name)


def _counted(device, name, *planted):
    """The counts of a second call, and with a line planted in the rule; of a call that fails its error."""
    rule, (priors, targets, seen) = built(name), _scene()
    there = _there(priors, targets[0], Predictions(seen.boxes[0], seen.scores[0]))
    rule(*there)
    return [_once(device, rule, there, line) for line in (None, *planted)]


def _once(device, rule, there, line):
    assign = type(rule).assign

    def with_line(self, priors, gts, *seen):
        line(gts)
        return assign(self, priors, gts, *seen)

    device.reset()
    with mock.patch.object(type(rule), "assign", with_line if line else assign):
        try:
            rule(*there)
        except RuntimeError as error:
            return str(error)
    return device.counts.launches, device.counts.synchronisations


def _mixes(gts):
    return gts.boxes + torch.zeros(len(gts), 4)


def _copies(gts):
    return gts.boxes[torch.zeros(1, dtype=torch.int64)]


def _waits(gts):
    return gts.boxes.sum().item()


@every
def test_counts_do_not_grow_and_planted_mistakes_are_found(elsewhere, name):
    """A line on two devices, a copy that nobody sees, a value that is waited for: in any rule."""
    (launches, synchronisations), mixed, copied, waited = elsewhere(_counted, name, _mixes, _copies, _waits)
    assert synchronisations <= MOST[name][1]
    assert launches <= 1.05 * MOST[name][0]  # another release of torch may take an operator apart differently
    assert ASSIGNERS[name].needs_predictions or synchronisations <= 3
    assert "same device, got two devices" in mixed
    assert "same device, got a copy that the code doesn't say" in copied
    assert waited[1] == synchronisations + 1


def _losses(device, build, name):
    losses_agree(build, name)


@pytest.mark.parametrize(("build", "name"), [(retinanet, "max_iou"), (fcos, "fcos"), (retinanet, "tal")])
def test_the_losses_of_the_detectors_are_those_of_the_cpu(elsewhere, build, name):
    elsewhere(_losses, build, name)


def _beside(device, build):
    """Of every rule that never asks the network: a step with the assigner there, and one with it on the CPU."""
    for name, kind in ASSIGNERS.items():
        if kind.needs_predictions:
            continue
        options = {"assigner": built(name), "assignment_priors": VIEWS.get(name)}
        expected, there = step_there(device, build, None, **options)
        waits = _of_ours(device)
        losses, beside = step_there(device, build, "cpu", **options)
        assert _of_ours(device) == 0 < waits, name
        assert not device.waited["_local_scalar_dense"], name  # torchvision too looks at boxes, where they are
        assert there.last_assignment.gt.device.type == DEVICE and beside.last_assignment.gt.device.type == "cpu"
        assert torch.equal(there.last_assignment.gt.cpu(), beside.last_assignment.gt)
        assert losses.keys() == expected.keys() and beside.last_assignment.positive.any()
        for key, loss in losses.items():
            assert loss.device.type == DEVICE and torch.equal(loss.cpu(), expected[key].cpu()), (name, key)


def _of_ours(device):
    """How often the CPU waited, but for what torchvision's own code asks (a mean and a deviation for each image, its
    box coder, its GIoU loss): that is the same with any assigner."""
    return device.counts.synchronisations - device.waiters["torchvision"]


@pytest.mark.parametrize("build", [retinanet, fcos])
def test_a_rule_on_the_cpu_gives_the_losses_to_the_bit_and_nothing_waits(elsewhere, build):
    """Not even for pictures of a new size, whose priors are drawn in this step."""
    elsewhere(_beside, build)


def _planted_beside(device):
    assign = assigning.Assigning.assign

    def waits(self, targets, outputs):
        outputs["cls_logits"].sum().item()
        return assign(self, targets, outputs)

    options = {"assigner": built("max_iou")}
    with mock.patch.object(assigning.Assigning, "assign", waits):
        step_there(device, retinanet, "cpu", **options)
    read = _of_ours(device)
    with mock.patch.object(matched, "shipped", lambda tensor, device: tensor.to(device)):
        step_there(device, retinanet, "cpu", **options)
    copied = _of_ours(device)
    stays = mock.patch.object(assigning, "sent_whole", lambda assignment, device: assignment)
    with stays, pytest.raises(RuntimeError, match="same device"):
        step_there(device, retinanet, "cpu", **options)
    (image, *_), (target, *_) = batch([(64, 64)], [3])
    with pytest.raises(ValueError, match=r"targets\[0\]\['boxes'\] is on privateuseone.*: with assign_on='cpu' the"):
        retinanet(3, assign_on="cpu").train()([image], [moved(target)])
    return read, copied


def test_a_value_or_a_copy_that_is_waited_for_beside_the_network_is_found_and_two_devices_are_refused(elsewhere):
    assert elsewhere(_planted_beside) == (1, 8)  # four vectors of the assignment, and four of its positives
