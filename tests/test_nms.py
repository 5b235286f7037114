"""Suppression against a slow loop, against torchvision, and against published values."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import ops

from labelkit import neighbours
from labelkit import nms as suppression
from labelkit.nms import nms, soft_nms
from labelkit.similarity import ciou, diou, giou, iof, iou, nwd, rfd

# mmcv's own test case: four boxes, the second best and the third overlap.
MMCV_BOXES = torch.tensor([[6.0, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]])
MMCV_SCORES = torch.tensor([0.6, 0.9, 0.7, 0.2])


def slow_nms(boxes, scores, threshold, similarity=iou, labels=None):
    """The definition, one pair at a time."""
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i))
    kept = []
    for i in order:
        rivals = [k for k in kept if labels is None or labels[k] == labels[i]]
        # The threshold rounded to the boxes' dtype, as the promise says.
        if not any(similarity(boxes[k], boxes[i]) > threshold for k in rivals):
            kept.append(i)
    return kept


def slow_soft_nms(boxes, scores, method, sigma, threshold, score_threshold, similarity=iou, labels=None):
    scores = scores.clone()
    todo = {i for i in range(len(boxes)) if scores[i] >= score_threshold}
    kept = []
    while todo:
        best = min(todo, key=lambda i: (-scores[i].item(), i))
        todo.remove(best)
        kept.append(best)
        for i in sorted(todo):
            if labels is not None and labels[i] != labels[best]:
                continue
            s = similarity(boxes[best], boxes[i]).clamp(min=0)
            if method == "gaussian":
                scores[i] *= torch.exp(-s * s / sigma)
            elif s >= threshold:
                scores[i] *= 1 - s
            if scores[i] < score_threshold:
                todo.remove(i)
    kept.sort(key=lambda i: (-scores[i].item(), i))
    return kept, scores[kept]


@st.composite
def detections(draw, ties=True):
    """Boxes on a coarse grid (many equal similarities and shared edges, some of zero size), tied scores, labels."""
    count = draw(st.integers(0, 14))
    whole = st.integers(0, 8)
    corner = draw(st.lists(st.tuples(whole, whole), min_size=count, max_size=count))
    side = draw(st.lists(st.tuples(whole, whole), min_size=count, max_size=count))
    start = torch.tensor(corner, dtype=torch.float32).reshape(-1, 2)
    boxes = torch.cat([start, start + torch.tensor(side, dtype=torch.float32).reshape(-1, 2)], dim=1)
    scores = draw(st.lists(st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.75, 1.0]), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return boxes, torch.tensor(scores, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)


def random_detections(seed, count, spread=200.0):
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=generator) * spread
    boxes = torch.cat([start, start + 5 + torch.rand(count, 2, generator=generator) * 60], dim=1)
    scores = torch.randperm(count, generator=generator).float() / count  # no two equal
    return boxes, scores, torch.randint(0, 4, (count,), generator=generator)


def test_published_greedy_value(device):
    kept = nms(MMCV_BOXES.to(device), MMCV_SCORES.to(device), 0.3)
    assert kept.tolist() == [1, 0, 3]
    assert kept.dtype == torch.int64
    assert kept.device.type == torch.device(device).type


@pytest.mark.parametrize(
    ("method", "expected"),
    [("linear", [0.9, 0.6, 0.29024392, 0.2]), ("gaussian", [0.9, 0.59630775, 0.3527551, 0.18650459])],
)
def test_published_soft_values(device, method, expected):
    kept, scores = soft_nms(
        MMCV_BOXES.to(device), MMCV_SCORES.to(device), method=method, sigma=0.5, threshold=0.3, score_threshold=0.01
    )
    assert kept.tolist() == [1, 0, 2, 3]
    assert scores.device.type == torch.device(device).type
    torch.testing.assert_close(scores.cpu(), torch.tensor(expected))


@settings(deadline=None, max_examples=150)
@given(detections(), st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]), st.booleans(), st.sampled_from([iou, giou, iof]))
def test_greedy_is_the_slow_loop(case, threshold, per_class, similarity):
    boxes, scores, labels = case
    labels = labels if per_class else None
    kept = nms(boxes, scores, threshold, similarity, labels)
    assert kept.tolist() == slow_nms(boxes, scores, threshold, similarity, labels)


@settings(deadline=None, max_examples=150)
@given(
    detections(),
    st.sampled_from(["linear", "gaussian"]),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.booleans(),
    st.sampled_from([iou, giou, iof]),
)
def test_soft_is_the_slow_loop(case, method, threshold, per_class, similarity):
    boxes, scores, labels = case
    options = {"method": method, "sigma": 0.5, "threshold": threshold, "score_threshold": 0.01}
    options |= {"similarity": similarity, "labels": labels if per_class else None}
    kept, new = soft_nms(boxes, scores, **options)
    slow_kept, slow_new = slow_soft_nms(boxes, scores, **options)
    assert kept.tolist() == slow_kept
    assert torch.equal(new, slow_new)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_equals_torchvision(device, seed, threshold):
    boxes, scores, labels = (t.to(device) for t in random_detections(seed, 400))
    assert torch.equal(nms(boxes, scores, threshold), ops.nms(boxes, scores, threshold))
    expected = ops.batched_nms(boxes, scores, labels, threshold)
    assert torch.equal(nms(boxes, scores, threshold, labels=labels), expected)


def test_the_threshold_itself_does_not_suppress():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])  # IoU exactly 1/2
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.499).tolist() == [0]
    # Soft-NMS decays at the threshold, as its paper writes it.
    assert soft_nms(boxes, scores, method="linear", threshold=0.5)[1].tolist() == pytest.approx([0.9, 0.4])


def test_equal_scores_keep_the_lower_index(device):
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 40, device=device)
    scores = torch.full((40,), 0.5, device=device)
    assert nms(boxes, scores, 0.5).tolist() == [0]
    assert nms(boxes, scores, 1.0).tolist() == list(range(40))
    assert soft_nms(boxes, scores, method="linear")[0].tolist() == [0]
    assert soft_nms(boxes, scores, method="gaussian", sigma=1.0)[0].tolist()[0] == 0


def test_classes_never_touch_each_other():
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    scores = torch.tensor([0.7, 0.9, 0.8])
    labels = torch.tensor([4, 4, 7])
    assert nms(boxes, scores, 0.5, labels=labels).tolist() == [1, 2]
    kept, new = soft_nms(boxes, scores, method="gaussian", sigma=1.0, labels=labels)
    assert kept.tolist() == [1, 2, 0]
    assert new.tolist() == pytest.approx([0.9, 0.8, 0.7 * 2.718281828**-1])


def test_the_kept_box_stands_first():
    small, big = [4.0, 4, 6, 6], [0.0, 0, 10, 10]
    scores = torch.tensor([0.9, 0.8])
    # iof(small, big) = 1 suppresses; iof(big, small) = 0.04 does not.
    assert nms(torch.tensor([small, big]), scores, 0.5, iof).tolist() == [0]
    assert nms(torch.tensor([big, small]), scores, 0.5, iof).tolist() == [0, 1]
    assert nms(torch.tensor([big, small]), scores, 0.2, rfd).tolist() == slow_nms(
        torch.tensor([big, small]), scores, 0.2, rfd
    )


def test_any_similarity():
    boxes = torch.tensor([[0.0, 0, 4, 4], [5, 0, 9, 4], [40, 40, 44, 44]])  # neighbours without overlap
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1, 2]
    assert nms(boxes, scores, 0.5, partial(nwd, constant=12.8)).tolist() == [0, 2]


def test_negative_similarity_decays_nothing():
    boxes = torch.tensor([[0.0, 0, 4, 4], [90, 90, 94, 94]])
    scores = torch.tensor([0.9, 0.8])
    for method in ("linear", "gaussian"):
        _, new = soft_nms(boxes, scores, method=method, threshold=-1.0, similarity=giou)
        assert new.tolist() == scores.tolist()


def test_score_threshold_drops_from_the_start():
    boxes, scores = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0.0005])
    assert len(soft_nms(boxes, scores)[0]) == 0
    assert len(soft_nms(boxes, scores, score_threshold=0.0)[0]) == 1


def test_nothing_in_nothing_out(device):
    boxes, scores = torch.zeros(0, 4, device=device), torch.zeros(0, device=device)
    labels = torch.zeros(0, dtype=torch.int64, device=device)
    assert nms(boxes, scores, 0.5).shape == nms(boxes, scores, 0.5, labels=labels).shape == (0,)
    kept, new = soft_nms(boxes, scores, labels=labels)
    assert kept.shape == new.shape == (0,)


def test_half_precision_is_computed_wider(device):
    boxes = torch.tensor([[0.0, 0, 300, 300], [0, 0, 300, 200], [400, 0, 700, 300]], device=device)
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    # 300 * 300 overflows float16: computed there, nothing would be comparable.
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert nms(boxes.to(dtype), scores.to(dtype), 0.5).tolist() == [0, 2]
    assert soft_nms(boxes.half(), scores.half())[1].dtype == torch.float32
    assert soft_nms(boxes.double(), scores.double())[1].dtype == torch.float64


def test_inputs_are_left_alone():
    boxes, scores, labels = random_detections(5, 50)
    before = [t.clone() for t in (boxes, scores, labels)]
    nms(boxes, scores, 0.3, labels=labels)
    soft_nms(boxes, scores, labels=labels)
    assert all(torch.equal(a, b) for a, b in zip(before, (boxes, scores, labels), strict=True))


BOXES, SCORES = torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5]]), torch.tensor([0.9, 0.8])


@pytest.mark.parametrize("suppress", [partial(nms, threshold=0.5), soft_nms])
@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        (torch.tensor([[0.0, 0, 4, 4], [1, float("nan"), 5, 5]]), SCORES, None, r"boxes\[1\]"),
        (torch.tensor([[0.0, 0, 4, 4], [5, 1, 1, 5]]), SCORES, None, r"boxes\[1\].*inverted"),
        (BOXES, torch.tensor([0.9, float("nan")]), None, r"scores\[1\] must be finite, got nan"),
        (BOXES, torch.tensor([float("inf"), 0.1]), None, r"scores\[0\] must be finite, got inf"),
        (BOXES, torch.tensor([0.9]), None, r"scores must be a tensor of shape \[2\], one value a box, got \[1\]"),
        (BOXES, [0.9, 0.8], None, r"scores must be a tensor .* got list"),
        (BOXES, SCORES.to("meta"), None, r"scores must be on the device of boxes, cpu, got meta"),
        (BOXES, SCORES, torch.tensor([[0, 1]]), r"labels must be a tensor of shape \[2\]"),
        (BOXES, SCORES, torch.tensor([0.0, 1.0]), r"labels must be integers, got torch.float32"),
    ],
)
def test_bad_input_is_named(suppress, boxes, scores, labels, message, unchecked):
    with pytest.raises(ValueError, match=message):
        suppress(boxes, scores, labels=labels)


def test_bad_soft_arguments_are_named():
    with pytest.raises(ValueError, match=r"scores\[1\] must not be negative, got -0.5"):
        soft_nms(BOXES, torch.tensor([0.9, -0.5]))
    with pytest.raises(ValueError, match="method must be 'linear' or 'gaussian', got 'hard'"):
        soft_nms(BOXES, SCORES, method="hard")
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        soft_nms(BOXES, SCORES, method="gaussian", sigma=0)


@pytest.mark.parametrize("suppress", [partial(nms, threshold=0.5), soft_nms])
@pytest.mark.parametrize("labels", [None, torch.tensor([3, 3])])
@pytest.mark.parametrize("count", [1, 2])
def test_a_table_in_place_of_values_is_refused(suppress, labels, count):
    labels = None if labels is None else labels[:count]
    with pytest.raises(ValueError, match="similarity must be elementwise.* which box_iou is not"):
        suppress(BOXES[:count], SCORES[:count], similarity=ops.box_iou, labels=labels)
    with pytest.raises(ValueError, match="it raised TypeError"):
        suppress(BOXES[:count], SCORES[:count], similarity=lambda a: a, labels=labels)


@pytest.mark.parametrize("value", [float("nan"), "0.5", None])
def test_a_threshold_that_is_no_number_is_named(value, unchecked):
    with pytest.raises(ValueError, match=f"^threshold must be a number, got {value!r}"):
        nms(BOXES, SCORES, value)
    for name in ("threshold", "score_threshold", "sigma"):
        with pytest.raises(ValueError, match=f"^{name} must be a number, got {value!r}"):
            soft_nms(BOXES, SCORES, **{name: value})


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_an_undefined_similarity_costs_no_box_its_score(method):
    def nowhere(a, b):
        return iou(a, b) * torch.nan

    assert nms(BOXES, SCORES, 0.5, nowhere).tolist() == [0, 1]
    kept, scores = soft_nms(BOXES, SCORES, method=method, similarity=nowhere)
    assert kept.tolist() == [0, 1] and torch.equal(scores, SCORES)


@pytest.mark.parametrize("labels", [False, True])
def test_memory_follows_the_boxes_not_their_square(labels, monkeypatch):
    """No call compares more pairs than a block may hold, whatever lies on what."""
    for name, value in (("CHUNK", 1 << 10), ("GPU_CHUNK", 1 << 10)):
        monkeypatch.setattr(neighbours, name, value)
    boxes, scores, classes = random_detections(1, 1000, spread=5000.0)
    boxes[:500] = boxes[0]
    for suppress in (partial(nms, threshold=0.5), partial(nms, threshold=1.0), soft_nms):
        calls = []

        def watched(a, b, calls=calls):
            calls.append(torch.broadcast_shapes(a.shape, b.shape)[:-1].numel())
            return iou(a, b)

        suppress(boxes, scores, similarity=watched, labels=classes if labels else None)
        assert 0 < max(calls) < (1 << 10) + len(boxes)


def test_no_step_is_taken_for_a_box(monkeypatch):
    """On a GPU a step is a launch: their number follows the blocks."""
    boxes, scores, _ = random_detections(2, 4000, spread=20_000.0)
    calls = 0

    def counted(a, b):
        nonlocal calls
        calls += 1
        return iou(a, b)

    monkeypatch.setattr(suppression, "ASK_FOR_OVERLAP", (counted,))
    kept = nms(boxes, scores, 0.5, counted)
    assert len(kept) > 3900 and calls <= 8


@st.composite
def far_apart(draw):
    """Detections among which some are long, some far outside and some points: what a grid of cells might lose."""
    boxes, scores, labels = draw(detections())
    scale = draw(st.sampled_from([1.0, 1e-3, 1e6, 1e30 / 8]))
    at = draw(st.sampled_from([0.0, -4.0, 1e7]))
    boxes = boxes * (scale if scale < 1e17 else 1e16) + at
    for row in draw(st.lists(st.integers(0, max(0, len(boxes) - 1)), max_size=2 if len(boxes) else 0)):
        boxes[row] = boxes[row] + draw(st.sampled_from([0.0, 1e12, -1e12]))
        boxes[row, 2:] += draw(st.sampled_from([0.0, 3.0, 1e15]))
    return boxes, scores, labels


@pytest.mark.parametrize("similarity", [iou, iof, diou, ciou, giou, partial(nwd, constant=4.0)])
@settings(deadline=None, max_examples=25)
@given(far_apart(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans(), st.sampled_from([1, 3, 5]))
def test_blocks_and_cells_change_nothing(similarity, case, threshold, per_class, block):
    boxes, scores, labels = case
    labels = labels if per_class else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppression, "BLOCK", block)
        patch.setattr(suppression, "EDGES", 2 * block)
        for name in ("CHUNK", "GPU_CHUNK"):
            patch.setattr(neighbours, name, 2 * block)
        kept = nms(boxes, scores, threshold, similarity, labels)
        soft = soft_nms(boxes, scores, threshold=threshold, similarity=similarity, labels=labels)
    assert kept.tolist() == slow_nms(boxes, scores, threshold, similarity, labels)
    slow_kept, slow_new = slow_soft_nms(boxes, scores, "linear", 0.5, threshold, 1e-3, similarity, labels)
    assert soft[0].tolist() == slow_kept
    assert torch.equal(soft[1], slow_new)


@settings(deadline=None, max_examples=100)
@given(far_apart(), st.booleans())
def test_every_pair_with_a_common_point_is_found_once(case, per_class):
    boxes, _, labels = case
    near = neighbours.Neighbours(boxes, labels if per_class else None, touching=True)
    everyone = torch.arange(len(boxes))
    pairs = [
        pair
        for some, others in near.pairs(everyone, near.arranged(everyone.flip(0)))
        for pair in zip(*(side.flatten().tolist() for side in torch.broadcast_tensors(some, others)), strict=True)
    ]
    assert len(set(pairs)) == len(pairs)
    assert near.counts(everyone, near.arranged(everyone)).tolist() == [
        sum(some == chosen for some, _ in pairs) for chosen in range(len(boxes))
    ]
    for i in range(len(boxes)):
        for j in range(len(boxes)):
            if per_class and labels[i] != labels[j]:
                assert (i, j) not in pairs
            elif (boxes[i, :2] <= boxes[j, 2:]).all() and (boxes[j, :2] <= boxes[i, 2:]).all():
                assert (i, j) in pairs


@pytest.mark.parametrize("axis", [0, 1])
def test_boxes_in_a_row_meet_few_others(axis):
    """Many that begin at one coordinate, as boxes cut at the picture's border do, are no larger for it."""
    start = torch.zeros(4096, 2)
    start[:, axis] = torch.arange(4096) * 4.0
    everyone = torch.arange(len(start))
    near = neighbours.Neighbours(torch.cat((start, start + 9), dim=1), touching=True)
    assert near.counts(everyone, near.arranged(everyone)).max() < 300


