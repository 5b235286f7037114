"""Reach: how far from a ground truth a prior of a given size can stand and still be similar enough.

One function a similarity: it inverts the formula of `similarity.py` for a threshold and gives the largest |dx| and
|dy| between the centres, in pixels, at which that threshold can still be met; a negative reach means at no distance.
An answer may be too wide, never too narrow: what stands inside is evaluated exactly afterwards. So the slack below
only has to exceed the rounding of a float32 evaluation (relative 1e-7 an operation, cancellation included).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from labelkit import similarity as similarities

_SLACK = 1e-5  # a hundred float32 roundings

Reach = tuple[Tensor, Tensor]


def reach_of(similarity: Callable) -> Callable[..., Reach] | None:
    """The reach of a similarity of this library, also behind `functools.partial`; None for anything else.

    A callable that knows its own reach carries it as the attribute `reach` (None if it has none).
    The result is called with (prior width, prior height, gt width, gt height, floor), which broadcast; floor >= 0.
    A similarity that has a reach lies in [0, 1].
    """
    if hasattr(similarity, "reach"):
        return similarity.reach
    if isinstance(similarity, similarities.OfScaledPriors):
        inner, factor = reach_of(similarity.similarity), similarity.factor
        return inner and (lambda width, height, *rest: inner(width * factor, height * factor, *rest))
    if isinstance(similarity, partial):
        inner = _REACH.get(similarity.func)
        return None if inner is None or similarity.args else partial(inner, **similarity.keywords)
    return _REACH.get(similarity)


def _overlap_reach(intersection: Tensor, pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor) -> Reach:
    """Centres may be apart as long as the boxes can still share `intersection` square pixels.

    Sharing an area I needs an overlap of at least I / min(heights) in x, and the overlap in x is at most
    (pw + gw) / 2 - |dx|; the same in y. No distance is small enough if I exceeds the smaller of the boxes.
    """
    least_width, least_height = torch.minimum(pw, gw), torch.minimum(ph, gh)
    intersection = intersection * (1 - _SLACK)
    x = (pw + gw) / 2 - intersection / least_height
    y = (ph + gh) / 2 - intersection / least_width
    impossible = intersection > least_width * least_height
    return x.masked_fill(impossible, -1), y.masked_fill(impossible, -1)


def _iou(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor) -> Reach:
    return _overlap_reach(floor / (1 + floor) * (pw * ph + gw * gh), pw, ph, gw, gh)


def _iof(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor) -> Reach:
    return _overlap_reach(floor * (pw * ph).clamp(min=1e-30), pw, ph, gw, gh)


def _radius(square: Tensor) -> Tensor:
    return torch.where(square >= 0, square.clamp(min=0).sqrt(), -1)


def _wasserstein(distance: Tensor, pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor) -> Reach:
    distance = distance * (1 + _SLACK) + 1e-3  # in pixels
    radius = _radius(distance**2 - ((pw - gw) ** 2 + (ph - gh) ** 2) / 4)
    return radius, radius


def _nwd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, constant: float) -> Reach:
    return _wasserstein(-constant * torch.log(floor), pw, ph, gw, gh)


def _dotd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, constant: float) -> Reach:
    radius = (-constant * torch.log(floor) * (1 + _SLACK) + 1e-3).expand(torch.broadcast_shapes(pw.shape, gw.shape))
    return radius, radius


def _rfd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, kind: str = "kl") -> Reach:
    if kind == "wasserstein":
        return _wasserstein((1 / floor - 1).sqrt(), pw, ph, gw, gh)
    width_ratio, height_ratio = (pw / gw) ** 2, (ph / gh) ** 2
    shape = width_ratio - torch.log(width_ratio) + height_ratio - torch.log(height_ratio) - 2
    rest = _radius((2 * (1 / floor - 1) * (1 + _SLACK) + _SLACK - shape) / 4)
    return rest * gw, rest * gh


def _simd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, m: float, n: float) -> Reach:
    shape = ((m * (pw - gw) / (pw + gw)) ** 2 + (n * (ph - gh) / (ph + gh)) ** 2).sqrt()
    rest = -torch.log(floor) * (1 + _SLACK) + _SLACK - shape
    return rest * (pw + gw) / m, rest * (ph + gh) / n


def _gcd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor) -> Reach:
    across, down = 1 / pw**2 + 1 / gw**2, 1 / ph**2 + 1 / gh**2
    shape = ((pw - gw) ** 2 * across + (ph - gh) ** 2 * down) / 4
    rest = 2 * (torch.log(floor) * (1 + _SLACK) - _SLACK) ** 2 - shape
    return _radius(rest / across), _radius(rest / down)


_REACH: dict[Callable, Callable[..., Reach]] = {
    similarities.iou: _iou,
    similarities.iof: _iof,
    similarities.nwd: _nwd,
    similarities.dotd: _dotd,
    similarities.rfd: _rfd,
    similarities.simd: _simd,
    similarities.gcd: _gcd,
}
