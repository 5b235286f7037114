"""Priors without a grid by buckets: the same pairs and the same labels as from blocks, wherever the priors stand."""

import gc
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labelkit import Predictions, Priors
from labelkit.assigners import ATSS, FCOS, HAMBox, MaxIoU, NoisyAnchors, TopK
from labelkit.search import buckets, windows
from labelkit.search.candidates import plausible
from labelkit.search.reach import nearness, reach_of, reach_over
from labelkit.similarity import OfScaledPriors, dotd, gcd, gjsd, iof, iou, nwd, rfd, simd
from tests.assigners.paths import path
from tests.search.test_exact import RULES
from tests.search.test_exact import scenes as far_scenes
from tests.search.test_memory import Largest
from tests.strategies import scenes, shuffled, target_of


def closeness(prior: Tensor, gt: Tensor) -> Tensor:
    offset = (prior[..., :2] + prior[..., 2:] - gt[..., :2] - gt[..., 2:]).abs().amax(-1) / 2
    return 1 / (1 + offset)


def reach(pw, ph, gw, gh, floor, hair):
    away = (1 / floor - 1).expand(torch.broadcast_shapes(pw.shape, gw.shape))
    return away, away


def overlap(prior: Tensor, gt: Tensor) -> Tensor:
    return iou(prior, gt)


closeness.reach, overlap.reach = reach, reach_of(iou)
SIMILARITIES = {
    "iou": iou,
    "iof": iof,
    "nwd": partial(nwd, constant=12.8),
    "dotd": partial(dotd, constant=12.8),
    "rfd": rfd,
    "rfd, wasserstein": partial(rfd, kind="wasserstein"),
    "simd": partial(simd, m=6.13, n=4.59),
    "gcd": gcd,
    "gjsd": gjsd,
    "shrunk iou": OfScaledPriors(iou, 0.7),
    "shrunk": OfScaledPriors(partial(gcd), 0.9),
    "nearness": nearness,
    "one's own": closeness,
    "one's own, of sizes": overlap,
}
ASKING = ("max_iou", "topk", "s3fd", "hambox", "noisy", "rka", "rfla", "dcfl", "atss", "fcos")
every = pytest.mark.parametrize("name", SIMILARITIES)


def as_dict(pairs) -> dict[tuple[int, int], float]:
    found = dict(zip(zip(pairs.prior.tolist(), pairs.gt.tolist(), strict=True), pairs.value.tolist(), strict=True))
    assert len(found) == len(pairs), "no pair twice"
    return found


def check(boxes: Tensor, gt: Tensor, similarity, floor: float, k: int) -> int:
    """What `plausible` promises, against the dense table."""
    with path("buckets", Priors.from_boxes(boxes)) as priors:
        found = as_dict(plausible(priors, gt, similarity, floor, k))
    value = similarity(boxes[:, None], gt[None])
    assert all(value[p, g] == v for (p, g), v in found.items())
    bar = torch.full((len(gt),), floor)
    if k:
        least = value.sort(dim=0, descending=True).values[min(k, len(boxes)) - 1]
        bar = torch.minimum(bar, torch.where(least > 0, least, bar.new_tensor(math.inf if k < len(boxes) else 0)))
        # Where fewer than k are above 0, all of these.
        some = (value > 0).sum(dim=0) < k
        bar = torch.where(some, 0, bar)
    wanted = ((value >= bar) & (value > 0)).nonzero().tolist()
    assert {(p, g) for p, g in wanted} <= found.keys()
    return len(wanted)


