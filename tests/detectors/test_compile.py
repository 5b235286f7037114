"""A training step under torch.compile: what follows the number of objects stays out of the graphs.

In a process of its own, without the tests' type checker: each function that it wraps would be another graph.
"""

import copy
import multiprocessing
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

import labelkit
from labelkit import assigners
from labelkit.detectors import AssignedFCOS, fcos, retinanet
from tests.detectors.scenes import batch

PACKAGE = str(Path(labelkit.__file__).parent)


def two_heads_with_bins(classes: int) -> AssignedFCOS:
    detector = fcos(classes, assigner=assigners.TaskAligned(), bins=8)
    detector.use_second_head(assigners.POTO())
    return detector


BUILD = {"retinanet": retinanet, "fcos": fcos, "two heads with bins": two_heads_with_bins}


def train(name: str) -> tuple[int, set[str]]:
    """14 steps, each with other numbers of objects, none and one among them: the graphs, and what was traced."""
    traced: set[str] = set()

    def backend(graph, inputs):
        traced.update(line for node in graph.graph.nodes for line in (node.stack_trace or "").splitlines())
        return graph

    torch.manual_seed(1)
    detector = BUILD[name](3).train()
    plain = copy.deepcopy(detector)
    step = torch.compile(detector, backend=backend)
    for seed, counts in enumerate([(3, 9), (12, 2), (0, 5), (1, 1), (0, 0), (7, 30), (40, 2)] * 2):
        images, targets = batch([(64, 64)] * 2, counts, seed=seed)
        losses = step(images, targets)
        if seed in (0, 4, 13):
            torch.testing.assert_close(losses, plain(images, targets))
        sum(losses.values()).backward()
    return counters["stats"]["unique_graphs"], traced


@pytest.mark.parametrize("name", BUILD)
def test_training_on_changing_targets_compiles_a_handful_of_graphs(name):
    """Graphs of the losses alone would make 25."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        graphs, traced = pool.apply(train, (name,))
    assert 1 <= graphs <= 10
    assert traced and not [line for line in traced if f"{PACKAGE}/assigners" in line or f"{PACKAGE}/search" in line]
