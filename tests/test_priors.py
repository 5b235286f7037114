"""Priors: positions, order, the grid's arithmetic, and torchvision's generator bit for bit."""

import math

import pytest
import torch
from hypothesis import given, settings
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from labelkit import Priors
from tests.strategies import far_pyramid, pyramids


def test_centres_sizes_and_order():
    priors = Priors.anchors((16, 24), (8,), ((8.0, 16.0),), ratios=(0.5, 1.0, 2.0))
    assert len(priors) == 2 * 3 * 6
    assert priors.centers[0].tolist() == pytest.approx([4, 4])
    assert priors.centers[6].tolist() == pytest.approx([12, 4]), "columns before rows"
    width, height = (priors.boxes[:6, 2:] - priors.boxes[:6, :2]).unbind(1)
    assert torch.allclose(height / width, torch.tensor([0.5, 0.5, 1, 1, 2, 2])), "ratio-major"
    assert torch.allclose((width * height).sqrt(), torch.tensor([8.0, 16, 8, 16, 8, 16])), "side = sqrt(area)"


def test_offset_moves_by_a_share_of_the_stride():
    half, none = (Priors.points((16, 16), (4, 8), offset=offset) for offset in (0.5, 0.0))
    assert half.boxes[0].tolist() == [2, 2, 2, 2]
    assert none.boxes[0].tolist() == [0, 0, 0, 0]
    assert torch.equal(half.centers - none.centers, (half.strides / 2)[:, None].expand(-1, 2))


def test_published_counts():
    assert len(Priors.points((800, 1344), (8, 16, 32, 64, 128))) == 22_400
    assert len(Priors.points((800, 800), (4, 8, 16, 32, 64))) == 53_294
    sizes = [[4 * s * 2 ** (i / 3) for i in range(3)] for s in (8, 16, 32, 64, 128)]
    assert len(Priors.anchors((800, 1344), (8, 16, 32, 64, 128), sizes, (0.5, 1, 2))) == 201_600


@settings(deadline=None)
@given(pyramid=pyramids())
def test_the_grid_says_where_every_prior_stands(pyramid):
    priors, strides = pyramid
    grid, seen = priors.grid, torch.zeros(len(priors), dtype=torch.int64)
    for m in range(len(grid)):
        row, column = torch.meshgrid(torch.arange(grid.rows[m]), torch.arange(grid.columns[m]), indexing="ij")
        index = (grid.first[m] + (row * grid.columns[m] + column) * grid.step[m]).flatten()
        seen[index] += 1
        where = torch.stack((grid.x[m] + column * grid.stride_x[m], grid.y[m] + row * grid.stride_y[m]), dim=-1)
        assert torch.allclose(priors.centers[index], where.reshape(-1, 2), atol=1e-4)
        size = priors.boxes[index, 2:] - priors.boxes[index, :2]
        assert torch.allclose(size, torch.stack((grid.width[m], grid.height[m])).expand_as(size), atol=1e-4)
        assert (priors.rows[index] == m).all()
        assert (priors.levels[index] == grid.level[m]).all()
    assert (seen == 1).all(), "every prior in exactly one row of the grid"
    assert torch.equal(priors.strides, torch.tensor(strides, dtype=torch.float32)[priors.levels])


