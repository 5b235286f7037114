"""Boxes that are asked once find their ground truths in a table: the pairs are those of the dense table, anywhere."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labelkit import Predictions, Priors
from labelkit.assigners import HAMBox
from labelkit.search import lookup, windows
from labelkit.search.candidates import overlapping
from labelkit.similarity import iou
from tests.search.test_buckets import many, nasty
from tests.search.test_memory import Largest
from tests.strategies import scenes, shuffled, target_of


def listed(pairs) -> list[tuple[int, int, float]]:
    """(gt, prior, value), in the order they come in."""
    return list(zip(pairs.gt.tolist(), pairs.prior.tolist(), pairs.value.tolist(), strict=True))


def by_table(boxes: Tensor, gt: Tensor, floor: float) -> list[tuple[int, int, float]]:
    found = lookup._looked_up(Priors(boxes, (len(boxes),)), gt, floor)
    assert found is not None
    return listed(found)


def dense(boxes: Tensor, gt: Tensor, floor: float) -> list[tuple[int, int, float]]:
    value = iou(boxes[None], gt[:, None])
    return [(g, p, value[g, p].item()) for g, p in (value >= floor).nonzero().tolist()]


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(lookup, "ENOUGH", 0)
    monkeypatch.setattr(lookup, "DEARER", 0)


@settings(deadline=None, max_examples=40)
@given(
    scene=scenes("anchors"),
    seed=st.integers(0, 2**16),
    floor=st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0]),
    at=st.sampled_from([0.0, 1e5, -3e6]),
    wide=st.sampled_from(
        [(torch.float32, torch.float32), (torch.float64, torch.float32), (torch.float32, torch.float64)]
    ),
    odd=st.booleans(),
)
def test_the_pairs_are_those_of_the_dense_table(scene, seed, floor, at, wide, odd):
    boxes = shuffled(scene.priors, seed).boxes
    boxes = nasty(boxes, seed) if odd else boxes
    boxes = torch.cat((boxes, scene.boxes, boxes[:, [2, 3, 0, 1]])).to(wide[0]) + at
    gt = scene.boxes.to(wide[1]) + at
    gt = gt[(gt[:, 2:] > gt[:, :2]).all(dim=1)]  # far away a short side is lost
    # Where entries or cells would be many for so few boxes, blocks answer.
    assert sorted(listed(overlapping(boxes, gt, floor))) == dense(boxes, gt, floor)


@pytest.mark.parametrize("floor", [0.1, 0.2, 1 / 3, 0.5, 0.7, 0.9, 1.0])
def test_pairs_at_the_floor_itself(floor):
    """Boxes shifted, grown and shrunk until their overlap is just what is asked for: in x, in y and in both."""
    pick = torch.Generator().manual_seed(0)
    corner = 3000 * torch.rand(400, 2, generator=pick, dtype=torch.float64)
    side = 2 ** (10 * torch.rand(400, 2, generator=pick, dtype=torch.float64) - 2)
    shift = side * torch.tensor([[1.0, 0]]) * (1 - floor) / (1 + floor)
    across = [torch.cat((corner + some, corner + some + side), dim=1) for some in (shift, shift.flip(1), -shift)]
    root = math.sqrt(floor)
    longer = [torch.cat((corner, corner + side * torch.tensor(by)), dim=1) for by in ([1 / floor, 1], [floor, 1])]
    sized = [torch.cat((corner, corner + side * by), dim=1) for by in (root, 1 / root)]
    # As wide as it may be, and as far to one side as it then may stand.
    far = [torch.cat((corner - side * torch.tensor([1 / floor - 1, 0]), corner + side), dim=1)]
    gt = torch.cat((corner, corner + side), dim=1).float()
    found = 0
    for boxes in (*across, *longer, *sized, *far):
        wanted = dense(boxes.float(), gt, floor)
        assert by_table(boxes.float(), gt, floor) == wanted
        found += sum(g == p for g, p, _ in wanted)
    assert found > 400


@pytest.mark.parametrize("floor", [0.5, 0.7])
def test_most_pairs_are_left_out(floor, monkeypatch):
    evaluated, score = 0, lookup.scorer
    boxes, gt = many(20_000)

    def counting(*given):
        own = score(*given)

        def counted(prior, owner):
            nonlocal evaluated
            evaluated += len(prior)
            return own(prior, owner)

        return counted

    monkeypatch.setattr(lookup, "scorer", counting)
    wanted = dense(boxes, gt, floor)
    assert by_table(boxes, gt, floor) == wanted
    assert len(wanted) < evaluated < len(boxes) * len(gt) / 50


def test_what_the_bounds_do_not_hold_for_goes_another_way():
    boxes = torch.tensor([[0.0, 0, 1e-18, 1e-18], [0, 0, 8, 8], [0, 0, 1e17, 1e17], [-3e38, -3e38, 3e38, 3e38]])
    for gt in (boxes[:1], boxes[2:3]):
        assert lookup._looked_up(Priors(boxes, (4,)), gt, 0.5) is None
        assert overlapping(boxes, gt, 0.5).value.tolist() == [1.0]
    far = torch.tensor([[0.0, 0, 1, 1e-9], [1e12, 0, 1e12 + 65536, 1e-9]])
    assert lookup._looked_up(Priors(boxes, (4,)), far, 0.5) is None, "so many cells"
    assert by_table(boxes, boxes[1:2], 0.5) == [(0, 1, 1.0)]
    assert len(overlapping(boxes[:0], boxes[:1], 0.5)) == len(overlapping(boxes, boxes[:0], 0.5)) == 0


def test_where_a_table_narrows_nothing_blocks_answer(monkeypatch):
    """All boxes of one size at one place."""
    monkeypatch.setattr(lookup, "DEARER", 4)
    boxes = torch.tensor([[10.0, 20, 30, 50]]).repeat(2000, 1)
    assert lookup._looked_up(Priors(boxes, (2000,)), boxes[:200], 0.5) is None
    assert len(overlapping(boxes, boxes[:200], 0.5)) == 2000 * 200


def test_at_its_real_size_it_changes_no_label_and_needs_little_memory(monkeypatch):
    monkeypatch.undo()
    boxes, gt = many(20_000)
    pick = torch.Generator().manual_seed(3)
    moved = boxes + 4 * torch.randn(boxes.shape, generator=pick)  # some are inverted
    predictions, rule = Predictions(moved, torch.rand(len(boxes), 3, generator=pick)), HAMBox(9, decoded_thresh=0.6)
    asked, looked_up = [], lookup._looked_up

    def counted(*given):
        asked.append(looked_up(*given))
        return asked[-1]

    monkeypatch.setattr(lookup, "_looked_up", counted)
    with Largest() as seen:
        answer = rule(Priors.from_boxes(boxes), target_of(gt), predictions)
    assert len(asked) == 1 and asked[0] is not None and len(asked[0]) > 100
    assert seen.elements <= 8 * windows.BLOCK < len(boxes) * len(gt)
    monkeypatch.setattr(lookup, "ENOUGH", 10**12)
    assert torch.equal(answer.gt, rule(Priors.from_boxes(boxes), target_of(gt), predictions).gt)
    assert answer.positive.sum() > 50
