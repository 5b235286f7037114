"""An assigner in a training step of one's own under torch.compile: no graph is made of it.

In a process of its own, without the tests' type checker: each function that it wraps would be another graph.
"""

import multiprocessing
import subprocess
import sys

import torch
from torch import Tensor

from labelkit import Predictions, Priors
from labelkit.assigners import SimOTA
from tests.detectors.scenes import batch


def graphs_of_a_step() -> int:
    """Over ten steps with other numbers of objects, none among them; the labels are those without a compiler."""
    from torch._dynamo.utils import counters

    rule, points, scale = SimOTA(), Priors.points((64, 64), (8, 16)), torch.ones(4, requires_grad=True)
    around = points.boxes + torch.tensor([-9.0, -9, 9, 9])

    def step(scores: Tensor, targets: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
        boxes = around * scale
        assignment = rule(points, targets, Predictions(boxes.expand(2, -1, -1), scores))
        return (boxes * assignment.weight[..., None]).sum(), assignment.gt

    compiled = torch.compile(step, backend="eager")
    for seed, counts in enumerate([(3, 9), (12, 2), (0, 5), (1, 1), (0, 0)] * 2):
        _, targets = batch([(64, 64)] * 2, counts, seed=seed)
        scores = torch.rand(2, len(points), 3, generator=torch.Generator().manual_seed(seed))
        loss, gt = compiled(scores, targets)
        loss.backward()
        assert torch.equal(gt, step(scores, targets)[1])
    return counters["stats"]["unique_graphs"]


def test_a_compiled_step_makes_no_graphs_of_the_rule():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert 1 <= pool.apply(graphs_of_a_step) <= 8


def test_who_does_not_compile_imports_no_compiler():
    program = """
import sys, torch
from labelkit import Priors
from labelkit.assigners import ATSS

target = {"boxes": torch.tensor([[1.0, 1, 30, 30]]), "labels": torch.tensor([0])}
ATSS()(Priors.anchors((64, 64), (8,), ((16,),)), target)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
