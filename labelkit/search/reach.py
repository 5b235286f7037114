"""Reach: how far from a ground truth a prior of a given size can stand and still be similar enough.

One function a similarity: it inverts the formula of `similarity.py` for a threshold and gives the largest |dx| and
|dy| between the centres, in pixels, at which that threshold can still be met; a negative reach means at no distance.
An answer may be too wide, never too narrow: what stands inside is evaluated exactly afterwards. Three things could make
it too narrow, and each has a margin:

- A float32 evaluation rounds (relative 1e-7 an operation): `_ROUNDING`, relative, and `_PIXEL` near a distance of 0.
- A stored side is off by two roundings of its *coordinates*, up to 0.4 hair (`Grid.hair`), however short it is. That
  changes areas, ratios and anything else divided by a side s by 0.4 * hair / s a side: `_slack` is 4 * hair / s.
- A stored centre is off by a hair: `windows.around` widens by it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from labelkit import similarity as similarities
from labelkit.boxes import centers

_ROUNDING = 1e-5  # a hundred float32 roundings
_PIXEL = 1e-3  # pixels
THIN = 1e-9  # pixels: as good as no side at all

Reach = tuple[Tensor, Tensor]


def reach_of(similarity: Callable) -> Callable[..., Reach] | None:
    """The reach of a similarity of this library, also behind `functools.partial`; None for anything else.

    A callable that knows its own reach carries it as the attribute `reach` (None if it has none); behind a partial its
    reach gets the same constants. A similarity that has a reach lies in [0, 1]. The reach is called as

        reach(prior_width, prior_height, gt_width, gt_height, floor, hair) -> (x, y)

    with tensors that broadcast: sides of a grid row ([1, M]) and of ground truths ([G, 1]) in pixels, the floor
    (>= 0, already lowered by 1e-5 of itself), and hair ([M], in pixels). It must hold for every prior whose sides
    differ from the given ones by 0.4 hair: where the similarity divides by a side, that is more than a rounding.
    The centres' own hair is added by the caller.
    """
    if hasattr(similarity, "reach"):
        return similarity.reach
    if isinstance(similarity, similarities.OfScaledPriors):
        inner = reach_of(similarity.similarity)
        return None if inner is None else partial(_of_scaled, inner, similarity.factor)
    if isinstance(similarity, partial):
        inner = reach_of(similarity.func)
        return None if inner is None or similarity.args else partial(inner, **similarity.keywords)
    return _REACH.get(similarity)


def _of_scaled(
    inner: Callable[..., Reach],
    factor: float,
    pw: Tensor,
    ph: Tensor,
    gw: Tensor,
    gh: Tensor,
    floor: Tensor,
    hair: Tensor,
) -> Reach:
    """Scaling multiplies what a side is off by, and rounds the new corners and their centre once more."""
    x, y = inner(pw * factor, ph * factor, gw, gh, floor, hair * (1 + factor))
    return x + hair * factor, y + hair * factor


def _slack(smallest: Tensor, hair: Tensor) -> Tensor:
    """What a float32 evaluation and stored sides may be off by, relative to the `smallest` length divided by."""
    return _ROUNDING + 4 * hair / smallest


def _smallest(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor) -> Tensor:
    return torch.minimum(torch.minimum(pw, ph), torch.minimum(gw, gh))


def _overlap_reach(intersection: Tensor, pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, hair: Tensor) -> Reach:
    """Centres may be apart as long as the boxes can still share `intersection` square pixels.

    Sharing an area I needs an overlap of at least I / min(heights) in x, and the overlap in x is at most
    (pw + gw) / 2 - |dx|; the same in y. No distance is small enough if I exceeds the smaller of the boxes.
    """
    least_width, least_height = torch.minimum(pw, gw), torch.minimum(ph, gh)
    kept = (1 - _ROUNDING) - 4 * hair / torch.minimum(least_width, least_height)  # 1 - slack
    intersection = intersection * kept.clamp_(min=0)  # at 0: as long as they touch
    x = (pw + gw) / 2 - intersection / least_height
    y = (ph + gh) / 2 - intersection / least_width
    impossible = intersection > least_width * least_height
    return x.masked_fill(impossible, -1), y.masked_fill(impossible, -1)


def _iou(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor) -> Reach:
    return _overlap_reach(floor / (1 + floor) * (pw * ph + gw * gh), pw, ph, gw, gh, hair)


def _iof(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor) -> Reach:
    return _overlap_reach(floor * (pw * ph), pw, ph, gw, gh, hair)


def _radius(square: Tensor) -> Tensor:
    return torch.where(square >= 0, square.clamp(min=0).sqrt(), -1)


def _wasserstein(distance: Tensor, pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, hair: Tensor) -> Reach:
    """The distance is the length of (dx, dy, dw / 2, dh / 2), which is off by less than 2 hairs."""
    distance = distance * (1 + _ROUNDING) + (_PIXEL + 2 * hair)
    radius = _radius(distance**2 - ((pw - gw) ** 2 + (ph - gh) ** 2) / 4)
    return radius, radius


def _nwd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor, constant: float) -> Reach:
    return _wasserstein(-constant * torch.log(floor), pw, ph, gw, gh, hair)


def _dotd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor, constant: float) -> Reach:
    radius = -constant * torch.log(floor) * (1 + _ROUNDING) + _PIXEL
    radius = radius.expand(torch.broadcast_shapes(pw.shape, gw.shape))
    return radius, radius


def _rfd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor, kind: str = "kl") -> Reach:
    if kind == "wasserstein":
        return _wasserstein((1 / floor - 1).sqrt(), pw, ph, gw, gh, hair)
    slack = _slack(_smallest(pw, ph, gw, gh), hair)
    width_ratio, height_ratio = (pw / gw) ** 2, (ph / gh) ** 2
    # r - log r - 1 changes by 2 |r - 1| e when a side changes by e of itself, and |r - 1| <= 2 (r - log r - 1) + 2.
    shape = width_ratio - torch.log(width_ratio) + height_ratio - torch.log(height_ratio) - 2
    rest = _radius((2 * (1 / floor - 1) * (1 + slack) + slack - shape) / 4)
    return rest * gw, rest * gh


def _simd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor, m: float, n: float) -> Reach:
    across, down = pw + gw, ph + gh
    slack = _slack(torch.minimum(across, down), hair)
    shape = ((m * (pw - gw) / across) ** 2 + (n * (ph - gh) / down) ** 2).sqrt()
    # Off by e a side, a length sqrt((m a / across)^2 + (n b / down)^2) changes by (m + n) e / smallest.
    rest = -torch.log(floor) * (1 + slack) + slack * (m + n) - shape
    return rest * across / m, rest * down / n


def _gcd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor) -> Reach:
    slack = _slack(_smallest(pw, ph, gw, gh), hair)
    across, down = 1 / pw**2 + 1 / gw**2, 1 / ph**2 + 1 / gh**2
    shape = ((pw - gw) ** 2 * across + (ph - gh) ** 2 * down) / 4
    # The distance -log is a length too, made of differences over sides.
    rest = 2 * (-torch.log(floor) * (1 + slack) + slack) ** 2 - shape
    return _radius(rest / across), _radius(rest / down)


def _gjsd(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor) -> Reach:
    slack = _slack(_smallest(pw, ph, gw, gh), hair)
    across, down = pw**2 + gw**2, ph**2 + gh**2
    shape = (torch.log(across / (2 * pw * gw)) + torch.log(down / (2 * ph * gh))) / 2
    # Off by e a side, the shape changes by at most 2 e, and `across` by 2 e of itself.
    rest = ((1 / floor - 1) * (1 + slack) + slack - shape) * (1 + slack)
    return _radius(rest * across), _radius(rest * down)


def nearness(prior: Tensor, gt: Tensor) -> Tensor:
    """Falls with the distance of the centres and never reaches 0: the most similar priors are the nearest."""
    offset = centers(prior) - centers(gt)
    return 1 / (1 + offset.square().sum(dim=-1).sqrt())


def _nearness(pw: Tensor, ph: Tensor, gw: Tensor, gh: Tensor, floor: Tensor, hair: Tensor) -> Reach:
    radius = ((1 / floor - 1) * (1 + _ROUNDING) + _PIXEL).expand(torch.broadcast_shapes(pw.shape, gw.shape))
    return radius, radius


_REACH: dict[Callable, Callable[..., Reach]] = {
    nearness: _nearness,
    similarities.iou: _iou,
    similarities.iof: _iof,
    similarities.nwd: _nwd,
    similarities.dotd: _dotd,
    similarities.rfd: _rfd,
    similarities.simd: _simd,
    similarities.gcd: _gcd,
    similarities.gjsd: _gjsd,
}


def reach_over(
    similarity: Callable,
    low: Float[Tensor, "2 1 M"],
    high: Float[Tensor, "2 1 M"],
    gt: Float[Tensor, "2 G 1"],
    floor: Float[Tensor, "#G #M"],
    hair: Float[Tensor, "M"],
) -> Reach:
    """The reach that holds for every prior whose sides (width, height) lie in [low, high], which a class of priors has.

    Let s* be the side in it that is nearest to the ground truth's. What unlike shapes cost is least there (by nwd, rfd,
    simd, gcd and gjsd it falls up to equality and rises from there). By simd, gcd and gjsd a distance is divided by a
    length that grows with the side, by at most s / s*. So the reach at (w*, h*), there times the longest side / s*, is
    enough for all. By dotd sizes play no part; for iou and iof see `_overlap_over`. A reach from elsewhere promises
    nothing about intervals: it is asked where a class is as narrow as a row of a grid, and infinite elsewhere.
    The sides were measured, so hair is only for what scaled priors round anew: relative to the shortest side.
    """
    if isinstance(similarity, similarities.OfScaledPriors) and not hasattr(similarity, "reach"):
        factor = similarity.factor
        x, y = reach_over(similarity.similarity, low * factor, high * factor, gt, floor, hair * (1 + factor))
        return x + hair * factor, y + hair * factor
    formula = similarity
    while isinstance(formula, partial):
        formula = formula.func
    if formula is similarities.iou:
        return _overlap_over(floor / (1 + floor), gt.prod(dim=0), low, high, gt, hair)
    if formula is similarities.iof:
        return _overlap_over(floor, 0, low, high, gt, hair)
    reach = reach_of(similarity)
    assert reach is not None
    if formula not in _BY_SHAPE:
        middle = (low + high) / 2
        x, y = reach(*middle, *gt, floor, hair)
        spread = (high - low > 0.8 * hair).any(dim=0)
        return torch.where(spread, torch.inf, x), torch.where(spread, torch.inf, y)
    nearest = torch.minimum(torch.maximum(gt, low), high)
    longer = torch.where(low >= THIN, high / low, 1).amax(dim=0)[0]
    x, y = reach(*nearest, *gt, floor, hair * longer)
    if similarities.asks_for_size(similarity):  # it divides by sides
        thin = (low < THIN).any(dim=0)
        x, y = x.masked_fill(thin, torch.inf), y.masked_fill(thin, torch.inf)
    if formula in _FREE_OF_SIZE:
        return x, y
    grown = torch.where(high > nearest, high / nearest, 1)
    return x * grown[0], y * grown[1]


_FREE_OF_SIZE = (nearness, similarities.nwd, similarities.dotd, similarities.rfd)  # once the shape has had its share
_BY_SHAPE = (*_FREE_OF_SIZE, similarities.simd, similarities.gcd, similarities.gjsd)


def _overlap_over(share: Tensor, other: Tensor | float, low: Tensor, high: Tensor, gt: Tensor, hair: Tensor) -> Reach:
    """The largest x = (w + gw) / 2 - I / min(h, gh) with I = share * (w h + other), as in `reach.py`, over a class.

    In h, I / min(h, gh) falls up to gh (share * w + share * other / h) and rises from there: h* is best. With it x is
    linear in w, so one end of the interval is best. It is impossible only where (w*, h*) is: below gw and gh the
    share of the smaller box grows with w and h, above it falls.
    """
    nearest = torch.minimum(torch.maximum(gt, low), high)
    least = torch.minimum(nearest, gt)
    kept = (1 - _ROUNDING) - 4 * hair / torch.minimum(low, gt).amin(dim=0)
    share = share * kept.clamp_(min=0)
    ends = torch.stack((low, high))
    far = (ends + gt) / 2 - share * (ends * nearest.flip(0) + other) / least.flip(0)
    x, y = far.amax(dim=0)
    impossible = (share * (nearest.prod(dim=0) + other) > least.prod(dim=0)) | (high <= 0).any(dim=0)
    return x.masked_fill(impossible, -1), y.masked_fill(impossible, -1)
