"""Plausible pairs: all that reach a floor, and all that may be among the k best of their ground truth.

Nothing here builds the prior x ground-truth matrix. On a grid, a window of cells around each ground truth holds every
prior that can matter; its pairs are evaluated exactly. Without a grid the windows are of buckets, or the same pairs
come from blocks of bounded size.
Work and memory follow the number of plausible pairs. Proofs stand beside the code that needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.boxes import centers, sizes
from labelkit.grid import Grid
from labelkit.priors import Priors
from labelkit.search import windows
from labelkit.search.buckets import Buckets, buckets_of
from labelkit.search.elementwise import checked, say_without_reach
from labelkit.search.pairs import OfTable, Pairs, Similarity
from labelkit.search.reach import reach_of
from labelkit.search.windows import Windows

_ROWS = 6  # of a grid: those that suit a ground truth are mostly fewer
_COARSE = 1e-30  # below, the relative rounding of float32 grows (denormal numbers), or the number becomes 0


def plausible(priors: Priors, gt: Float[Tensor, "G 4"], similarity: Similarity, floor: float, k: int = 0) -> Pairs:
    """All pairs whose similarity is at least `floor`, and all that may be among the k best of their ground truth.

    More precisely: every pair with value >= min(floor, v) where v > 0 is the k-th best value of its ground truth (all
    ties included); some below v may come along. A pair with value <= 0 comes only if `floor` asks for it.
    Ordered by ground truth. Work on a grid: the pairs inside the reach of a lower bound of v. Memory: the pairs found,
    and a bounded number of others at a time, for every k.
    """
    if len(priors) == 0 or gt.shape[0] == 0:
        return Pairs.cat([], priors)
    # All that are above 0: asked for by such a floor, and by one more than there are.
    k = min(k, len(priors) + 1) if floor > 0 else 0
    asked = k > 0 or 0 < floor < math.inf
    given, reach = similarity, reach_of(similarity) if asked else None
    similarity = checked(given, priors, gt)
    if len(priors) * gt.shape[0] <= windows.portions(gt.device).small:
        return _at_once(priors, gt, similarity, floor, k)
    if asked and reach is None and priors.grid is not None:
        say_without_reach(given)
    if priors.grid is None and reach is not None:
        buckets = buckets_of(priors, gt.shape[0], k)
        if buckets is not None:
            return Pairs.cat(list(_from_buckets(priors, buckets, gt, similarity, given, floor, k)), priors)
    # The cells near a ground truth that give a bound are k in every grid row: no use if those are as many as all.
    if priors.grid is None or reach is None or k * len(priors.grid) > len(priors):
        return Pairs.cat(list(_from_blocks(priors, gt, similarity, floor, k)), priors)
    return Pairs.cat(list(_from_windows(priors, priors.grid, gt, similarity, reach, floor, k)), priors)


def _from_windows(
    priors: Priors, grid: Grid, gt: Tensor, similarity: Similarity, reach: Callable, floor: float, k: int
) -> Iterator[Pairs]:
    bound = gt.new_full((gt.shape[0],), floor)
    if k > 0:
        bound = torch.minimum(bound, _kth_best_nearby(priors, grid, gt, similarity, k))
    window, below = reachable(grid, gt, reach, bound[:, None]), _just_below(bound, floor)
    yield from _exactly(scorer(priors, gt, similarity), windows.cells(grid, window), below)


def _from_buckets(
    priors: Priors, buckets: Buckets, gt: Tensor, similarity: Similarity, given: Similarity, floor: float, k: int
) -> Iterator[Pairs]:
    """given: the similarity before it was `checked`, which has the reach."""
    for owner in buckets.blocks(gt.shape[0], k):
        some = gt[owner]
        score, bound = scorer(buckets.priors, some, similarity), some.new_full((some.shape[0],), floor)
        if k > 0:
            bound = torch.minimum(bound, buckets.kth_best_nearby(some, similarity, k))
        window = buckets.reachable(some, given, lowered(bound[:, None]))
        if buckets.narrows(window, some.shape[0]):
            for pairs in _exactly(score, buckets.pairs(window), _just_below(bound, floor)):
                yield Pairs(buckets.order.index_select(0, pairs.prior), pairs.gt + owner.start, pairs.value)
        else:
            for pairs in _from_blocks(priors, some, similarity, floor, k):
                yield Pairs(pairs.prior, pairs.gt + owner.start, pairs.value)


def _exactly(
    score: Callable[[Tensor, Tensor], Tensor], near: Iterable[tuple[Tensor, Tensor]], below: Float[Tensor, "G"]
) -> Iterator[Pairs]:
    """What stands in windows, evaluated: the pairs above the bound of their ground truth."""
    for prior, owner in near:
        value = score(prior, owner)
        pairs = Pairs(prior, owner, value)[value > below.index_select(0, owner)]
        yield Pairs(pairs.prior.long(), pairs.gt.long(), pairs.value)


def _just_below(bound: Float[Tensor, "*n"], floor: float) -> Float[Tensor, "*n"]:
    """The largest number that is not enough: one below the bound, and 0 unless the floor itself asks for less.

    "> 0" holds whether denormal numbers count or are flushed to 0; ">= the least number above 0" does not.
    """
    below = torch.nextafter(bound, bound.new_full((), -math.inf))
    return below.clamp(min=0) if floor > 0 else below.clamp(max=-torch.finfo(bound.dtype).tiny)


def scorer(priors: Priors, gt: Tensor, similarity: Similarity) -> Callable[[Tensor, Tensor], Tensor]:
    """Similarity of index vectors. Coordinates are gathered one by one, so that arithmetic runs on dense memory."""
    gt_sides = gt.T.contiguous()

    def score(prior: Int[Tensor, "n"], owner: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        return similarity(priors.sides.index_select(1, prior).T, gt_sides.index_select(1, owner).T)

    return score


def reachable(grid: Grid, gt: Tensor, reach: Callable, floor: Tensor) -> Windows:
    """Windows of the cells that can reach `floor`, [G, 1] or [1, M], which is finite."""
    (width, height), floor = sizes(gt), lowered(floor)
    far = reach(grid.width[None], grid.height[None], width[:, None], height[:, None], floor, grid.hair)
    return windows.around(grid, centers(gt), torch.stack(far))


def lowered(floor: Tensor) -> Tensor:
    """A value is rounded too: above a lowered floor. Near 0 float32 is coarse: look everywhere."""
    return torch.where(floor < _COARSE, 0, floor * (1 - 1e-5))


def _kth_best_nearby(priors: Priors, grid: Grid, gt: Tensor, similarity: Similarity, k: int) -> Float[Tensor, "G"]:
    """A lower bound of each ground truth's k-th best value: the k-th best among the cells nearest to it.

    Any k pairs give a valid bound; the nearest ones give a tight one. -inf where fewer than k are near.
    """
    side = math.isqrt(k - 1) + 1
    some = max(1, windows.portions(gt.device).block // (len(grid) * side * side))
    if gt.shape[0] <= some:
        return _kth_best_in_cells(priors, grid, gt, similarity, k, side)
    return torch.cat([_kth_best_in_cells(priors, grid, part, similarity, k, side) for part in gt.split(some)])


def _kth_best_in_cells(
    priors: Priors, grid: Grid, gt: Tensor, similarity: Similarity, k: int, side: int
) -> Float[Tensor, "G"]:
    """The k-th best of the side x side nearest cells of every grid row, or of those rows whose nearest cell is best
    where all would be many; not on a level with fewer cells, which may be all that these rows have."""
    most = windows.portions(gt.device).small
    if 1 < side <= grid.smallest_side and len(gt) * len(grid) * side * side > most and len(grid) > _ROWS:
        rows = _in_cells(priors, grid, gt, similarity, 1).topk(_ROWS, dim=1).indices
        return _kth_best(_in_cells(priors, grid, gt, similarity, side, rows), k)
    return _kth_best(_in_cells(priors, grid, gt, similarity, side), k)


def _in_cells(
    priors: Priors, grid: Grid, gt: Tensor, similarity: Similarity, side: int, rows: Int[Tensor, "G r"] | None = None
) -> Float[Tensor, "G n"]:
    """The values of the side x side cells nearest to each ground truth, of some grid rows or of all."""
    start_x, start_y = windows.nearest(grid, centers(gt), side).start
    first, columns, step, last = grid.first, grid.columns, grid.step, grid.rows
    if rows is not None:
        start_x, start_y = start_x.gather(1, rows), start_y.gather(1, rows)
        first, columns, step, last = first[rows], columns[rows], step[rows], last[rows]
    inside = torch.arange(side, dtype=torch.int32, device=gt.device)
    prior = (first + (start_y * columns + start_x) * step)[..., None, None]
    columns, step, last = columns[..., None, None], step[..., None, None], last[..., None, None]
    prior = prior + (inside[:, None] * columns + inside) * step
    valid = None
    if side > grid.smallest_side:
        x, y = start_x[..., None, None] + inside, start_y[..., None, None] + inside[:, None]
        valid = (x < columns) & (y < last)
        prior = torch.where(valid, prior, 0)
    boxes = priors.sides.index_select(1, prior.flatten()).view(4, gt.shape[0], -1)
    value = similarity(boxes.movedim(0, -1), gt[:, None])
    return value if valid is None else value.masked_fill(~valid.reshape(value.shape), -math.inf)


def _kth_best(value: Float[Tensor, "G n"], k: int) -> Float[Tensor, "G"]:
    """The k-th best of every row, -inf where a row has fewer."""
    if k > value.shape[1]:
        return value.new_full(value.shape[:1], -math.inf)
    return value.amax(dim=1) if k == 1 else value.topk(k, dim=1).values[:, -1]


def _at_once(priors: Priors, gt: Tensor, similarity: Similarity, floor: float, k: int) -> Pairs:
    """`plausible` for so few pairs that looking for windows would take longer than evaluating them."""
    value = similarity(priors.sides[:, None].movedim(0, -1), gt[:, None])
    bound = _kth_best(value, k).clamp(max=floor) if k > 0 else value.new_full((gt.shape[0],), floor)
    found = (value > _just_below(bound, floor)[:, None]).flatten().nonzero().squeeze(1)
    if gt.shape[0] == 1:
        return OfTable(found, torch.zeros_like(found), value.flatten().index_select(0, found), value)
    owner = torch.div(found, len(priors), rounding_mode="floor")
    return OfTable(found - owner * len(priors), owner, value.flatten().index_select(0, found), value)


def _from_blocks(priors: Priors, gt: Tensor, similarity: Similarity, floor: float, k: int) -> Iterator[Pairs]:
    """`plausible` for priors without a grid and for similarities without a reach: every pair, a block at a time.

    Within a block of ground truths the k best so far are kept, so a pair below them is dropped at once; when the
    block is through, the survivors are held against the final k-th best.
    """
    for prior, owner in windows.blocks(len(priors), gt.shape[0], gt.device):
        if prior.start == 0:
            parts: list[Pairs] = []
            best = gt.new_full((owner.stop - owner.start, k), -math.inf)
            below = _just_below(gt.new_full(best.shape[:1], -math.inf if k > 0 else floor), floor)
        value = similarity(priors.sides[:, None, prior].movedim(0, -1), gt[owner, None])
        row = (value.amax(dim=1) > below).nonzero().squeeze(1)  # most blocks are far from most ground truths
        value = value.index_select(0, row)
        if k > 0:
            best.index_copy_(0, row, _merge_best(best.index_select(0, row), value))
            below = _just_below(best[:, -1].clamp(max=floor), floor)
        own, index = (value > below.index_select(0, row)[:, None]).nonzero(as_tuple=True)
        parts.append(Pairs(index + prior.start, row.index_select(0, own), value[own, index]))
        if prior.stop == len(priors):
            found = Pairs.cat(parts, priors)
            found = found[found.value > below.index_select(0, found.gt)] if k > 0 and len(parts) > 1 else found
            yield Pairs(found.prior, found.gt + owner.start, found.value)


def _merge_best(best: Float[Tensor, "G k"], value: Float[Tensor, "G n"]) -> Float[Tensor, "G k"]:
    """The k best of each ground truth, from the k best so far and a block of new values."""
    k = best.shape[1]
    if k == 1:
        return torch.maximum(best, value.amax(dim=1, keepdim=True))
    new = value.topk(min(k, value.shape[1]), dim=1).values
    return torch.cat((best, new), dim=1).topk(k, dim=1).values
