"""What hypothesis draws: pyramids, ground truths that sit where assigners break, predictions, batches.

Small on purpose (a few hundred priors, a handful of ground truths), so that the loops of `oracles` answer at once,
and nasty on purpose: ties, lattice points, borders, boxes outside the image, duplicates, nothing at all.
"""

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from labelkit import Predictions, Priors

NUM_CLASSES = 3


class Scene(NamedTuple):
    """A pyramid and the ground truths of one image on it. `level_strides` has one entry a level."""

    priors: Priors
    boxes: Tensor
    level_strides: tuple[float, ...]

    @property
    def target(self) -> dict[str, Tensor]:
        return target_of(self.boxes)


class Batch(NamedTuple):
    """One pyramid and the ground truths of several images, some of them empty."""

    priors: Priors
    boxes: list[Tensor]
    level_strides: tuple[float, ...]

    @property
    def targets(self) -> list[dict[str, Tensor]]:
        return [target_of(boxes) for boxes in self.boxes]


def target_of(boxes: Tensor) -> dict[str, Tensor]:
    """A target with labels that differ from box to box."""
    return {"boxes": boxes, "labels": torch.arange(len(boxes)) % NUM_CLASSES}


# ------------------------------------------------------------------------------------------------ priors

PYRAMIDS = [(8,), (16,), (8, 16), (4, 8), (8, 16, 32), (16, 32, 64), (8, 16, 32, 64, 128)]


@st.composite
def pyramids(draw, kind: str = "any", max_side: int = 96) -> tuple[Priors, tuple[int, ...]]:
    """Points or anchors on a grid; `kind` is "points", "anchors", "single" (one shape a place), "boxes" or "any"."""
    strides = draw(st.sampled_from(PYRAMIDS))
    side = st.integers(1, min(max_side, 16 * strides[0]))
    image_size = (draw(side), draw(side))
    offset = draw(st.sampled_from([0.5, 0.0]))
    if kind in ("any", "boxes"):
        kind = draw(st.sampled_from(["points", "anchors", "single"] if kind == "any" else ["anchors", "single"]))
    if kind == "points":
        return Priors.points(image_size, strides, offset=offset), strides
    if kind == "single":
        scale = draw(st.sampled_from([1, 2, 4, 8, 2.5]))
        sizes, ratios = tuple((scale * stride,) for stride in strides), (1.0,)
    else:
        octaves = draw(st.sampled_from([(1.0, 2 ** (1 / 3), 2 ** (2 / 3)), (1.0, 2.0), (1.5,)]))
        sizes = tuple(tuple(2 * stride * octave for octave in octaves) for stride in strides)
        ratios = draw(st.sampled_from([(0.5, 1.0, 2.0), (1.0,), (1.0, 4.0)]))
    return Priors.anchors(image_size=image_size, strides=strides, sizes=sizes, ratios=ratios, offset=offset), strides


def without_grid(priors: Priors, level_strides: tuple[float, ...]) -> Priors:
    """The same priors with nothing known but their boxes, levels and strides."""
    counts = tuple(int((priors.levels == level).sum()) for level in range(len(level_strides)))
    return Priors.from_boxes(priors.boxes, level_sizes=counts, strides=level_strides)


def shuffled(priors: Priors, seed: int) -> Priors:
    """The same boxes in another order, as one level: nothing of the grid is left."""
    order = torch.randperm(len(priors), generator=torch.Generator().manual_seed(seed))
    return Priors.from_boxes(priors.boxes[order])


# ------------------------------------------------------------------------------------------ ground truths

coordinates = st.floats(-40, 140, width=32)
lengths = st.floats(0.0625, 120, width=32)
KINDS = ["float", "integer", "half", "lattice", "prior", "moved prior", "tiny", "huge", "outside", "again"]


@st.composite
def boxes_for(draw, priors: Priors, max_gts: int = 6) -> Tensor:
    """0 to `max_gts` ground truths of every kind above, in float32."""
    rows: list[tuple[float, float, float, float]] = []
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=max_gts)):
        rows.append(draw(_box(kind, priors, rows)))
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


