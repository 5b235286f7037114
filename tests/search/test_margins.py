"""Every margin of the search, each by a case that is lost without it. A margin may add candidates, never labels."""

import math
import warnings
from functools import partial

import pytest
import torch
from torch import Tensor

from labelkit import Priors
from labelkit.assigners import ATSS, FCOS, RKA
from labelkit.search import windows
from labelkit.search.candidates import Pairs, nearest_per_level, plausible, within
from labelkit.search.reach import reach_of
from labelkit.similarity import OfScaledPriors, dotd, gcd, giou, gjsd, iof, iou, nwd, rfd, simd
from tests.assigners.paths import path
from tests.strategies import THIRDS, far_boxes, far_pyramid, target_of, without_grid

NWD, DOTD = partial(nwd, constant=12.8), partial(dotd, constant=12.8)
SIMD = partial(simd, m=6.13, n=4.59)
SIMILARITIES = {
    "iou": iou,
    "iof": iof,
    "nwd": NWD,
    "rfd": rfd,
    "rfd, wasserstein": partial(rfd, kind="wasserstein"),
    "simd": SIMD,
    "gcd": gcd,
    "gjsd": gjsd,
    "shrunk": OfScaledPriors(gcd, 0.9),
}


def found(priors: Priors, gt: Tensor, similarity, k: int) -> set[tuple[int, int]]:
    """The k best (prior, gt), with all that equal the last of them."""
    pairs = plausible(priors, gt, similarity, floor=math.inf, k=k)
    least = torch.full((len(gt),), math.inf)
    for g in range(len(gt)):
        own = pairs.value[pairs.gt == g].sort(descending=True).values[:k]
        least[g] = own[-1] if len(own) else math.inf
    best = pairs[pairs.value >= least[pairs.gt]]
    return set(zip(best.prior.tolist(), best.gt.tolist(), strict=True))


def lattice(size: int, shapes: int = 3, count: int = 200) -> tuple[Priors, Tensor]:
    """A strip of anchors `size` px long, and boxes of whole coordinates centred on lattice points far out."""
    priors = Priors.anchors((32, size), (8,), (tuple(8 * third for third in THIRDS[:shapes]),))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(size // 16, size // 8, (count,), generator=generator) * 8.0 + 4
    y = torch.randint(0, 4, (count,), generator=generator) * 8.0 + 4
    w, h = (2.0 * torch.randint(1, 8, (count,), generator=generator) for _ in "wh")
    return priors, torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), dim=1)


@pytest.mark.parametrize("size", [4096, 16384, 65536])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_the_reach_follows_the_coordinates(name, size):
    """A stored side is off by a rounding of its coordinate: at 65536 px by up to 0.008, of 8 px a thousandth."""
    priors, gt = lattice(size)
    with path("grid", priors) as given:
        on_grid = found(given, gt, SIMILARITIES[name], 1)
    assert on_grid == found(without_grid(priors, (8,)), gt, SIMILARITIES[name], 1)
    assert {g for _, g in on_grid} == set(range(len(gt))), "everybody overlaps somebody"


@pytest.mark.parametrize("constant", [1e9, 1e10])
@pytest.mark.parametrize("similarity", [nwd, dotd])
def test_the_floor_is_lowered_because_values_are_rounded(similarity, constant):
    """exp(-1e-8) rounds to 1: priors some pixels away are as good as the one at the place, and the reach of 1 is 0."""
    priors = Priors.anchors((64, 64), (8,), ((8.0,),))
    gt = torch.tensor([[8.0, 8, 16, 16]])
    similarity = partial(similarity, constant=constant)
    value = similarity(priors.boxes, gt)
    assert (value == 1).sum() > 1
    with path("grid", priors) as given:
        pairs = plausible(given, gt, similarity, floor=1.0)
    assert len(pairs) == int((value == 1).sum())


def huge(count: int = 60) -> tuple[Priors, Tensor]:
    """Anchors of 1e7 px around a few cells: their corners are stored to half a pixel, which moves their centres too."""
    priors = Priors.anchors((32, 48), (20 / 3,), (tuple(1e7 * third for third in THIRDS),))
    generator = torch.Generator().manual_seed(1)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([48.0, 32])
    return priors, torch.cat((center - 5, center + 5), dim=1)


