"""What a similarity has to be before pairs are found by it: elementwise and finite, and fit for the priors."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from labelkit.once import warn_once
from labelkit.priors import Priors
from labelkit.search.pairs import Similarity
from labelkit.similarity import asks_for_size, formula_of, is_ours


def checked(similarity: Similarity, priors: Priors, gt: Tensor) -> Similarity:
    """The similarity, if it is one of this library (elementwise and finite by its tests); another one is tried on six
    pairs and looked at whenever it is evaluated. Needs at least one prior and one ground truth.
    """
    if is_ours(similarity):
        return similarity
    prior, some = priors.boxes[[0, -1]].to(gt.dtype), gt[[0, 0, -1]]
    first = prior[:1].repeat(3, 1)
    try:
        table, row = similarity(prior[:, None], some), similarity(first, some)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{_rule(similarity)}, but it raised {type(error).__name__}: {error}") from error
    _check(similarity, row, first, some)
    _check(similarity, table, prior[:, None], some)
    if not torch.allclose(table[0], row, rtol=1e-3, atol=1e-3):
        raise ValueError(f"{_rule(similarity)}, but its value of a pair depends on the other pairs")
    return partial(_evaluated, similarity)


def say_without_reach(similarity: Similarity) -> None:
    """A warning, once for each similarity from elsewhere: it is slow, and need not be."""
    if not is_ours(similarity):
        name = getattr(formula_of(similarity), "__name__", type(similarity).__name__)
        warn_once(
            f"similarity {name} has no reach, so that every prior is held against every ground truth, in blocks: exact "
            f"and slow. {name}.reach = function(prior_width, prior_height, gt_width, gt_height, floor, hair) -> (x, y) "
            "says how far apart two centres may be for a value of floor; docs/library.md has an example"
        )


def _evaluated(similarity: Similarity, prior: Tensor, gt: Tensor) -> Tensor:
    value = similarity(prior, gt)
    _check(similarity, value, prior, gt)
    return value.to(gt.dtype)


def _rule(similarity: Similarity) -> str:
    name = getattr(formula_of(similarity), "__name__", repr(similarity))
    return (
        f"similarity must be elementwise, ([..., 4], [..., 4]) -> [...], which {name} is not: see labelkit.similarity"
    )


def _check(similarity: Similarity, value: object, prior: Tensor, gt: Tensor) -> None:
    shape = torch.broadcast_shapes(prior.shape, gt.shape)
    if not isinstance(value, Tensor) or value.shape != shape[:-1] or not value.is_floating_point():
        found = f"{list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{_rule(similarity)}; it gave {found} for {list(prior.shape)} and {list(gt.shape)}")
    if value.numel() == 0:
        return
    low, high = torch.aminmax(value)
    if not bool((low > -math.inf) & (high < math.inf)):  # NaN fails both
        index = tuple((~value.isfinite()).nonzero()[0].tolist())
        boxes = [side.expand(shape)[index].tolist() for side in (prior, gt)]
        name = getattr(formula_of(similarity), "__name__", repr(similarity))
        raise ValueError(f"similarity must be finite, got {value[index].item()} from {name} for prior and box {boxes}")


def needs_size(priors: Priors, similarity: Similarity) -> None:
    """Refuse priors none of which has an area where the similarity says nothing about them: with points a rule by
    overlap would find no positive and say so to nobody. FCOS, `dotd`, `nwd` and `simd` work on points.
    """
    if asks_for_size(similarity) and len(priors) > 0 and not priors.has_area:
        name = formula_of(similarity).__name__
        raise ValueError(
            f"priors must have a positive size somewhere for {name}, which says nothing about points: "
            "take Priors.anchors, or a similarity that knows points (dotd, nwd, simd)"
        )