@st.composite
def _box(draw, kind: str, priors: Priors, rows: list) -> tuple[float, float, float, float]:
    if kind == "again" and rows:
        return draw(st.sampled_from(rows))
    if kind in ("lattice", "prior", "moved prior") and len(priors) > 0:
        row = draw(st.integers(0, len(priors) - 1))
        x1, y1, x2, y2 = priors.boxes[row].tolist()
        if kind == "prior" and x1 < x2 and y1 < y2:
            return x1, y1, x2, y2
        if kind == "moved prior" and x1 < x2 and y1 < y2:
            dx, dy = draw(st.sampled_from([-4, -1, 0, 2, 4])), draw(st.sampled_from([-8, -0.5, 0, 4]))
            return x1 + dx, y1 + dy, x2 + dx, y2 + dy
        # Centred on a lattice point, or on a corner of its cell, where four priors are equally near.
        x, y = priors.centers[row].tolist()
        shift = draw(st.sampled_from([0, 2, 4, 8]))
        width, height = draw(st.sampled_from([2, 8, 16, 32, 64])), draw(st.sampled_from([4, 8, 16, 64]))
        return _centered(x + shift, y + shift, width, height)
    if kind in ("integer", "half"):
        unit = 1 if kind == "integer" else 0.5
        x, y = draw(st.integers(-20, 120)) * unit, draw(st.integers(-20, 120)) * unit
        return x, y, x + draw(st.integers(1, 140)) * unit, y + draw(st.integers(1, 140)) * unit
    x, y, width, height = draw(coordinates), draw(coordinates), draw(lengths), draw(lengths)
    if kind == "tiny":
        width, height = max(width / 64, 2**-8), max(height / 64, 2**-8)
    if kind == "huge":
        width, height = width * 100, height * 100
    if kind == "outside":
        side = draw(st.sampled_from([-1, 1]))
        x, y = x + side * draw(st.sampled_from([100, 300, 5000])), y + draw(st.sampled_from([0, 400]))
    return _float32(x, y, max(x + width, x + 2**-8), max(y + height, y + 2**-8))