def test_windows_follow_the_coordinates_of_the_priors():
    priors, gt = huge()
    with path("grid", priors) as given:
        on_grid = found(given, gt, DOTD, 1)
    assert on_grid == found(without_grid(priors, (8,)), gt, DOTD, 1)


@pytest.mark.parametrize("offset", [0.5, 1000.3, 12_500.3])
def test_windows_hold_all_cells_within_the_reach(offset):
    """The reach is exactly the distance of a cell, computed as its users do; the window's own arithmetic rounds too."""
    priors = Priors.points((40, 40), (10 / 3,), offset=offset)
    generator = torch.Generator().manual_seed(2)
    center = priors.centers[:1] + torch.rand(200, 2, generator=generator) * 40
    for cell in (0, 5, 77, 143):
        reach_x, reach_y = ((priors.centers[cell] - center).abs()[:, i, None] for i in (0, 1))
        window = windows.around(priors.grid, center, torch.stack((reach_x, reach_y)))
        held = [set() for _ in center]
        for prior, owner in windows.cells(priors.grid, window):
            for p, g in zip(prior.tolist(), owner.tolist(), strict=True):
                held[g].add(p)
        assert all(cell in one for one in held)


@pytest.mark.parametrize("grid", [True, False])
def test_within_holds_what_lies_inside_though_centres_are_rounded(grid):
    """Points a rounding inside the border of a box: the distance of the centres rounds to more than half the box."""
    points = Priors.points((8, 400), (8,), offset=12_500.5)
    y = float(points.centers[0, 1])
    generator = torch.Generator().manual_seed(3)
    x = points.centers[torch.randint(50, (300,), generator=generator), 0]
    left = torch.nextafter(x, x.new_full((), -math.inf))  # the last place outside
    width = 100 * torch.rand(300, generator=generator)
    boxes = torch.stack((left, torch.full_like(x, y - 3), left + width, torch.full_like(x, y + 3)), dim=1)
    priors = points if grid else without_grid(points, (8,))
    rule = FCOS(regress_ranges=[(0, math.inf)])
    inside = (points.centers[:, None, 0] > boxes[:, 0]) & (points.centers[:, None, 0] < boxes[:, 2])
    for g, box in enumerate(boxes):
        with path("grid", priors) as given:
            assert torch.equal(rule(given, target_of(box[None])).positive, inside[:, g])


def test_within_itself_is_wider_than_its_reach():
    """Without a grid, on every pass: all pairs whose exact distance is the reach, whatever float32 makes of it."""
    generator = torch.Generator().manual_seed(4)
    x = 1e5 + 100 * torch.rand(400, generator=generator)
    priors = Priors.from_boxes(torch.stack((x, x, x, x), dim=1), (150, 250))
    gt = torch.stack(
        (1e5 - torch.rand(50, generator=generator), 1e5 + 150 * torch.rand(50, generator=generator)), dim=1
    )
    exact_center = gt.double().mean(dim=1)
    center = gt.mean(dim=1)[:, None].expand(-1, 2)
    distance = (x.double() - exact_center[:, None]).abs()
    reach = distance[:, [7, 200]].float()
    for way in ("at once", "small blocks"):
        with path(way, priors) as given:
            pairs = [
                pair
                for p, g in within(given, center, lambda: torch.stack((reach, reach)))
                for pair in zip(p.tolist(), g.tolist(), strict=True)
            ]
        assert {(7, g) for g in range(50)} | {(200, g) for g in range(50)} <= set(pairs)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_nearest_are_found_though_their_places_are_rounded(k):
    """Within the radius of the nominal cells there may be fewer than k stored centres."""
    cases = [huge(), *((far_pyramid(seed)[0], far_boxes(far_pyramid(seed)[0], seed)) for seed in range(3, 40, 4))]
    for priors, gt in cases:
        with path("grid", priors) as given:
            on_grid = nearest_per_level(given, gt, k)
        plain = without_grid(priors, (8.0,) * len(priors.level_sizes))
        assert _as_set(on_grid) == _as_set(nearest_per_level(plain, gt, k))
        assert len(on_grid) == len(gt) * sum(min(k, size) for size in priors.level_sizes)


def _as_set(pairs: Pairs) -> set[tuple[int, int, float]]:
    return set(zip(pairs.prior.tolist(), pairs.gt.tolist(), pairs.value.tolist(), strict=True))


