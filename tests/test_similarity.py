"""Similarities against plain Python arithmetic, their invariances, their degenerate cases, and their constants."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision.ops as ops
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from labelkit import Priors
from labelkit import similarity as sim
from tests import oracles

FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "iou": sim.iou,
    "iof": sim.iof,
    "giou": sim.giou,
    "diou": sim.diou,
    "ciou": sim.ciou,
    "nwd": partial(sim.nwd, constant=12.8),
    "dotd": partial(sim.dotd, constant=12.8),
    "rfd": sim.rfd,
    "rfd_wasserstein": partial(sim.rfd, kind="wasserstein"),
    "simd": partial(sim.simd, m=6.13, n=4.59),
    "gcd": sim.gcd,
    "gjsd": sim.gjsd,
}
ORACLES = {
    **{name: getattr(oracles, name) for name in ("iou", "iof", "giou", "diou", "ciou", "rfd", "gcd", "gjsd")},
    "nwd": partial(oracles.nwd, constant=12.8),
    "dotd": partial(oracles.dotd, constant=12.8),
    "rfd_wasserstein": partial(oracles.rfd, kind="wasserstein"),
    "simd": partial(oracles.simd, m=6.13, n=4.59),
}
SYMMETRIC = ["iou", "giou", "diou", "ciou", "nwd", "dotd", "rfd_wasserstein", "simd", "gcd", "gjsd"]
SCALE_FREE = ["iou", "iof", "giou", "diou", "ciou", "rfd", "simd", "gcd", "gjsd"]
functions = pytest.mark.parametrize("name", FUNCTIONS)
corner, side = st.floats(-50, 50, width=32), st.floats(1, 60, width=32)
box = st.tuples(corner, corner, side, side).map(lambda b: torch.tensor([b[0], b[1], b[0] + b[2], b[1] + b[3]]))


@functions
@given(a=box, b=box)
def test_equals_plain_arithmetic(name, a, b):
    want = ORACLES[name](oracles.Box(*a.tolist()), oracles.Box(*b.tolist()))
    assert FUNCTIONS[name](a.double(), b.double()).item() == pytest.approx(want, abs=1e-9)
    assert FUNCTIONS[name](a, b).item() == pytest.approx(want, abs=1e-4)


@functions
@given(a=box)
def test_identical_boxes_score_exactly_one(name, a):
    assert FUNCTIONS[name](a, a).item() == 1


@functions
@given(a=box, b=box)
def test_translation_and_symmetry_and_scale(name, a, b):
    a, b, function = a.double(), b.double(), FUNCTIONS[name]
    value = function(a, b)
    assert torch.allclose(function(a + 7, b + 7), value, atol=1e-9)
    if name in SYMMETRIC:
        assert torch.allclose(function(b, a), value, atol=1e-12)
    if name in SCALE_FREE:
        assert torch.allclose(function(a * 3, b * 3), value, atol=1e-9)


def test_kl_is_not_symmetric_and_pixels_are_not_scale_free():
    a, b = torch.tensor([0.0, 0, 10, 10]), torch.tensor([2.0, 2, 32, 42])
    assert abs(sim.rfd(a, b) - sim.rfd(b, a)) > 0.05
    for name in ("nwd", "dotd", "rfd_wasserstein"):
        assert abs(FUNCTIONS[name](a, b) - FUNCTIONS[name](3 * a, 3 * b)) > 1e-4
    assert sim.nwd(3 * a, 3 * b, 3 * 12.8) == pytest.approx(sim.nwd(a, b, 12.8).item())


@functions
def test_elementwise_over_any_shape_and_device(name, device):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(n, 4, generator=generator).cumsum(1) * 30 for n in (5, 7))
    a, b = a.to(device), b.to(device)
    dense = FUNCTIONS[name](a[:, None], b[None])
    assert dense.shape == (5, 7)
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")
    pairs = FUNCTIONS[name](a[rows.flatten()], b[columns.flatten()])
    assert torch.equal(dense.flatten(), pairs)
    by_column = FUNCTIONS[name](a.T.contiguous().T[:, None], b[None])
    assert torch.equal(dense, by_column), "the layout in memory must not change a bit"


@functions
def test_half_precision_is_computed_in_float32(name):
    a, b = torch.tensor([0.0, 0, 300, 300]), torch.tensor([100.0, 100, 400, 400])
    half = FUNCTIONS[name](a.half(), b.half())
    assert half.dtype == torch.float32
    assert half == FUNCTIONS[name](a, b)


@functions
def test_degenerate_boxes_give_no_nan(name):
    good = torch.tensor([0.0, 0, 4, 4])
    for bad in ([2.0, 2, 2, 2], [0, 0, 4, 0], [9, 9, 1, 1]):
        assert torch.isfinite(FUNCTIONS[name](torch.tensor(bad), good))
    if name in ("iou", "iof", "giou"):
        point = torch.tensor([2.0, 2, 2, 2])
        assert FUNCTIONS[name](point, point).item() == 0
        assert sim.iou(torch.tensor([9.0, 9, 1, 1]), torch.tensor([9.0, 9, 1, 1])).item() == 0


@pytest.mark.parametrize("far", [1e17, 1e19, 1e20, 3e38])
@pytest.mark.parametrize(
    ("name", "around", "beside"), [("iou", 0, 0), ("giou", 0, -1), ("diou", 0, -1), ("ciou", 0, -1.1)]
)
def test_boxes_whose_area_is_infinite_give_no_nan(name, around, beside, far):
    """A network that has learned nothing decodes them. Of two such boxes the one is the other."""
    similarity, small = getattr(sim, name), torch.tensor([0.0, 0, 10, 10])
    whole = torch.tensor([-far, -far, far, far])
    assert float(similarity(whole, small)) == pytest.approx(around, abs=1e-6)
    assert beside - 1e-6 <= float(similarity(torch.tensor([far / 2, far / 2, far, far]), small)) <= 0
    assert name == "iou" or float(similarity(whole, whole)) == pytest.approx(1)


@functions
def test_gradients_are_finite_even_at_identical_boxes(name):
    b = torch.tensor([[0.0, 0, 8, 8], [1, 1, 9, 12], [40, 40, 60, 60]])
    a = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8]], requires_grad=True)
    FUNCTIONS[name](a, b).sum().backward()
    assert torch.isfinite(a.grad).all()


POINT, LINE, UPRIGHT = [2.0, 2, 2, 2], [1.0, 3, 9, 3], [4.0, 0, 4, 7]
DEGENERATE = [POINT, LINE, UPRIGHT, [0.0, 0, 8, 8], [900.0, 900, 900, 900], [3.0, 3, 3 + 1e-6, 9]]


@functions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_boxes_without_area(name, dtype):
    boxes = torch.tensor(DEGENERATE, dtype=dtype)
    a, b = boxes[:, None].clone().requires_grad_(), boxes[None].clone().requires_grad_()
    value = FUNCTIONS[name](a, b)
    value.sum().backward()
    assert torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()
    with torch.no_grad():
        assert torch.equal(FUNCTIONS[name](a, b), value), "a gradient must not change a value"
    assert torch.equal(FUNCTIONS[name](boxes[:, None], boxes[None]), value)


@functions
def test_gradients_are_the_slopes(name):
    if name == "ciou":
        pytest.skip("alpha counts as a constant there, as in the paper")
    a = torch.tensor([[0.0, 0, 8, 8], [1, 1, 9.5, 12], [2, 3, 7, 11]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[2.0, 1, 9, 11], [40, 40, 60, 61], [1, 1, 13, 14]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(FUNCTIONS[name], (a, b))


@pytest.mark.parametrize("name", ["nwd", "dotd"])
def test_a_constant_divides_as_a_number_would(name):
    """By a tensor, so that CUDA divides too; on the CPU not a bit differs from a division by the number."""
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.rand(1000, 4, generator=generator) * 100 for _ in range(2))
    dx, dy = ((a[:, i] + a[:, i + 2]) / 2 - (b[:, i] + b[:, i + 2]) / 2 for i in (0, 1))
    squared = sim.wasserstein_squared(a, b) if name == "nwd" else dx * dx + dy * dy
    for constant in (12.8, 7.3, 1 / 3, 1e-3):
        assert torch.equal(getattr(sim, name)(a, b, constant), torch.exp(-squared.sqrt() / constant))


class _Divisors(TorchDispatchMode):
    """Every divisor that is a Python number."""

    def __init__(self):
        super().__init__()
        self.numbers = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten.div and not isinstance(args[1], torch.Tensor):
            self.numbers.append(args[1])
        return func(*args, **(kwargs or {}))


@functions
def test_nothing_is_divided_by_a_number_that_is_no_power_of_two(name):
    """CUDA multiplies by the reciprocal of a number instead, which is the same for powers of two only."""
    with _Divisors() as seen:
        FUNCTIONS[name](torch.rand(5, 4).cumsum(1), torch.rand(5, 4).cumsum(1))
    assert all(math.frexp(number)[0] == 0.5 for number in seen.numbers), seen.numbers


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: sim.nwd(a, a, 0.0), "constant must be positive and finite, got 0.0"),
        (lambda a: sim.dotd(a, a, math.nan), "constant must be positive and finite, got nan"),
        (lambda a: sim.simd(a, a, 1.0, -1.0), "n must be positive and finite, got -1.0"),
        (lambda a: sim.simd(a, a, math.inf, 1.0), "m must be positive and finite, got inf"),
    ],
)
def test_a_bad_constant_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.tensor([0.0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("similarity", "asks"),
    [
        *((FUNCTIONS[name], True) for name in ("iou", "iof", "giou", "diou", "ciou", "rfd", "gcd", "gjsd")),
        *((FUNCTIONS[name], False) for name in ("nwd", "dotd", "rfd_wasserstein", "simd")),
        (partial(sim.rfd, kind="kl"), True),
        (sim.OfScaledPriors(partial(sim.rfd), 0.9), True),
        (sim.OfScaledPriors(FUNCTIONS["rfd_wasserstein"], 0.9), False),
        (lambda a, b: a.sum(-1) + b.sum(-1), False),
    ],
)
def test_which_similarities_say_nothing_about_points(similarity, asks):
    assert sim.asks_for_size(similarity) == asks


def test_equal_to_torchvision_bit_for_bit():
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(n, 4, generator=generator) * 100 for n in (300, 200))
    a[:, 2:] += a[:, :2]
    b[:, 2:] += b[:, :2]
    assert torch.equal(sim.iou(a[:, None], b[None]), ops.box_iou(a, b))
    assert torch.allclose(sim.giou(a[:, None], b[None]), ops.generalized_box_iou(a, b), atol=1e-6)
    assert torch.allclose(sim.diou(a[:, None], b[None]), ops.distance_box_iou(a, b), atol=1e-5)
    assert torch.allclose(sim.ciou(a[:, None], b[None]), ops.complete_box_iou(a, b), atol=1e-5)


def test_published_values():
    """mmdet's aligned GIoU cases and detectron2's unit boxes."""
    a = torch.tensor([[0.0, 0, 10, 10], [10, 10, 20, 20], [32, 32, 38, 42]])
    b = torch.tensor([[0.0, 0, 10, 20], [0, 10, 10, 19], [10, 10, 20, 20]])
    wanted = torch.tensor([[0.5, -0.05, -0.8214]])
    assert torch.allclose(sim.giou(b, a)[[0]], wanted[0, [0]], atol=1e-4)
    assert torch.allclose(sim.giou(a, b), wanted[0], atol=1e-4)
    unit = torch.tensor([0.0, 0, 1, 1])
    others = torch.tensor([[0, 0, 1, 1], [0, 0, 0.5, 1], [0, 0, 1, 0.5], [0, 0, 0.5, 0.5], [0.5, 0.5, 1.5, 1.5]])
    assert sim.iou(unit, others).tolist() == pytest.approx([1, 0.5, 0.5, 0.25, 0.25 / 1.75])


def test_published_values_of_gjsd():
    """What mmrotate-dcfl's code gives for upright boxes in float32, centre and size; and it never exceeds 1."""
    center = torch.tensor([[10.0, 10], [12, 10], [10, 10], [10, 10], [30, 10]])
    half = torch.tensor([[8.0, 8], [8, 8], [16, 8], [16, 16], [8, 8]]) / 2
    boxes = torch.cat((center - half, center + half), dim=1)
    assert sim.gjsd(boxes[0], boxes).tolist() == pytest.approx([1, 0.969697, 0.899627, 0.817566, 0.242424], abs=1e-6)
    generator = torch.Generator().manual_seed(5)
    one = 100 * torch.rand(5000, 2, generator=generator)
    same = torch.cat((one, one + 1 + one.flip(1)), dim=1)
    nearly = same * (1 + 1e-7)
    assert (sim.gjsd(same, nearly) <= 1).all()