def _centered(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return _float32(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _float32(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = torch.tensor((x1, y1, x2, y2), dtype=torch.float32).tolist()
    return x1, y1, x2, y2


@st.composite
def scenes(draw, kind: str = "any", max_gts: int = 6, max_side: int = 96) -> Scene:
    """One image: priors with a grid, and ground truths."""
    priors, strides = draw(pyramids(kind, max_side))
    return Scene(priors, draw(boxes_for(priors, max_gts)), strides)


@st.composite
def batches(draw, kind: str = "any", max_images: int = 4, max_gts: int = 4, max_side: int = 64) -> Batch:
    """Several images on one pyramid; empty images among them."""
    priors, strides = draw(pyramids(kind, max_side))
    images = draw(st.lists(boxes_for(priors, max_gts), min_size=1, max_size=max_images))
    return Batch(priors, images, strides)


# --------------------------------------------------------------------- far away, of every size, on the lattice

FAR = (0.0, 0.5, 128.0, 1000.5, 4096.0, 12_500.5)  # offsets in cells: with a stride of 8, up to 1e5 px
THIRDS = tuple(2 ** (k / 3) for k in range(3))


def far_pyramid(seed: int) -> tuple[Priors, tuple[float, ...]]:
    """A small pyramid whose coordinates lie between 0 and 1e5 px and whose sizes are no powers of two.

    One in four has boxes 0.01 px wide, one in eight boxes far larger than the pyramid.
    """
    pick = torch.Generator().manual_seed(seed)

    def one_of(*values):
        return values[int(torch.randint(len(values), (), generator=pick))]

    strides = one_of((8.0,), (8.0, 16.0), (4.0, 8.0, 16.0), (6.4, 12.8), (10 / 3,))
    image_size = (int(strides[-1] * one_of(3, 5)), int(strides[-1] * one_of(6, 9)))
    shape = seed % 8
    base = {0: 1e-2, 1: 0.1, 2: 3e4}.get(shape, one_of(1.0, 2.0, 4.0, 0.7) * strides[0])
    ratios = (1.0, 1000.0) if shape == 1 else one_of((1.0,), (0.5, 1.0, 2.0), (1.0, 3.0))
    sizes = [[base * stride / strides[0] * third for third in THIRDS] for stride in strides]
    offset = one_of(*FAR[:4]) if shape in (0, 1) else one_of(*FAR)
    return Priors.anchors(image_size, strides, sizes, ratios, offset=offset), strides


def far_boxes(priors: Priors, seed: int, count: int = 6) -> Tensor:
    """Ground truths on and beside the priors: their own boxes, moved, resized, on lattice points, thin, anywhere."""
    pick = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=pick).double()

    def whole(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=pick)

    own = priors.boxes[whole(len(priors))].double()
    center, size = (own[:, :2] + own[:, 2:]) / 2, own[:, 2:] - own[:, :2]
    kind = whole(6)
    step = priors.strides.double()[0] / 2
    lattice = torch.stack((whole(5) - 2, whole(5) - 2), dim=1) * step
    even = torch.stack((2.0 * (1 + whole(12)), 2.0 * (1 + whole(12))), dim=1).double()
    moved = torch.stack((uniform(-30, 30), uniform(-30, 30)), dim=1)
    center = center + torch.where((kind == 0)[:, None], 0, torch.where((kind < 4)[:, None], lattice, moved))
    center = torch.where((kind == 1)[:, None], center.round(), center)
    size = torch.where(((kind == 1) | (kind == 2))[:, None], even, size)
    size = torch.where((kind == 3)[:, None], size * uniform(0.5, 2.0)[:, None], size)
    size = torch.where((kind == 4)[:, None], torch.stack((0.01 + 0 * uniform(0, 1), uniform(0.01, 40)), dim=1), size)
    boxes = torch.cat((center - size / 2, center + size / 2), dim=1).float()
    # Far away 0.01 px is less than float32 can tell apart: at least one step.
    step_up = torch.nextafter(boxes[:, :2], boxes.new_full((), torch.inf))
    return torch.cat((boxes[:, :2], torch.maximum(boxes[:, 2:], step_up)), dim=1)


def far_batch(seed: int, images: int = 4) -> Batch:
    """One far pyramid and the ground truths of several images on it."""
    priors, strides = far_pyramid(seed)
    return Batch(priors, [far_boxes(priors, 1000 * seed + image) for image in range(images)], strides)


# -------------------------------------------------------------------------------------------- predictions


@st.composite
def predictions_for(draw, priors: Priors, boxes: Tensor) -> Predictions:
    """Decoded boxes from poor to perfect (also inverted and empty ones), and class probabilities."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    spread = draw(st.sampled_from([0.0, 1.0, 4.0, 20.0]))
    share = draw(st.sampled_from([0.0, 0.3, 0.9]))
    decoded = priors.boxes.clone()
    if len(boxes) > 0:
        aimed = torch.rand(len(priors), generator=generator) < share
        owner = torch.randint(len(boxes), (len(priors),), generator=generator)
        decoded[aimed] = boxes[owner[aimed]]
    decoded = decoded + spread * torch.randn(decoded.shape, generator=generator)
    scores = torch.rand((len(priors), NUM_CLASSES), generator=generator)
    if draw(st.booleans()):
        decoded, scores = decoded.round(), (scores * 4).round() / 4
    return Predictions(boxes=decoded, scores=scores)


def stacked(each: list[Predictions]) -> Predictions:
    """The predictions of a batch, from those of its images."""
    return Predictions(*(torch.stack([getattr(one, name) for one in each]) for name in ("boxes", "scores")))
