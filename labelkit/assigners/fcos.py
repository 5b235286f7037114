"""FCOS: every point inside a ground truth of the right scale is positive; the smallest ground truth wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from labelkit.assigners.arguments import check_min_side
from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.boxes import centerness, centers, encode_ltrb, extents
from labelkit.devices import sent
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, floored, inside, within


@dataclass(frozen=True)
class FCOS(Assigner):
    """A point, with distances l, t, r, b to the sides of a ground truth, is positive for it if

    - it lies inside: min(l, t, r, b) > 0,
    - and, with `center_radius`, within that many strides of the centre: max(|dx|, |dy|) < center_radius * stride,
    - and its level fits: max(l, t, r, b) lies in the level's range.

    Among several ground truths the one of smallest area wins, the lower index on equal areas. Nothing is ignored.
    Tian 2019, sections 3.1 (inside, smallest area) and 3.2 (ranges); centre sampling came with the authors' later code.

    regress_ranges: (low, high) in pixels for each level; None takes (8 s of the level below, 8 s of this level), open
        at both ends of the pyramid: 0 to 64, 64 to 128, ... for strides 8, 16, ... `Priors` must know its strides.
    center_radius: None (the paper) or 1.5 (the authors' improved code, torchvision, detectron2).
    min_side: a side shorter than so many pixels is floored to it for "inside" alone, about the box's centre (what
        Ultralytics calls STAL); ranges, radius and centre-ness see the box as it is.
    closed_ranges: True, both ends belong to the range (the authors, mmdet: 64 px belongs to two levels); False,
        neither does (torchvision, detectron2: 64 px belongs to no level).

    `similarity` of a positive is its centre-ness (section 3.3), 0 outside its box. Points are the priors' centres;
    boxes will do too.
    """

    regress_ranges: Sequence[Sequence[float]] | None = None
    center_radius: float | None = None
    closed_ranges: bool = True
    min_side: float | None = None

    def __post_init__(self) -> None:
        check_min_side(self.min_side)
        if self.center_radius is not None and not self.center_radius > 0:
            raise ValueError(f"center_radius must be None or positive, got {self.center_radius}")
        if self.regress_ranges is not None:
            object.__setattr__(self, "regress_ranges", tuple(tuple(ends) for ends in self.regress_ranges))
        for level, ends in enumerate(self.regress_ranges or ()):
            if len(ends) != 2 or not ends[0] <= ends[1]:
                raise ValueError(f"regress_ranges[{level}] must be (low, high) with low <= high, got {ends}")

    def assign(self, priors: Priors, gts: GroundTruths) -> Steps:
        limits, side = self._level_limits(priors), extents(gts.boxes)
        center, shown, parts = centers(gts.boxes), floored(gts.boxes, self.min_side), []
        # Who may match: the points near enough to a ground truth on a level that can hold it.
        for prior, owner in within(priors, center, partial(self._reach, side, shown, limits)):
            point = priors.centers.index_select(0, prior)
            low, high, radius = limits.index_select(1, priors.levels.index_select(0, prior))
            distance = encode_ltrb(gts.boxes.index_select(0, owner), point)
            nearest, farthest = torch.aminmax(distance, dim=-1)
            if self.min_side is not None:
                nearest = encode_ltrb(shown.index_select(0, owner), point).amin(dim=-1)
            # Who is chosen: inside, central, of the right scale.
            chosen = (nearest > 0) & self._in_range(farthest, low, high)
            if self.center_radius is not None:
                chosen &= (point - center.index_select(0, owner)).abs().amax(dim=-1) < radius
            # How well: centre-ness, for the loss; it plays no part in the choice.
            parts.append(Pairs(prior.long(), owner.long(), self._central(distance)).some(chosen))
        pairs = Pairs.cat(parts, priors)
        # Who wins: the smallest ground truth.
        table, area = pairs.table, side[0] * side[1]
        won = gts.winners(pairs, area.index_select(0, table.gt))
        return Steps(lambda: self._inside(priors, gts), pairs, table.some(won), bar=0.0)

    def _inside(self, priors: Priors, gts: GroundTruths) -> Pairs:
        """Every point inside a ground truth, on whatever level: of these the rule chooses. For `explain` only: most
        stand on levels of the wrong scale, where labels need no look."""
        pairs = inside(priors, gts.boxes, self.min_side)
        distance = encode_ltrb(gts.boxes.index_select(0, pairs.gt), priors.centers.index_select(0, pairs.prior))
        return Pairs(pairs.prior, pairs.gt, self._central(distance))

    def _central(self, distance: Tensor) -> Tensor:
        """Centre-ness, and 0 for a point that only the floored box holds; of a point outside it means nothing."""
        if self.min_side is None:
            return centerness(distance)
        held = distance.amin(dim=-1, keepdim=True) > 0
        return centerness(distance.where(held, 1)) * held.squeeze(-1)

    def _in_range(self, farthest: Tensor, low: Tensor, high: Tensor) -> Tensor:
        if self.closed_ranges:
            return (low <= farthest) & (farthest <= high)
        return (low < farthest) & (farthest < high)

    def _level_limits(self, priors: Priors) -> Float[Tensor, "3 L"]:
        """Smallest and largest distance, and the radius around the centre, in pixels."""
        strides = priors.known_strides() if self.regress_ranges is None or self.center_radius is not None else ()
        ranges = self.regress_ranges
        if ranges is None:
            edges = [0.0, *(8.0 * stride for stride in strides[:-1]), math.inf]
            ranges = list(zip(edges[:-1], edges[1:], strict=True))
        levels = len(priors.level_sizes)
        if len(ranges) != levels:
            raise ValueError(f"regress_ranges must have one entry for each of the {levels} levels, got {len(ranges)}")
        radius = [math.inf if self.center_radius is None else self.center_radius * strides[i] for i in range(levels)]
        limits = [(low, high, near) for (low, high), near in zip(ranges, radius, strict=True)]
        return sent(torch.tensor(limits, dtype=priors.boxes.dtype).reshape(-1, 3).T.contiguous(), priors.device)

    def _reach(
        self, side: Float[Tensor, "2 G"], shown: Float[Tensor, "G 4"], limits: Float[Tensor, "3 L"]
    ) -> Float[Tensor, "2 G L"]:
        """How far a point may be from the centre in x and y: half the (floored) box, the radius, and at |dx| the
        farther side is |dx| + width / 2 away, which must not exceed `high`. No point sees more than that at the border:
        of a box that isn't floored, the whole side.
        """
        low, high, radius = limits
        half = wide = side[:, :, None] / 2
        if self.min_side is not None:
            wide = extents(shown)[:, :, None] / 2
        too_small = (wide + half).amax(dim=0) * (1 + 1e-5) < low
        return torch.minimum(torch.minimum(wide, high - half), radius).masked_fill(too_small, -1)
