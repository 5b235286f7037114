"""A training step under torch.compile: what follows the number of objects stays out of the graphs."""

import copy
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

import labelkit
from labelkit.detectors import fcos, retinanet
from tests.detectors.scenes import batch

PACKAGE = str(Path(labelkit.__file__).parent)


@pytest.mark.parametrize("build", [retinanet, fcos])
def test_training_on_changing_targets_compiles_a_handful_of_graphs(build):
    """14 steps, each with other numbers of objects (none and one among them); graphs of the losses alone make 25."""
    torch._dynamo.reset()
    counters.clear()
    traced = set()

    def backend(graph, inputs):
        traced.update(line for node in graph.graph.nodes for line in (node.stack_trace or "").splitlines())
        return graph

    torch.manual_seed(1)
    detector = build(3).train()
    plain = copy.deepcopy(detector)
    step = torch.compile(detector, backend=backend)
    for seed, counts in enumerate([(3, 9), (12, 2), (0, 5), (1, 1), (0, 0), (7, 30), (40, 2)] * 2):
        images, targets = batch([(64, 64)] * 2, counts, seed=seed)
        losses = step(images, targets)
        if seed in (0, 4, 13):
            torch.testing.assert_close(losses, plain(images, targets))
        sum(losses.values()).backward()
    graphs = counters["stats"]["unique_graphs"]
    torch._dynamo.reset()
    assert 1 <= graphs <= 10, dict(counters["stats"])
    ours = [line for line in traced if f"{PACKAGE}/assigners" in line or f"{PACKAGE}/search" in line]
    assert traced and not ours
