"""The same labels with a grid and without one, at any coordinate and size, for every rule of the registry."""

import math
from functools import cache, partial
from typing import Any, cast

import pytest
import torch

from labelkit import Predictions, Priors
from labelkit.assigners import ASSIGNERS, FCOS, PAA, RKA, Assigner, MaxIoU, TopK
from labelkit.search import plausible
from labelkit.similarity import dotd, gcd, gjsd, iof, iou, nwd, rfd, simd
from tests import oracles
from tests.assigners.paths import path
from tests.assigners.test_all import ARGUMENTS
from tests.strategies import FAR, NUM_CLASSES, Batch, far_batch, far_boxes, target_of, without_grid

BATCHES, IMAGES = 130, 4  # 520 scenes
SIMD = partial(simd, m=6.13, n=4.59)
GIVEN = cast("dict[str, dict[str, Any]]", ARGUMENTS)
RULES: dict[str, Assigner] = {
    **{name: rule(**GIVEN.get(name, {})) for name, rule in ASSIGNERS.items()},
    "max_iou, owner gt": MaxIoU(low_quality_owner="gt", low_quality_ties="nearest"),
    "max_iou, nwd": MaxIoU(similarity=partial(nwd, constant=12.8)),
    "topk, k = 1": TopK(1),
    "topk, iof": TopK(3, iof),
    "rka, dotd": RKA(3, partial(dotd, constant=12.8)),
    "rka, simd": RKA(1, SIMD),
    "rka, gcd": RKA(2, gcd),
    "rka, rfd": RKA(2, rfd),
    "rka, gjsd": RKA(2, gjsd),
    "paa, mmdet": PAA(variant="mmdet"),
}


@cache
def scenes() -> list[tuple[Batch, Priors, Predictions]]:
    """Batches, their priors without a grid, and random predictions."""
    made = []
    for seed in range(BATCHES):
        batch, generator = far_batch(seed, IMAGES), torch.Generator().manual_seed(seed)
        noise = torch.randn((IMAGES, len(batch.priors), 4), generator=generator)
        scores = torch.rand((IMAGES, len(batch.priors), NUM_CLASSES), generator=generator)
        plain = without_grid(batch.priors, batch.level_strides)
        made.append((batch, plain, Predictions(batch.priors.boxes + noise, scores)))
    return made


@pytest.mark.parametrize("name", RULES)
def test_a_grid_changes_no_label(name):
    rule = RULES[name]
    positives = 0
    for seed, (batch, plain, predictions) in enumerate(scenes()):
        with path("grid", batch.priors) as priors:
            on_grid = rule(priors, batch.targets, predictions)
        without = rule(plain, batch.targets, predictions)
        assert torch.equal(on_grid.gt, without.gt), f"far_batch({seed})"
        assert torch.equal(on_grid.similarity, without.similarity), f"far_batch({seed})"
        positives += int(without.positive.sum())
    assert positives > 500, "the scenes must be about something"


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_far_away_the_labels_are_the_slow_loops(seed):
    batch, _, _ = scenes()[seed]
    rules = {
        "rka": (RKA(2, SIMD), partial(oracles.rka, similarity=SIMD, k=2)),
        "topk": (TopK(3), lambda p, g: oracles.topk(p, batch.priors.centers, g, TopK().similarity, 3)),
        "max_iou": (MaxIoU(), lambda p, g: oracles.max_iou(p, batch.priors.centers, g, MaxIoU().similarity)),
    }
    for rule, loop in rules.values():
        with path("grid in small chunks", batch.priors) as priors:
            oracles.assert_same(rule(priors, batch.targets[0]), loop(batch.priors.boxes, batch.boxes[0]))


@pytest.mark.parametrize("offset", FAR)
@pytest.mark.parametrize(
    "rule",
    [
        FCOS(),
        FCOS(center_radius=1.5),
        *(RKA(3, similarity) for similarity in (SIMD, partial(dotd, constant=12.8), partial(nwd, constant=12.8))),
    ],
)
def test_a_grid_of_points_changes_no_label(rule, offset):
    points = Priors.points((40, 72), (8, 16), offset=offset)
    plain = without_grid(points, (8, 16))
    boxes = Priors.anchors((40, 72), (8, 16), ((10.0,), (150.0,)), offset=offset)
    for seed in range(10):
        target = target_of(far_boxes(boxes, seed))
        with path("grid", points) as priors:
            on_grid = rule(priors, target)
        assert torch.equal(on_grid.gt, rule(plain, target).gt), seed


@pytest.mark.parametrize("way", ["at once", "grid", "small blocks"])
def test_flushed_denormals_choose_no_similarity_of_zero(way):
    priors = Priors.anchors((64, 64), (8,), ((8.0,),))
    target = target_of(torch.tensor([[10.0, 10, 12, 12]]))
    torch.set_flush_denormal(True)
    try:
        with path(way, priors) as given:
            answer = TopK(9)(given, target)
    finally:
        torch.set_flush_denormal(False)
    assert answer.positive.sum() == 1 and answer.similarity[answer.positive].tolist() == [0.0625]


@pytest.mark.parametrize("way", ["at once", "grid", "small blocks"])
def test_a_denormal_similarity_is_above_zero(way):
    """exp(-96) = 2e-42 is a float32; at exp(-120) nothing is left."""
    priors = Priors.anchors((16, 256), (16,), ((16.0,),))
    box = torch.tensor([[0.0, 0, 16, 16]]) + torch.tensor([[240.0 + 96 * 10, 0, 240 + 96 * 10, 0]])
    with path(way, priors) as given:
        answer = RKA(16, partial(nwd, constant=10.0))(given, target_of(box))
    values = torch.exp(-(priors.boxes[:, 0] - box[0, 0]).abs() / 10.0)
    assert 0 < values.max() < torch.finfo(torch.float32).tiny
    assert answer.positive.sum() == (values > 0).sum() < len(priors)
    assert math.isclose(float(answer.similarity.max()), float(values.max()), rel_tol=1e-3)


@pytest.mark.parametrize("k", [2, 9, 16])
@pytest.mark.parametrize("similarity", [iou, partial(dotd, constant=12.8)])
def test_some_rows_of_many_bound_the_k_best(similarity, k, monkeypatch):
    """27 shapes and levels: only some of them are asked for a bound, and a bound it is."""
    sizes = [[s * 2 ** (i / 3) for i in range(3)] for s in (16, 32, 64)]
    priors = Priors.anchors((256, 256), (8, 16, 32), sizes, (0.5, 1.0, 2.0))
    corner, side = (torch.rand(60, 2, generator=torch.Generator().manual_seed(i)) for i in range(2))
    gt = torch.cat((250 * corner, 250 * corner + 4 * 50**side), dim=1)
    asked, in_cells = [], plausible._in_cells

    def counted(*given):
        asked.append(in_cells(*given))
        return asked[-1]

    monkeypatch.setattr(plausible, "_in_cells", counted)
    with path("grid", priors):
        found = plausible.plausible(priors, gt, similarity, math.inf, k)
    side = math.isqrt(k - 1) + 1
    assert [len(one[0]) for one in asked] == [27, 6 * side * side], "so few of 27 times that"
    value = similarity(gt[:, None], priors.boxes[None])
    least = value.topk(k, dim=1).values[:, -1:]
    wanted = {(g, p) for g, p in (value >= least).nonzero().tolist()}
    assert wanted <= set(zip(found.gt.tolist(), found.prior.tolist(), strict=True))
    assert len(found) < len(gt) * len(priors) / 10