@pytest.mark.parametrize("count", [30, 2500])
def test_dominoes_fall_one_after_the_other(count):
    """Each overlaps the next: of a chain every second stands, however many rounds that takes."""
    start = torch.arange(count, dtype=torch.float32) * 4
    boxes = torch.stack((start, start * 0, start + 9, start * 0 + 9), dim=1)
    scores = torch.arange(count, 0, -1, dtype=torch.float32) / count
    assert nms(boxes, scores, 0.3).tolist() == list(range(0, count, 2))


@pytest.mark.parametrize("kind", ["one place", "crowded", "clustered"])
def test_many_boxes_equal_torchvision(device, kind):
    generator = torch.Generator().manual_seed(7)
    count = 6000
    places = {"one place": 1, "crowded": count, "clustered": 60}[kind]
    centre = (torch.rand(places, 2, generator=generator) * 1000)[
        torch.randint(0, places, (count,), generator=generator)
    ]
    centre = centre + torch.randn(count, 2, generator=generator) * 2
    half = 4 + torch.rand(count, 2, generator=generator) * 8
    boxes = torch.cat((centre - half, centre + half), dim=1).to(device)
    scores = (torch.randperm(count, generator=generator).float() / count).to(device)
    labels = torch.randint(0, 80, (count,), generator=generator).to(device)
    assert torch.equal(nms(boxes, scores, 0.5), ops.nms(boxes, scores, 0.5))
    assert torch.equal(nms(boxes, scores, 0.5, labels=labels), ops.batched_nms(boxes, scores, labels, 0.5))