def nasty(boxes: Tensor, seed: int) -> Tensor:
    """Boxes of every size among the given ones: points, lines, tiny, huge, far away, twice."""
    if len(boxes) == 0:
        return boxes
    pick = torch.Generator().manual_seed(seed)
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    scale = torch.tensor([1.0, 1, 1, 0, 1e-12, 1e-3, 0.7, 1.3, 30, 1e6])
    half = (half + 0.5) * scale[torch.randint(len(scale), half.shape, generator=pick)]
    far = torch.tensor([0.0, 0, 0, 0, 0, 1, 1e5, -1e6])
    center = center + far[torch.randint(len(far), half.shape, generator=pick)]
    again = torch.randint(len(boxes), (len(boxes) // 4,), generator=pick)
    boxes = torch.cat((center - half, center + half), dim=1)
    return torch.cat((boxes, boxes[again]))


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(SIMILARITIES)),
    scene=scenes("anchors"),
    seed=st.integers(0, 2**16),
    floor=st.sampled_from([0.05, 0.3, 0.7, 1.0, math.inf]),
    k=st.sampled_from([0, 1, 3, 9]),
    odd=st.booleans(),
)
def test_the_pairs_are_those_of_the_dense_table(name, scene, seed, floor, k, odd):
    boxes = shuffled(scene.priors, seed).boxes
    boxes = nasty(boxes, seed) if odd else boxes
    if len(boxes) and len(scene.boxes):
        check(boxes, scene.boxes, SIMILARITIES[name], floor, k)


@every
def test_far_away_too(name):
    wanted = sum(
        check(plain.boxes, batch.boxes[0], SIMILARITIES[name], 0.5, 1) for batch, plain, _ in far_scenes()[::16]
    )
    assert wanted > 20, "the scenes must be about something"


@pytest.mark.parametrize("rule", [name for name in RULES if name.startswith(ASKING)])
def test_buckets_change_no_label(rule):
    """Every rule that asks who is alike, on pyramids between 0 and 1e5 px with boxes from 0.01 px to 3e4 px."""
    positives = 0
    for seed, (batch, plain, predictions) in enumerate(far_scenes()[::18]):
        without = RULES[rule](plain, batch.targets, predictions)
        with path("buckets", plain) as priors:
            answer = RULES[rule](priors, batch.targets, predictions)
        assert torch.equal(answer.gt, without.gt), seed
        assert torch.equal(answer.similarity, without.similarity), seed
        positives += int(without.positive.sum())
    assert positives > 20


@every
def test_the_reach_of_a_class_holds_for_each_of_its_sizes(name):
    """Pairs of random sizes in random intervals, at the largest distance that the class says is of use."""
    pick = torch.Generator().manual_seed(0)
    low = 2 ** (8 * torch.rand(2, 1, 500, generator=pick))
    high = low * (1 + 0.5 * torch.rand(2, 1, 500, generator=pick))
    gt = 2 ** (8 * torch.rand(2, 300, 1, generator=pick))
    some = low + (high - low) * torch.rand(2, 300, 500, generator=pick).mul(1.4).sub(0.2).clamp(0, 1)
    similarity = SIMILARITIES[name]
    for floor in (0.02, 0.4, 0.8):
        lowered, hair = torch.tensor([[floor * (1 - 1e-5)]]), torch.full((500,), 1e-4)
        of_class = reach_over(similarity, low, high, gt, lowered, hair)
        own = reach_of(similarity)(*some, *gt, lowered, hair)
        for wide, narrow in zip(of_class, own, strict=True):
            assert ((wide >= narrow - 1e-3 - 1e-5 * narrow) | (narrow < 0)).all()


@pytest.mark.parametrize("count", [1, 2, 50])
def test_priors_of_one_size_at_one_place(count):
    boxes = torch.tensor([[10.0, 20, 30, 50]]).repeat(count, 1)
    gt = torch.tensor([[12.0, 20, 30, 50], [10, 20, 30, 50], [500, 500, 510, 510], [9, 9, 9.5, 9.5]])
    assert check(boxes, gt, iou, 0.5, 0) == 2 * count
    assert check(boxes, gt, SIMILARITIES["nwd"], math.inf, 1) >= count


@pytest.mark.parametrize("similarity", [iou, closeness])
def test_nothing_to_find(similarity):
    boxes = torch.tensor([[10.0, 20, 30, 50]]).repeat(3, 1)
    with path("buckets", Priors.from_boxes(boxes)) as priors:
        assert len(plausible(priors, boxes[:0], similarity, 0.5, 1)) == 0
        assert len(plausible(Priors.from_boxes(boxes[:0]), boxes, similarity, 0.5, 1)) == 0


