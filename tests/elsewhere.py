"""What the tests on pretended devices share: rules, how things get there, a detector's losses on both sides."""

from functools import partial

import pytest
import torch

from benchmarks.pretended import DEVICE
from labelkit.assigners import ASSIGNERS
from labelkit.detectors import fcos
from labelkit.similarity import nwd
from tests.detectors.scenes import batch

ARGUMENTS = {
    "hambox": {"k": 3, "decoded_thresh": 0.2},
    "hungarian": {"image_size": (64, 96)},
    "rka": {"similarity": partial(nwd, constant=12.8)},
}


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
