"""ATSS against its slow loop, mmdet's fixture, and the statistics sources differ on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import NEGATIVE, Priors
from labelkit.assigners import ATSS
from labelkit.assigners.atss import mean_plus_std
from labelkit.search.pairs import Pairs
from labelkit.similarity import iou
from tests import oracles
from tests.assigners.paths import PATHS, path
from tests.strategies import batches, scenes, shuffled, target_of

rules = st.fixed_dictionaries({"k": st.sampled_from([1, 2, 3, 9, 10, 500]), "ddof": st.sampled_from([0, 1])})


def expect(assigner: ATSS, priors: Priors, gts: torch.Tensor) -> oracles.Expected:
    return oracles.atss(priors.boxes, priors.centers, priors.levels, gts, iou, **vars(assigner))


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=50)
@given(scene=scenes(), rules=rules)
def test_equals_the_slow_loop(way, scene, rules):
    assigner = ATSS(**rules)
    with path(way, scene.priors) as priors:
        oracles.assert_same(assigner(priors, scene.target), expect(assigner, priors, scene.boxes))


@settings(deadline=None, max_examples=30)
@given(scene=scenes(), rules=rules, seed=st.integers(0, 99))
def test_equals_the_slow_loop_on_priors_in_any_order(scene, rules, seed):
    priors = shuffled(scene.priors, seed)
    oracles.assert_same(ATSS(**rules)(priors, scene.target), expect(ATSS(**rules), priors, scene.boxes))


@pytest.mark.parametrize("way", ["grid in small chunks", "small blocks"])
@settings(deadline=None, max_examples=15)
@given(batch=batches(), rules=rules)
def test_a_batch_is_its_images(way, batch, rules):
    assigner = ATSS(**rules)
    with path(way, batch.priors) as priors:
        together = assigner(priors, batch.targets)
        for image, boxes in enumerate(batch.boxes):
            oracles.assert_same(together[image], expect(assigner, priors, boxes))


def test_mmdets_fixture(device):
    boxes = torch.tensor([[0.0, 0, 10, 10], [10, 10, 20, 20], [5, 5, 15, 15], [32, 32, 38, 42]])
    gts = torch.tensor([[0.0, 0, 10, 9], [0, 10, 10, 19]], device=device)
    answer = ATSS(k=9)(Priors.from_boxes(boxes).to(device), {"boxes": gts})
    assert answer.gt.tolist() == [0, NEGATIVE, NEGATIVE, NEGATIVE]


def threshold(values: list[float], ddof: int) -> float:
    nothing = torch.zeros(len(values), dtype=torch.int64)
    return mean_plus_std(Pairs(nothing, nothing, torch.tensor(values)), 1, ddof).item()


def test_the_deviation_is_unbiased_unless_asked():
    values = [0.0, 0.0, 0.6, 0.6]
    assert threshold(values, 0) == pytest.approx(0.6)
    assert threshold(values, 1) == pytest.approx(0.3 + 0.3 * (4 / 3) ** 0.5)


def test_biased_and_unbiased_part_where_half_the_candidates_agree():
    """Two levels, one good anchor and one bad: the biased threshold sits exactly on the good one."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [-35, -35, 45, 45]])
    priors, target = Priors.from_boxes(boxes, (1, 1)), target_of(torch.tensor([[1.0, 1, 9, 9]]))
    assert ATSS(ddof=0)(priors, target).gt.tolist() == [0, NEGATIVE]
    assert ATSS(ddof=1)(priors, target).gt.tolist() == [NEGATIVE, NEGATIVE]


def test_equal_ious_all_reach_their_own_mean():
    """In float32 the mean of equal numbers can exceed them; then a ground truth would lose all its priors."""
    for n in range(1, 46):
        value = 0.1 + 0.017 * n
        assert threshold([value] * n, 1) == torch.tensor(value).item()


def test_a_single_candidate_is_positive():
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10]]))
    assert ATSS()(priors, target_of(torch.tensor([[2.0, 2, 30, 30]]))).gt.tolist() == [0]


def test_the_centre_must_lie_inside_by_a_hundredth_of_a_pixel():
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 10, 10]]))
    left = [4.98, 4.995]
    got = [ATSS()(priors, target_of(torch.tensor([[x, 0, 20.0, 10]]))).gt.item() for x in left]
    assert got == [0, NEGATIVE]


def test_the_conflict_is_among_those_that_chose_the_prior():
    """The second ground truth overlaps the prior more, but its own candidates are better: the first keeps it."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [2, 0, 12, 10], [40, 0, 50, 10]])
    gts = torch.tensor([[0.0, 0, 10, 6], [1.0, 0, 11, 10]])
    answer = ATSS(k=3, ddof=0)(Priors.from_boxes(boxes), target_of(gts))
    assert iou(boxes[0], gts[1]) > iou(boxes[0], gts[0])
    assert answer.gt.tolist() == [0, 1, NEGATIVE, NEGATIVE]


def test_k_is_counted_on_each_level():
    priors = Priors.anchors((64, 64), (8, 16, 64), ((64.0,), (64.0,), (64.0,)))
    target = target_of(torch.tensor([[0.0, 0, 64, 64]]))
    levels = priors.levels[ATSS(k=1, ddof=0)(priors, target).positive]
    assert levels.tolist() == [2], "one candidate a level, the centred one is best"


@pytest.mark.parametrize("image_size", [(8, 400), (400, 8), (16, 200)])
def test_a_level_too_narrow_for_a_square_of_nearest_cells(image_size):
    priors = Priors.anchors(image_size, (8, 32), ((16.0, 32.0), (64.0, 90.0)))
    gts = torch.tensor([[1.0, 1, 30, 7], [0, 2, 7, 200], [100, 3, 300, 8]])
    for k in (3, 9, 20):
        oracles.assert_same(ATSS(k)(priors, target_of(gts)), expect(ATSS(k), priors, gts))


def test_how_many_ground_truths_got_nothing_is_there_to_read():
    priors = Priors.anchors((64, 64), (16,), ((32.0,),))
    answer = ATSS()(priors, target_of(torch.tensor([[14.0, 14, 18, 18], [0, 0, 40, 40]])))
    assert answer.positives_per_gt(2).tolist() == [0, 1]


def test_nothing_to_assign():
    priors = Priors.points((32, 32), (8,))
    assert ATSS()(priors, target_of(torch.zeros(0, 4))).negative.all()
    assert len(ATSS()(Priors.from_boxes(torch.zeros(0, 4)), target_of(torch.tensor([[0.0, 0, 1, 1]]))).gt) == 0


def test_bad_arguments_are_named(unchecked):
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        ATSS(k=0)
    with pytest.raises(ValueError, match="ddof must be 0 or 1, got 2"):
        ATSS(ddof=2)
