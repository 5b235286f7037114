"""Everything that is computed on a device works on one without float64 (Apple's MPS), with the labels of the CPU."""

import multiprocessing

import pytest
import torch
from pretended import DEVICE, pretended_device

from labelkit import assigners, devices
from labelkit.assignment import Predictions
from labelkit.detectors import fcos, receptive_field_view, retinanet
from labelkit.evaluation import evaluate, starvation_by_size
from labelkit.losses import (
    distribution_focal_loss,
    expected_distance,
    focal_loss,
    ia_bce_loss,
    keep_scale,
    mal_loss,
    quality_focal_loss,
    varifocal_loss,
)
from labelkit.priors import Priors
from tests.detectors.scenes import batch
from tests.elsewhere import built, losses_agree, moved


@pytest.fixture(scope="module")
def elsewhere():
    """Runs a function in a process that has a device without float64; what it raises is raised here."""
    with multiprocessing.get_context("spawn").Pool(1, _start) as pool:
        yield lambda function, *args: pool.apply(_run, (function, *args))


def _start():
    torch.set_num_threads(1)
    devices.WITHOUT_FLOAT64.add(DEVICE)


def _run(function, *args):
    with pretended_device(float64=False):
        function(*args)


def _scene():
    generator = torch.Generator().manual_seed(0)
    priors = Priors.anchors((64, 96), (4, 8, 16), ((16,), (32,), (64,)))
    _, targets = batch([(64, 96)] * 2, [12, 5])
    noise = torch.rand(2, len(priors), 4, generator=generator) * 8
    return priors, targets, Predictions(priors.boxes + noise, torch.rand(2, len(priors), 3, generator=generator))


def _labels(name):
    rule, (priors, targets, predictions) = built(name), _scene()
    there = Predictions(predictions.boxes.to(DEVICE), predictions.scores.to(DEVICE))
    ours, expected = rule(priors.to(DEVICE), [*map(moved, targets)], there), rule(priors, targets, predictions)
    assert ours.gt.device.type == DEVICE and expected.positive.any()
    for field in ("gt", "similarity", "score_target", "weight"):
        torch.testing.assert_close(getattr(ours, field).cpu(), getattr(expected, field), rtol=0, atol=0)


@pytest.mark.parametrize("name", list(assigners.ASSIGNERS))
def test_every_registered_assigner_gives_the_labels_of_the_cpu(elsewhere, name):
    elsewhere(_labels, name)


def _losses(build, name):
    losses_agree(build, name, receptive_field_view((15, 39, 87)) if name == "rfla" else None)


@pytest.mark.parametrize("build", [retinanet, fcos])
@pytest.mark.parametrize(
    "name", ["max_iou", "atss", "hambox", "noisy_anchors", "hungarian", "poto", "paa", "simota", "tal"]
)
def test_the_losses_of_the_detectors_are_those_of_the_cpu(elsewhere, build, name):
    elsewhere(_losses, build, name)


def _soft_losses():
    logits, targets = torch.linspace(-4, 4, 9), torch.linspace(0, 1, 9)
    for loss in (focal_loss, quality_focal_loss, varifocal_loss, mal_loss, ia_bce_loss, keep_scale):
        torch.testing.assert_close(loss(logits.to(DEVICE), targets.to(DEVICE)).cpu(), loss(logits, targets))
    bins, distances = logits.view(3, 3), targets[:3] * 4
    there = distribution_focal_loss(bins.to(DEVICE), distances.to(DEVICE)).cpu()
    torch.testing.assert_close(there, distribution_focal_loss(bins, distances))
    torch.testing.assert_close(expected_distance(bins.to(DEVICE)).cpu(), expected_distance(bins))


def test_the_soft_losses_are_those_of_the_cpu(elsewhere):
    elsewhere(_soft_losses)


def _evaluation():
    _, targets = batch([(64, 96)] * 2, [12, 5])
    targets[0] |= {"area": torch.arange(12), "iscrowd": torch.arange(12) % 5 == 0}
    found = [{"boxes": t["boxes"] + 1, "labels": t["labels"], "scores": torch.rand(len(t["boxes"]))} for t in targets]
    there = evaluate([*map(moved, found)], [*map(moved, targets)], "aitod")
    assert there == pytest.approx(evaluate(found, targets, "aitod"), nan_ok=True)
    boxes, positives = targets[0]["boxes"], torch.arange(12) % 3
    assert starvation_by_size(boxes.to(DEVICE), positives.to(DEVICE)) == starvation_by_size(boxes, positives)


def test_evaluation_computes_on_the_cpu(elsewhere):
    elsewhere(_evaluation)


def _refusals():
    with pytest.raises(TypeError, match="no float64"):
        torch.zeros(3, device=DEVICE).double()
    with pytest.raises(RuntimeError, match="same device"):
        torch.zeros(3, device=DEVICE) + torch.zeros(3)
    assert devices.as_double(torch.ones(3, device=DEVICE)).device.type == "cpu"


def test_the_pretended_device_refuses_what_the_real_one_would(elsewhere):
    elsewhere(_refusals)


def test_elsewhere_double_is_where_the_tensor_is(device):
    assert devices.as_double(torch.ones(3, device=device)).device.type == device.type
    assert devices.as_double(torch.ones(3, dtype=torch.float16)).dtype == torch.float64