@pytest.mark.parametrize("size", [(64, 96), (100, 132), (800, 1344)])
def test_torchvisions_anchors_bit_for_bit(size):
    generator = AnchorGenerator(tuple((s, int(s * 1.26), int(s * 1.59)) for s in (32, 64, 128)), ((0.5, 1.0, 2.0),) * 3)
    features = [(-(-size[0] // s), -(-size[1] // s)) for s in (8, 16, 32)]
    images = ImageList(torch.zeros(1, 3, *size), [size])
    wanted = generator(images, [torch.zeros(1, 1, *feature) for feature in features])[0]
    priors = Priors.from_torchvision(generator, size, features)
    assert torch.equal(priors.boxes, wanted)
    last = len(priors.grid) - 1
    assert priors.grid.first[last] + (priors.grid.rows[last] * priors.grid.columns[last] - 1) * 9 == len(priors) - 1
    nominal = Priors.from_torchvision(generator, size, features, strides=(8, 16, 32))
    assert nominal.level_strides == (8.0, 16.0, 32.0)


def test_torchvisions_strides_are_the_wider_spacing_unless_said():
    """A map of 4 rows and 5 columns on 64 x 160 px: cells 16 px high and 32 px wide, and the other way round."""
    generator = AnchorGenerator(((32,), (64,)), ((1.0,), (1.0,)))
    priors = Priors.from_torchvision(generator, (64, 160), [(4, 5), (1, 4)])
    assert priors.level_strides == (32.0, 64.0)
    assert priors.strides.tolist() == [32.0] * 20 + [64.0] * 4


@pytest.mark.parametrize("seed", range(24))
def test_stored_priors_are_within_a_hair_of_their_grid(seed):
    priors, _ = far_pyramid(seed)
    grid, stored = priors.grid, priors.boxes.double()
    row = priors.rows
    cell = (torch.arange(len(priors)) - grid.first[row]) // grid.step[row]
    place = torch.stack((cell % grid.columns[row], cell // grid.columns[row]), dim=1)
    said = torch.stack((grid.x, grid.y), 1)[row] + place * torch.stack((grid.stride_x, grid.stride_y), 1)[row]
    center = (priors.centers.double() - said).abs().amax(dim=1)
    side = (stored[:, 2:] - stored[:, :2] - torch.stack((grid.width, grid.height), 1)[row].double()).abs().amax(dim=1)
    assert (center <= grid.hair[row]).all() and (side <= 0.4 * grid.hair[row] * (1 + 1e-6)).all()
    largest = stored.abs().amax()
    assert torch.allclose(grid.hair.max().double(), 3e-7 * largest, rtol=0.02), "and a hair is no more than it says"


def test_who_has_an_area():
    assert Priors.anchors((16, 16), (8,), ((8.0,),)).has_area
    assert not Priors.points((16, 16), (8,)).has_area
    lines = torch.tensor([[0.0, 0, 4, 0], [0, 0, 0, 4]])
    assert not Priors.from_boxes(lines).has_area
    assert Priors.from_boxes(torch.cat((lines, torch.tensor([[0.0, 0, 1, 1]])))).has_area


def test_boxes_without_a_grid():
    boxes = torch.rand(7, 4).cumsum(1)
    priors = Priors.from_boxes(boxes, level_sizes=(4, 3), strides=(8, 16))
    assert priors.grid is None
    assert priors.levels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert priors.strides.tolist() == [8, 8, 8, 8, 16, 16, 16]
    assert torch.equal(priors.boxes, boxes)
    with pytest.raises(ValueError, match="no strides"):
        _ = Priors.from_boxes(boxes).strides
    with pytest.raises(ValueError, match="no grid"):
        _ = Priors.from_boxes(boxes).rows


def test_moving_to_a_device(device):
    priors = Priors.anchors((32, 32), (8, 16), ((16,), (32,))).to(device)
    parts = (priors.boxes, priors.centers, priors.levels, priors.strides, priors.grid.x)
    assert all(part.device.type == device.type for part in parts)


def test_what_is_kept_in_inference_mode_serves_a_gradient_later():
    """Lightning validates in inference mode before it trains."""
    points = Priors.points((16, 16), (4, 8))
    with torch.inference_mode():
        kept = points.centers, points.sides, points.strides, points.levels, points.rows
    assert not [tensor for tensor in kept if tensor.is_inference()]
    distances = torch.ones(len(points), requires_grad=True)
    (distances * points.strides * points.centers[:, 0]).sum().backward()


@pytest.mark.parametrize("other", [torch.float16, torch.zeros(2)])
def test_priors_go_to_a_device_and_no_dtype(other, unchecked):
    with pytest.raises(ValueError, match="device must be a device, got t.*: priors keep their dtype"):
        Priors.points((16, 16), (4,)).to(other)


def of_torchvision(image_size=(32, 32), feature_sizes=((4, 4),), strides=None):
    return Priors.from_torchvision(AnchorGenerator(((16,),), ((1.0,),)), image_size, feature_sizes, strides)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Priors.anchors((32, 32), (8, 16), ((16,),)), "sizes must have one entry for each of the 2 levels"),
        (lambda: Priors.anchors((32, 32), (8,), ((0,),)), r"sizes\[0\]\[0\] must be positive and finite, got 0"),
        (lambda: Priors.anchors((32, 32), (8,), ((16,),), ratios=(1, -2)), r"ratios\[1\] must be positive.*-2"),
        (lambda: Priors.points((0, 32), (8,)), r"image_size\[0\] must be positive and finite, got 0"),
        (lambda: Priors.points((32, 32), (8, float("nan"))), r"strides\[1\] must be positive and finite, got nan"),
        (lambda: Priors.from_boxes(torch.tensor([[0.0, 0, 1, float("nan")]])), r"boxes\[0\] must be finite"),
        (lambda: Priors.from_boxes(torch.ones(3, 4), level_sizes=(1, 1)), "level_sizes must be counts that add up"),
        (lambda: Priors.from_boxes(torch.ones(3, 4), strides=(4, 8)), "strides must have one entry for each of the 1"),
        (lambda: Priors.anchors((32, 32), (8,), ((16,),), offset=math.nan), "offset must be finite, got nan"),
        (lambda: Priors.points((32, 32), (8,), offset=math.inf), "offset must be finite, got inf"),
        (lambda: Priors.points((3, 32, 32), (8,)), r"image_size must be \(height, width\), got \(3, 32, 32\)"),
        (lambda: Priors.points((32, 32), ()), "one level at least, got no strides"),
        (lambda: Priors.from_boxes(torch.ones(0, 4), ()), r"level_sizes must be .* one at least, got \(\)"),
        (lambda: of_torchvision((3, 32, 32)), r"image_size must be \(height, width\), got \(3, 32, 32\)"),
        (lambda: of_torchvision(feature_sizes=[(0, 4)]), r"feature_sizes\[0\]\[0\] must be positive and finite, got 0"),
        (lambda: of_torchvision(feature_sizes=[(4,)]), r"feature_sizes\[0\] must be \(height, width\), got \(4,\)"),
        (lambda: of_torchvision(strides=(8, 16)), "strides must have one entry for each of the 1 levels, got 2"),
        (lambda: of_torchvision(strides=(math.nan,)), r"strides\[0\] must be positive and finite, got nan"),
    ],
)
def test_bad_arguments_are_named(make, words, unchecked):
    with pytest.raises(ValueError, match=words):
        make()