@pytest.mark.parametrize("at", [0.0, 1e5, 3e6])
def test_a_bucket_is_widened_by_half_of_it(at):
    """Single priors far from their bucket's centre, and a ground truth just within the reach."""
    boxes = torch.tensor([[0.0, 0, 64, 64]]).repeat(4000, 1)
    pick = torch.Generator().manual_seed(1)
    boxes = boxes + 4000 * torch.rand(4000, 1, generator=pick) + at
    gt = boxes[:200] + torch.tensor([[21.0, 0, 21, 0]])  # 43 of 64 px overlap: IoU 0.506
    assert check(boxes, gt, iou, 0.5, 0) >= 200


def test_places_beyond_all_numbers_have_no_buckets():
    boxes = torch.tensor([[-3e38, 0, -3e38, 4], [2e38, 0, 2e38, 4], [0, 0, 4, 4]])
    assert buckets.build(Priors.from_boxes(boxes)) is None
    assert check(boxes, boxes[2:], iou, 0.5, 1) == 1


def test_classes_are_few_whatever_the_sizes():
    pick = torch.Generator().manual_seed(2)
    corner = 1000 * torch.rand(5000, 2, generator=pick)
    size = 2 ** (60 * torch.rand(5000, 2, generator=pick) - 30)
    found = buckets.build(Priors.from_boxes(torch.cat((corner, corner + size), dim=1)))
    assert 1 < len(found) <= buckets.CLASSES
    assert found.order.sort().values.tolist() == list(range(5000))
    assert len(found.start) <= 5 * 5000


def many(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    pick = torch.Generator().manual_seed(seed)
    corner, gt = 600 * torch.rand(count, 2, generator=pick), 600 * torch.rand(100, 2, generator=pick)
    side = 2 ** (3 + 4 * torch.rand(count, 2, generator=pick))
    boxes = torch.cat((corner, corner + side), dim=1)
    return boxes, torch.cat((gt, gt + 10 + 60 * torch.rand(100, 2, generator=pick)), dim=1)


def test_they_are_built_once_they_pay_and_kept_as_long_as_the_priors(monkeypatch):
    boxes, gt = many(20_000)
    built, build = [], buckets.build

    def counted(priors):
        built.append(len(priors))
        return build(priors)

    monkeypatch.setattr(buckets, "build", counted)
    priors, held = Priors.from_boxes(boxes), len(buckets._known)
    first = plausible(priors, gt[:20], iou, 0.4)
    assert not built, "20 ground truths don't pay"
    again = plausible(priors, gt[:20], iou, 0.4)
    assert torch.equal(plausible(priors, gt[:20], iou, 0.4).gt, again.gt) and built == [20_000]
    assert as_dict(first) == as_dict(again)
    plausible(priors, gt[:2], iou, 0.4)
    assert len(buckets._known) == held + 1
    del priors
    gc.collect()
    assert len(buckets._known) == held


@pytest.mark.parametrize("rule", [MaxIoU(), TopK(9), NoisyAnchors(), HAMBox(9, decoded_thresh=0.5), FCOS(), ATSS()])
def test_at_their_real_size_they_change_no_label_and_need_no_more_memory(rule, monkeypatch):
    boxes, gt = many(20_000)
    pick = torch.Generator().manual_seed(3)
    moved = boxes + 4 * torch.randn(boxes.shape, generator=pick)  # some are inverted
    predictions = Predictions(moved, torch.rand(len(boxes), 3, generator=pick))
    priors = Priors.from_boxes(boxes, strides=(8,))
    with Largest() as seen:
        answer = rule(priors, target_of(gt), predictions)
    built = buckets._known[priors.by_level[0] if isinstance(rule, ATSS) else priors]
    assert isinstance(built, buckets.Buckets)
    assert seen.elements <= 8 * windows.BLOCK < len(boxes) * len(gt)
    monkeypatch.setattr(buckets, "ENOUGH", 10**12)
    assert torch.equal(answer.gt, rule(Priors.from_boxes(boxes, strides=(8,)), target_of(gt), predictions).gt)
    assert answer.positive.sum() > 50


def test_most_pairs_are_left_out(monkeypatch):
    boxes, gt = many(20_000)
    found = buckets.build(Priors.from_boxes(boxes))
    for floor, share in ((0.5, 0.005), (0.3, 0.02)):
        window = found.reachable(gt, iou, torch.tensor([[floor]]))
        evaluated = sum(len(place) for place, _ in found.pairs(window))
        assert 0 < evaluated < share * len(boxes) * len(gt)
