"""Boxes: what every other room agrees on. Checks, sizes, centres, and the two codings a detector regresses.

A box is `xyxy` in absolute pixels of the network's input: left, top, right, bottom, with
`width = x2 - x1` (no "+1 pixel"). Whatever dtype comes in, arithmetic runs in float32 or wider:
in float16 the area of a 300 x 300 box already overflows.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor

from labelkit.devices import read

TOO_LONG = 1e18  # px: from here on an area overflows


def as_float(tensor: Tensor) -> Tensor:
    """The same numbers in float32 or wider; float32 and float64 pass through unchanged."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def plain(boxes: Tensor, name: str) -> Tensor:
    """The boxes without the class that states their format, such as torchvision's `BoundingBoxes`: xyxy is taken."""
    stated = getattr(boxes, "format", None)
    if stated is not None and stated.name != "XYXY":
        raise ValueError(
            f"{name} must be xyxy, got {type(boxes).__name__} that are {stated.name}: "
            "torchvision.transforms.v2.ConvertBoundingBoxFormat('XYXY') turns them"
        )
    return boxes.as_subclass(Tensor)


def check_boxes(boxes: object, name: str, *, zero_size: bool = False) -> Float[Tensor, "N 4"]:
    """Return `boxes` in float32 or wider, or raise a `ValueError` that names argument, index and value.

    Every coordinate must be finite, every side shorter than 1e18 px (so that no area overflows) and every box
    must have x1 < x2 and y1 < y2, in float32 too: what is empty there would pass here and fail in a network. With
    `zero_size=True` equality is allowed, so that a point can be a box. An empty `[0, 4]` tensor is fine.
    """
    boxes = shaped(boxes, name)
    if boxes.shape[0] and not sound(*read(*shortest_and_longest(boxes, zero_size)), zero_size=zero_size):
        _raise_first_bad_box(boxes, name, zero_size)
    return boxes


def shaped(boxes: object, name: str) -> Float[Tensor, "N 4"]:
    """The part of `check_boxes` that looks at no value, and so waits for no device."""
    if not isinstance(boxes, Tensor):
        raise ValueError(f"{name} must be a tensor of shape [N, 4], got {type(boxes).__name__}")
    boxes = plain(boxes, name)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must have shape [N, 4], got {list(boxes.shape)}")
    if boxes.dtype == torch.bool or boxes.is_complex():
        raise ValueError(f"{name} must hold numbers, got {boxes.dtype}")
    return as_float(boxes.detach())


def shortest_and_longest(boxes: Float[Tensor, "N 4"], zero_size: bool = False) -> tuple[Tensor, Tensor]:
    """The sides of these boxes, one at least, by which `sound` judges: on their device, nobody has waited yet."""
    judged = boxes if zero_size else boxes.float()
    low, high = torch.aminmax(judged[:, 2:] - judged[:, :2])
    return low, high


def sound(shortest: float, longest: float, *, zero_size: bool = False) -> bool:
    """Whether `check_boxes` accepts boxes with these sides. A NaN fails both comparisons, and an infinite coordinate
    has made a side infinite or NaN."""
    return (shortest >= 0 if zero_size else shortest > 0) and longest < TOO_LONG


def _raise_first_bad_box(boxes: Tensor, name: str, zero_size: bool) -> None:
    judged = boxes if zero_size else boxes.float()
    size = judged[:, 2:] - judged[:, :2]
    finite = (torch.isfinite(judged) & (size.abs() < TOO_LONG).repeat(1, 2)).all(dim=1)
    enough = (size >= 0 if zero_size else size > 0).all(dim=1)
    index = int((~(finite & enough)).nonzero()[0])
    value = boxes[index].tolist()
    if not bool(finite[index]):
        raise ValueError(f"{name}[{index}] must be finite with sides below 1e18 px, got {value}")
    rule = "x1 <= x2 and y1 <= y2" if zero_size else "x1 < x2 and y1 < y2"
    kind = "inverted" if bool((size[index] < 0).any()) else "of zero size"
    kind += "" if judged.dtype == boxes.dtype else " in float32"
    raise ValueError(f"{name}[{index}] must have {rule}, got {value}, which is {kind}")


def sizes(boxes: Num[Tensor, "*n 4"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Widths and heights in pixels."""
    x1, y1, x2, y2 = as_float(boxes).unbind(-1)
    return x2 - x1, y2 - y1


def extents(boxes: Num[Tensor, "n 4"]) -> Float[Tensor, "2 n"]:
    """Widths and heights in pixels, one axis after the other, for what is done alike in x and y."""
    boxes = as_float(boxes)
    return (boxes[:, 2:] - boxes[:, :2]).T


def area(boxes: Num[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Area in square pixels; an inverted box has area 0, never a positive product of two negatives."""
    width, height = sizes(boxes)
    return width.clamp(min=0) * height.clamp(min=0)


def centers(boxes: Num[Tensor, "*n 4"]) -> Float[Tensor, "*n 2"]:
    """The middle (x, y) of every box, as (x1 + x2) / 2: the one formula used in every distance of the library."""
    boxes = as_float(boxes)
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def encode_deltas(
    boxes: Float[Tensor, "*#n 4"],
    priors: Float[Tensor, "*#n 4"],
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "*n 4"]:
    """Targets (tx, ty, tw, th) that an anchor has to regress to become its box.

    tx = (x - xa) / wa, ty = (y - ya) / ha, tw = ln(w / wa), th = ln(h / ha), each times its weight
    (Faster R-CNN, section 3.1.2). Anchors and boxes need a positive size.
    """
    wa, ha = sizes(priors)
    w, h = sizes(boxes)
    shift = centers(boxes) - centers(priors)
    code = torch.stack((shift[..., 0] / wa, shift[..., 1] / ha, torch.log(w / wa), torch.log(h / ha)), dim=-1)
    return code * code.new_tensor(weights)


def decode_deltas(
    deltas: Float[Tensor, "*#n 4"],
    priors: Float[Tensor, "*#n 4"],
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    max_log_size: float | None = None,
) -> Float[Tensor, "*n 4"]:
    """The box that `encode_deltas` came from. `max_log_size` caps tw and th before the exponential."""
    deltas = as_float(deltas)
    deltas = deltas / deltas.new_tensor(weights)
    wa, ha = sizes(priors)
    center = centers(priors) + deltas[..., :2] * torch.stack((wa, ha), dim=-1)
    log_size = deltas[..., 2:] if max_log_size is None else deltas[..., 2:].clamp(max=max_log_size)
    half = torch.exp(log_size) * torch.stack((wa, ha), dim=-1) / 2
    return torch.cat((center - half, center + half), dim=-1)


def encode_ltrb(boxes: Float[Tensor, "*#n 4"], points: Float[Tensor, "*#n 2"]) -> Float[Tensor, "*n 4"]:
    """Distances (l, t, r, b) in pixels from a point to the four sides of a box; negative where it lies outside.

    FCOS, section 3.1, equation 1. Divide by the stride for the normalised form.
    """
    boxes, points = as_float(boxes), as_float(points)
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def decode_ltrb(distances: Float[Tensor, "*#n 4"], points: Float[Tensor, "*#n 2"]) -> Float[Tensor, "*n 4"]:
    """The box that `encode_ltrb` came from."""
    distances, points = as_float(distances), as_float(points)
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)


def centerness(distances: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """How central a point is in its box: sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), in (0, 1].

    FCOS, section 3.3, equation 3. Defined for points strictly inside their box (all four distances positive).
    """
    left, top, right, bottom = as_float(distances).unbind(-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return torch.sqrt(horizontal * vertical)