def test_nwds_blind_spot():
    """A square of s px in a 32 px anchor: at best exp(-(32 - s) / (sqrt(2) * 12.8)), under 0.3 below 10.2 px."""
    anchor = torch.tensor([-16.0, -16, 16, 16])
    for size, best in ((6, 0.238), (8, 0.266), (12, 0.331), (16, 0.413)):
        gt = torch.tensor([-size / 2, -size / 2, size / 2, size / 2])
        assert sim.nwd(anchor, gt, 12.8).item() == pytest.approx(best, abs=5e-4)


def test_rfd_names_its_kinds():
    with pytest.raises(ValueError, match="kind must be 'kl' or 'wasserstein', got 'wd'"):
        sim.rfd(torch.zeros(4), torch.ones(4), kind="wd")


def test_estimated_constants():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 16, 4], [10, 10, 26, 26]])
    assert sim.nwd_constant(boxes) == pytest.approx((4 + 8 + 16) / 3)
    assert sim.dotd_constant(boxes) == pytest.approx(((16 + 64 + 256) / 3) ** 0.5)
    with pytest.raises(ValueError, match="at least one box"):
        sim.nwd_constant(torch.zeros(0, 4))
    with pytest.raises(ValueError, match=r"boxes\[0\].*zero size"):
        sim.dotd_constant(torch.tensor([[1.0, 1, 1, 5]]))


def test_estimated_simd_constants_equal_the_double_loop():
    priors = Priors.anchors((32, 48), (8, 16), ((16.0,), (32.0,)), ratios=(0.5, 2.0))
    gts = [torch.tensor([[3.0, 4, 9, 20], [30, 5, 44, 11]]), torch.zeros(0, 4), torch.tensor([[0.0, 0, 5, 5]])]
    ratios = []
    for boxes in gts:
        for gt_row in boxes.tolist():
            for prior_row in priors.boxes.tolist():
                g, p = oracles.Box(*gt_row), oracles.Box(*prior_row)
                ratios.append([abs(p.cx - g.cx) / (p.w + g.w), abs(p.cy - g.cy) / (p.h + g.h)])
    wanted = torch.tensor(ratios).double().mean(dim=0).tolist()
    assert sim.simd_constants(priors.boxes, gts) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ValueError, match="at least one pair"):
        sim.simd_constants(priors.boxes, [])
