"""Memory beside the answer is bounded, for every k: the largest tensor that a call makes."""

import math
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from labelkit import Predictions, Priors
from labelkit.assigners import DCFL, OTA, PAA, DynamicSoftLabel, SimOTA, TaskAligned
from labelkit.search import windows
from labelkit.search.candidates import cheapest, nearest_per_level, plausible
from labelkit.similarity import giou, iou, nwd
from tests.strategies import without_grid

STRIDES = (8, 16, 32, 64, 128)


class Largest(TorchDispatchMode):
    """The largest number of elements in any storage seen."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **(kwargs or {}))
        for one in answer if isinstance(answer, (tuple, list)) else (answer,):
            if isinstance(one, torch.Tensor) and one.numel():
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return answer


def scene(count: int) -> tuple[Priors, torch.Tensor]:
    priors = Priors.anchors((256, 512), STRIDES, [[4 * stride] for stride in STRIDES])
    generator = torch.Generator().manual_seed(count)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([512.0, 256])
    size = 4 + 60 * torch.rand(count, 2, generator=generator)
    return priors, torch.cat((center - size / 2, center + size / 2), dim=1)


@pytest.mark.parametrize("grid", [True, False])
@pytest.mark.parametrize("similarity", [iou, partial(nwd, constant=12.8)])
@pytest.mark.parametrize(("count", "k"), [(2000, 9), (2000, 30), (300, 300), (40, 1000), (40, 10**9)])
def test_the_k_best_of_many(grid, similarity, count, k):
    priors, gt = scene(count)
    priors = priors if grid else without_grid(priors, STRIDES)
    _ = priors.sides
    with Largest() as seen:
        pairs = plausible(priors, gt, similarity, floor=math.inf, k=k)
    # A block of pairs (four coordinates each), the windows of all ground truths, the answer.
    bound = max(8 * windows.BLOCK, 12 * count * len(STRIDES), len(pairs))
    assert seen.elements <= bound
    assert len(pairs) <= 4 * count * min(k, len(priors))


@pytest.mark.parametrize("k", [10**6, 10**9])
def test_a_k_beyond_all_priors_makes_no_table_of_its_width(k):
    priors, gt = scene(5)
    with Largest() as seen:
        pairs = plausible(priors, gt, partial(nwd, constant=100.0), floor=math.inf, k=k)
    assert seen.elements <= 8 * len(priors) * len(gt)
    assert len(pairs) == len(priors) * len(gt), "all of them are above 0"


@pytest.mark.parametrize("grid", [True, False])
@pytest.mark.parametrize(("count", "k"), [(2000, 9), (200, 400), (40, 10**9)])
def test_the_nearest_of_every_level(grid, count, k):
    priors, gt = scene(count)
    priors = priors if grid else without_grid(priors, STRIDES)
    _ = priors.sides, priors.levels
    with Largest() as seen:
        pairs = nearest_per_level(priors, gt, k)
    assert len(pairs) == count * sum(min(k, size) for size in priors.level_sizes)
    assert seen.elements <= max(8 * windows.BLOCK, 12 * count * len(STRIDES), len(pairs))


@pytest.mark.parametrize("grid", [True, False])
@pytest.mark.parametrize("rule", [PAA(), PAA(variant="mmdet"), OTA(), DCFL()])
def test_rules_that_ask_for_classes_make_no_table_of_pairs_and_classes(rule, grid):
    """The dearest is priors x classes, once; priors x ground truths would be 5 million, with classes 400."""
    priors, gt = scene(2000)
    priors = priors if grid else without_grid(priors, STRIDES)
    generator = torch.Generator().manual_seed(0)
    noise = 4 * torch.randn(len(priors), 4, generator=generator)
    predictions = Predictions(priors.boxes + noise, torch.rand(len(priors), 80, generator=generator))
    target = {"boxes": gt, "labels": torch.arange(len(gt)) % 80}
    with Largest() as seen:
        answer = rule(priors, target, predictions)
    assert answer.positive.sum() > 100
    assert seen.elements <= max(80 * len(priors), 8 * windows.BLOCK)


@pytest.mark.parametrize(("count", "k"), [(2000, 9), (1000, 100)])
def test_the_cheapest_by_any_cost(count, k):
    priors, gt = scene(count)
    with Largest() as seen:
        pairs = cheapest(priors, range(count), k, lambda place, some: -giou(priors.boxes[place], gt[some, None]))
    assert torch.bincount(pairs.gt).tolist() == [k] * count
    assert seen.elements <= max(8 * windows.BLOCK, len(pairs)) < len(priors) * count
    best = giou(priors.boxes, gt[:1]).topk(k).values
    assert torch.equal(pairs.value[pairs.gt == 0].sort(descending=True).values, best)


@pytest.mark.parametrize("rule", [TaskAligned(), SimOTA(), DynamicSoftLabel()])
@pytest.mark.parametrize("reach", [2.0, 400.0])
def test_the_rules_that_ask_the_network(rule, reach):
    """Boxes of two strides to each side, or so large that every one overlaps every ground truth: 11 million pairs."""
    priors, (_, gt) = Priors.points((512, 1024), STRIDES), scene(1000)
    half = reach * priors.strides[:, None]
    boxes = torch.cat((priors.centers - half, priors.centers + half), dim=1)
    scores = torch.rand(len(priors), 4, generator=torch.Generator().manual_seed(0))
    with Largest() as seen:
        answer = rule(priors, {"boxes": gt, "labels": torch.arange(1000) % 4}, Predictions(boxes, scores))
    assert answer.positive.sum() > 100
    assert seen.elements < len(priors) * len(gt) / 4  # of which each pair gathered has four coordinates
