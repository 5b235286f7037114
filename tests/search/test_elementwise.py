"""A similarity that is not elementwise, or not finite, and priors it says nothing about, are refused by name."""

import math
from functools import partial

import pytest
import torch
from torchvision.ops import box_iou

from labelkit import Priors
from labelkit.assigners import RFLA, RKA, MaxIoU, TopK
from labelkit.search.candidates import challengers, needs_size, plausible
from labelkit.search.pairs import Pairs
from labelkit.similarity import OfScaledPriors, dotd, gcd, giou, gjsd, iof, iou, nwd, rfd, simd
from tests.assigners.paths import PATHS, path
from tests.strategies import target_of

GT = torch.tensor([[3.0, 4, 20, 21], [30, 30, 50, 62]])


def anchors() -> Priors:
    return Priors.anchors((64, 64), (8, 16), ((16.0,), (32.0,)))


def table(prior, gt):
    return prior.reshape(-1, 4)[:, None, 0] + gt.reshape(-1, 4)[None, :, 0]


def undefined(prior, gt):
    return iou(prior, gt) / (iou(prior, gt) > 0.1)


def nowhere(prior, gt):
    return iou(prior, gt).masked_fill(prior[..., 0] == 8, math.nan)


def ranks(prior, gt):
    value = nwd(prior, gt, 100.0)
    return value / value.sum()


def of_two_rows_only(prior, gt):
    return iou(prior, gt) if prior.ndim == 2 else prior[:, 7]


@pytest.mark.parametrize(
    ("similarity", "words"),
    [
        (box_iou, "similarity must be elementwise.*which box_iou is not"),
        (partial(box_iou), "elementwise.*box_iou"),
        (OfScaledPriors(box_iou, 0.9), "elementwise.*box_iou"),
        (table, r"elementwise.*table is not.*; it gave \[3, 3\] of torch.float32 for \[3, 4\] and \[3, 4\]"),
        (lambda prior, gt: iou(prior, gt) > 0.5, r"elementwise.*; it gave \[3\] of torch.bool"),
        (lambda prior, gt: 0.5, "elementwise.*; it gave float"),
        (ranks, "ranks is not.*its value of a pair depends on the other pairs"),
        (of_two_rows_only, "of_two_rows_only is not.*but it raised IndexError"),
        (undefined, r"similarity must be finite, got (nan|inf) from undefined for prior and box \[\["),
        (nowhere, r"similarity must be finite, got nan from nowhere"),
        (
            lambda prior, gt: -1 / (1 - (prior[..., 0] == 8).float()) + 0 * gt[..., 0],
            "similarity must be finite, got -inf",
        ),
    ],
)
@pytest.mark.parametrize("way", PATHS)
def test_what_is_not_elementwise_and_finite_is_named(way, similarity, words):
    with path(way, anchors()) as priors:
        for rule in (
            TopK(3, similarity),
            MaxIoU(similarity=similarity),
            RKA(2, similarity),
            RFLA(similarity=similarity),
        ):
            with pytest.raises(ValueError, match=words):
                rule(priors, target_of(GT))


def test_challengers_ask_too():
    holders = Pairs(torch.tensor([0]), torch.tensor([0]), torch.tensor([0.1]))
    with pytest.raises(ValueError, match="elementwise.*box_iou"):
        challengers(anchors(), GT, box_iou, holders, lambda prior, gt: prior, len(anchors()))


def test_an_error_of_its_own_is_left_alone():
    with pytest.raises(ValueError, match="kind must be 'kl' or 'wasserstein'"):
        TopK(3, lambda prior, gt: rfd(prior, gt, "oops"))(anchors(), target_of(GT))


@pytest.mark.parametrize("way", PATHS)
def test_one_of_ones_own_is_as_good_as_the_librarys(way):
    with path(way, anchors()) as priors:
        own = TopK(3, lambda prior, gt: iou(prior, gt))(priors, target_of(GT))
        assert torch.equal(own.gt, TopK(3)(priors, target_of(GT)).gt)
        one = TopK(3, lambda prior, gt: iou(prior, gt))(priors, target_of(GT[:1]))
        assert torch.equal(one.gt, TopK(3)(priors, target_of(GT[:1])).gt)


def test_nothing_to_match_asks_nothing():
    assert len(plausible(anchors(), torch.zeros(0, 4), box_iou, floor=0.5)) == 0
    assert len(plausible(Priors.from_boxes(torch.zeros(0, 4)), GT, box_iou, floor=0.5)) == 0


@pytest.mark.parametrize("grid", [True, False])
@pytest.mark.parametrize(
    "similarity", [iou, iof, giou, rfd, gcd, gjsd, partial(rfd, kind="kl"), OfScaledPriors(gcd, 0.9)]
)
def test_points_have_no_size_to_compare(grid, similarity):
    points = Priors.points((64, 64), (8, 16))
    points = points if grid else Priors.from_boxes(points.boxes)
    with pytest.raises(
        ValueError, match="priors must have a positive size somewhere for .*which says nothing about points"
    ):
        needs_size(points, similarity)
    needs_size(anchors(), similarity)
    needs_size(Priors.from_boxes(torch.zeros(0, 4)), similarity)


@pytest.mark.parametrize(
    "similarity", [partial(nwd, constant=9.0), partial(dotd, constant=9.0), partial(simd, m=1.0, n=1.0)]
)
def test_what_knows_points_takes_them(similarity):
    points = Priors.points((64, 64), (8, 16))
    needs_size(points, similarity)
    assert RKA(2, similarity)(points, target_of(GT)).positives_per_gt(2).tolist() == [2, 2]
