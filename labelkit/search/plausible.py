"""Plausible pairs: all that reach a floor, and all that may be among the k best of their ground truth.

Nothing here builds the prior x ground-truth matrix. On a grid, a window of cells around each ground truth holds every
prior that can matter; its pairs are evaluated exactly. Without a grid the same pairs come from blocks of bounded size.
Work and memory follow the number of plausible pairs. Proofs stand beside the code that needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.boxes import centers, sizes
from labelkit.priors import Grid, Priors
from labelkit.search import windows
from labelkit.search.pairs import Pairs, Similarity
from labelkit.search.reach import reach_of
from labelkit.search.windows import Windows

_SMALLEST = 1e-45  # the least float32 above 0: a similarity of 0 says "nothing in common" and is never among the k best


def plausible(priors: Priors, gt: Float[Tensor, "G 4"], similarity: Similarity, floor: float, k: int = 0) -> Pairs:
    """All pairs whose similarity is at least `floor`, and all that may be among the k best of their ground truth.

    More precisely: every pair with value >= min(floor, v) where v > 0 is the k-th best value of its ground truth (all
    ties included); some below v may come along. A pair with value <= 0 comes only if `floor` asks for it.
    Ordered by ground truth. Work on a grid: the pairs inside the reach of a lower bound of v.
    """
    if len(priors) == 0 or gt.shape[0] == 0:
        return Pairs.cat([], priors)
    reach = reach_of(similarity) if priors.grid is not None and floor > 0 else None
    if len(priors) * gt.shape[0] <= windows.SMALL:
        return _at_once(priors, gt, similarity, floor, k)
    if reach is None:
        return Pairs.cat(list(_from_blocks(priors, gt, similarity, floor, k)), priors)
    bound = gt.new_full((gt.shape[0],), floor)
    if k > 0:
        bound = torch.minimum(bound, _kth_best_nearby(priors, gt, similarity, k).clamp(min=_SMALLEST))
    window = reachable(priors.grid, gt, reach, bound[:, None])
    parts, score = [], scorer(priors, gt, similarity)
    for prior, owner in windows.cells(priors.grid, window):
        pairs = Pairs(prior, owner, score(prior, owner))
        pairs = pairs[pairs.value >= bound.index_select(0, owner)]
        parts.append(Pairs(pairs.prior.long(), pairs.gt.long(), pairs.value))
    return Pairs.cat(parts, priors)


def scorer(priors: Priors, gt: Tensor, similarity: Similarity) -> Callable[[Tensor, Tensor], Tensor]:
    """Similarity of index vectors. Coordinates are gathered one by one, so that arithmetic runs on dense memory."""
    gt_sides = gt.T.contiguous()

    def score(prior: Int[Tensor, "n"], owner: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        return similarity(priors.sides.index_select(1, prior).T, gt_sides.index_select(1, owner).T)

    return score


def reachable(grid: Grid, gt: Tensor, reach: Callable, floor: Tensor) -> Windows:
    """Windows of the cells that can reach `floor`, [G, 1] or [1, M]; none where it is infinite."""
    width, height = sizes(gt)
    floor = torch.where(floor < 1e-30, 0, floor * (1 - 1e-5))  # near 0 float32 is coarse: look everywhere
    across, down = reach(grid.width[None], grid.height[None], width[:, None], height[:, None], floor)
    nowhere = floor == math.inf
    return windows.around(grid, centers(gt), across.masked_fill(nowhere, -1), down.masked_fill(nowhere, -1))


def _kth_best_nearby(priors: Priors, gt: Tensor, similarity: Similarity, k: int) -> Float[Tensor, "G"]:
    """A lower bound of each ground truth's k-th best value: the k-th best among the cells nearest to it.

    Any k pairs give a valid bound; the nearest ones give a tight one. -inf where fewer than k are near.
    """
    grid, side = priors.grid, math.isqrt(k - 1) + 1
    start_x, start_y = windows.nearest(grid, centers(gt), side).start
    inside = torch.arange(side, dtype=torch.int32, device=gt.device)
    columns, step, rows = (part[:, None, None] for part in (grid.columns, grid.step, grid.rows))
    prior = (grid.first + (start_y * grid.columns + start_x) * grid.step)[..., None, None]
    prior = prior + (inside[:, None] * columns + inside) * step
    valid = None
    if side > grid.smallest_side:
        x, y = start_x[..., None, None] + inside, start_y[..., None, None] + inside[:, None]
        valid = (x < columns) & (y < rows)
        prior = torch.where(valid, prior, 0)
    boxes = priors.sides.index_select(1, prior.flatten()).view(4, gt.shape[0], -1)
    value = similarity(boxes.movedim(0, -1), gt[:, None])
    if valid is not None:
        value = value.masked_fill(~valid.reshape(value.shape), -math.inf)
    if k > value.shape[1]:
        return value.new_full((gt.shape[0],), -math.inf)
    return value.amax(dim=1) if k == 1 else value.topk(k, dim=1).values[:, -1]


def _at_once(priors: Priors, gt: Tensor, similarity: Similarity, floor: float, k: int) -> Pairs:
    """`plausible` for so few pairs that looking for windows would take longer than evaluating them."""
    value = similarity(priors.sides[:, None].movedim(0, -1), gt[:, None])
    bound = floor
    if k > 0:
        best = _merge_best(value.new_full((gt.shape[0], k), -math.inf), value)
        bound = best[:, -1:].clamp(min=_SMALLEST).clamp(max=floor)
    found = (value >= bound).flatten().nonzero().squeeze(1)
    owner = torch.div(found, len(priors), rounding_mode="floor")
    return Pairs(found - owner * len(priors), owner, value.flatten().index_select(0, found))


def _from_blocks(priors: Priors, gt: Tensor, similarity: Similarity, floor: float, k: int) -> Iterator[Pairs]:
    """`plausible` for priors without a grid and for similarities without a reach: every pair, a block at a time.

    Within a block of ground truths the k best so far are kept, so a pair below them is dropped at once; when the
    block is through, the survivors are held against the final k-th best.
    """
    for prior, owner in windows.blocks(len(priors), gt.shape[0]):
        if prior.start == 0:
            parts, best = [], gt.new_full((owner.stop - owner.start, k), -math.inf)
            bound = gt.new_full((owner.stop - owner.start,), min(floor, _SMALLEST) if k > 0 else floor)
        value = similarity(priors.sides[:, None, prior].movedim(0, -1), gt[owner, None])
        row = (value.amax(dim=1) >= bound).nonzero().squeeze(1)  # most blocks are far from most ground truths
        value = value.index_select(0, row)
        if k > 0:
            best.index_copy_(0, row, _merge_best(best.index_select(0, row), value))
            bound = best[:, -1].clamp(min=_SMALLEST).clamp(max=floor)
        own, index = (value >= bound.index_select(0, row)[:, None]).nonzero(as_tuple=True)
        parts.append(Pairs(index + prior.start, row.index_select(0, own), value[own, index]))
        if prior.stop == len(priors):
            found = Pairs.cat(parts, priors)
            found = found[found.value >= bound.index_select(0, found.gt)] if k > 0 and len(parts) > 1 else found
            yield Pairs(found.prior, found.gt + owner.start, found.value)


def _merge_best(best: Float[Tensor, "G k"], value: Float[Tensor, "G n"]) -> Float[Tensor, "G k"]:
    """The k best of each ground truth, from the k best so far and a block of new values."""
    k = best.shape[1]
    if k == 1:
        return torch.maximum(best, value.amax(dim=1, keepdim=True))
    new = value.topk(min(k, value.shape[1]), dim=1).values
    return torch.cat((best, new), dim=1).topk(k, dim=1).values