def test_atss_takes_a_candidate_that_is_exactly_at_the_threshold():
    """Of two values, equally often, mean + deviation (ddof = 0) is the larger: it passes, however sums round."""
    pair = Priors.anchors((8, 16), (8,), ((8.0,),)).boxes
    priors = Priors.from_boxes(pair.repeat_interleave(23, dim=0))
    generator = torch.Generator().manual_seed(5)
    x, y = torch.rand(500, generator=generator) * 2, torch.rand(500, generator=generator) * 2
    boxes = torch.stack((x, y, x + y + 9, y + x + 6), dim=1)
    values = iou(priors.boxes[:, None], boxes)
    assert (values > 0).all() and (values[0] > values[-1]).all()
    for box in boxes:
        assert ATSS(k=46, ddof=0)(priors, target_of(box[None])).gt.tolist() == [0] * 23 + [-1] * 23


def test_a_similarity_of_ones_own_may_bring_its_reach():
    """The contract of `reach_of`: six arguments, the answer in pixels; the search then looks nowhere else."""
    asked = []

    def closeness(prior: Tensor, gt: Tensor) -> Tensor:
        offset = (prior[..., :2] + prior[..., 2:] - gt[..., :2] - gt[..., 2:]).abs().amax(-1) / 2
        return 1 / (1 + offset)

    def reach(pw, ph, gw, gh, floor, hair):
        asked.append((pw.shape, gw.shape, floor.shape, hair.shape))
        away = (1 / floor - 1).expand(torch.broadcast_shapes(pw.shape, gw.shape))
        return away, away

    closeness.reach = reach
    assert reach_of(closeness) is reach
    priors, strides = far_pyramid(5)
    gt = far_boxes(priors, 5)
    with path("grid", priors) as given:
        on_grid = RKA(2, closeness)(given, target_of(gt))
    assert torch.equal(on_grid.gt, RKA(2, closeness)(without_grid(priors, strides), target_of(gt)).gt)
    rows = len(priors.grid)
    assert asked == [((1, rows), (len(gt), 1), (len(gt), 1), (rows,))]


def test_behind_a_partial_its_reach_gets_the_same_constants():
    def closeness(prior: Tensor, gt: Tensor, scale: float) -> Tensor:
        offset = (prior[..., :2] + prior[..., 2:] - gt[..., :2] - gt[..., 2:]).abs().amax(-1) / 2
        return 1 / (1 + offset / scale)

    def reach(pw, ph, gw, gh, floor, hair, scale):
        away = (scale * (1 / floor - 1)).expand(torch.broadcast_shapes(pw.shape, gw.shape))
        return away, away

    closeness.reach = reach
    bound = partial(closeness, scale=30.0)
    assert reach_of(bound).func is reach and reach_of(bound).keywords == {"scale": 30.0}
    priors, strides = far_pyramid(5)
    gt = far_boxes(priors, 5)
    with path("grid", priors) as given:
        on_grid = RKA(2, bound)(given, target_of(gt))
    assert torch.equal(on_grid.gt, RKA(2, bound)(without_grid(priors, strides), target_of(gt)).gt)


def test_a_similarity_without_a_reach_is_said_once(monkeypatch):
    def slow(prior: Tensor, gt: Tensor) -> Tensor:
        return iou(prior, gt)

    monkeypatch.setattr("labelkit.once._said", set())
    priors = Priors.anchors((256, 256), (4, 8), ((16.0,), (32.0,)))
    target = target_of(torch.tensor([[20.0, 20, 44, 40]]).repeat(60, 1))
    with pytest.warns(
        UserWarning, match=r"similarity slow has no reach.*slow.reach = function\(prior_width.*library.md"
    ):
        first = RKA(2, slow)(priors, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once, also where the filters have changed
        assert torch.equal(RKA(2, slow)(priors, target).gt, first.gt)
        RKA(2, partial(nwd, constant=5.0))(priors, target)
        RKA(2, giou)(priors, target)  # ours: nothing that a user could mend
        slow_too = partial(slow)
        RKA(2, slow_too)(Priors.from_boxes(priors.boxes), target)
    slow.reach = reach_of(iou)
    assert torch.equal(RKA(2, slow)(priors, target).gt, first.gt)
