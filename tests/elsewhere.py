"""What the tests on pretended devices share: rules, how things get there, a detector's losses on both sides."""

from functools import partial

import pytest
import torch
from pretended import DEVICE
from torch.func import functional_call

from labelkit.assigners import ASSIGNERS
from labelkit.detectors import SmallPyramid, fcos, receptive_field_view
from labelkit.receptive_field import receptive_fields
from labelkit.similarity import nwd
from tests.detectors.scenes import batch

ARGUMENTS = {
    "hambox": {"k": 3, "decoded_thresh": 0.2},
    "hungarian": {"image_size": (64, 96)},
    "rka": {"similarity": partial(nwd, constant=12.8)},
}
VIEWS = {"rfla": receptive_field_view(receptive_fields(SmallPyramid.layers))}


def built(name):
    return ASSIGNERS[name](**ARGUMENTS.get(name, {}))


def moved(one):
    return {key: value.to(DEVICE) for key, value in one.items()}


def losses_agree(build, name, view=None):
    """The losses of a detector whose heads' outputs and targets lie on the device are those of the CPU."""
    torch.manual_seed(1)
    detector = build(3, assigner=built(name), assignment_priors=view).train()
    images, targets = batch([(64, 96)] * 2, [12, 5])
    heads = {}
    detector.head.register_forward_hook(lambda module, given, outputs: heads.update(outputs))
    expected = detector(images, targets)
    anchors = detector.anchor_generator
    anchors._latest = anchors.priors.to(DEVICE)
    levels = [[*anchors.priors.level_sizes]] if build is fcos else []
    heads = {key: value.detach().to(DEVICE) for key, value in heads.items()}  # torch has no backward pass there
    losses = detector.compute_loss([*map(moved, targets)], heads, [anchors.priors.boxes] * 2, *levels)
    assert all(loss.device.type == DEVICE for loss in losses.values())
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(
        {key: value.item() for key, value in expected.items()}, rel=1e-5
    )


def step_there(device, build, assign_on, **options):
    """A training step's losses with the network on the device, and the targets too or, for "cpu", on the CPU; the
    detector. Counts are those of the step alone, torch has no backward pass there."""
    torch.manual_seed(1)
    detector = build(3, assign_on=assign_on, **options).train()
    weights = {name: one.detach().to(DEVICE) for name, one in [*detector.named_parameters(), *detector.named_buffers()]}
    images, targets = batch([(64, 64), (48, 64)], [12, 5])
    targets[1]["iscrowd"] = torch.arange(5) == 1
    images = [image.to(DEVICE) for image in images]
    targets = targets if assign_on == "cpu" else [*map(moved, targets)]
    device.reset()
    with torch.no_grad():
        return functional_call(detector, weights, (images, targets)), detector
