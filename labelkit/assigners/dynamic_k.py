"""What SimOTA and DynamicSoftLabel share: how many priors a ground truth takes, which ones, and who wins.

Both rules price every kept prior for every ground truth. Nearly all of those costs are too high to matter: a rule names
pairs that it `known`s to be cheap, and what all others cost more than. Only ground truths that would take a dearer one,
and contested priors that would go for more, are looked at beyond.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assigners.predicted import check_read
from labelkit.assignment import Predictions
from labelkit.devices import as_double
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs, decoded_overlaps
from labelkit.search.choosing import counts, first_in_order, first_k

PORTION = 1 << 19  # pairs beyond the known ones that are looked at together
_ROWS = 1 << 11  # priors whose scores are
_ROUNDING = 1e-6  # a sum of float32 numbers near 1

Cost = Callable[[Pairs], Tensor]  # the cost of pairs, in float32, whatever their value is


def dynamic_k(
    priors: Priors, gts: GroundTruths, decoded: Float[Tensor, "B P 4"], kept: Bool[Tensor, "slots"], k: int
) -> Int[Tensor, "G"]:
    """How many priors each ground truth takes: the sum of its k largest IoUs with the decoded boxes of the kept
    priors, truncated, and at least 1. A sum that misses a whole number by less than 1e-6 counts as that number."""
    total = as_double(gts.boxes.new_zeros(len(gts)))
    for boxes, among, own in zip(decoded, kept.view(gts.images, gts.num_priors), gts.spans, strict=True):
        pairs = decoded_overlaps(priors, boxes, gts.boxes[own], among, k)
        best = pairs[first_k(pairs.gt, own.stop - own.start, k, -pairs.value)]
        total[own].index_add_(0, best.gt.to(total.device), as_double(best.value))
    return (total + _ROUNDING).long().clamp(min=1).to(priors.device)


def sum_over_classes(
    predictions: Predictions, slot: Int[Tensor, "n"], each: Callable[[Tensor], Tensor]
) -> Float[Tensor, "n"]:
    """`each` of a prior's scores, summed in float64: once for every slot that occurs, however many pairs it has."""
    scores = predictions.scores.flatten(0, 1)
    slots, place = slot.unique(return_inverse=True)
    sums = []
    for part in slots.split(_ROWS):
        read = scores.index_select(0, part)
        check_read(read, predictions)
        sums.append(each(as_double(read)).sum(dim=1))
    of_slot = torch.cat(sums)
    return of_slot.index_select(0, place.to(of_slot.device))


def take_cheapest(
    known: Pairs, room: Int[Tensor, "G"], above: float, others: Callable[[Tensor], Pairs]
) -> tuple[Pairs, Pairs]:
    """(looked at, chosen): the `room` cheapest pairs of every ground truth, ties to the lower prior.

    The value of a pair is its cost. others: from ground truths to what else they could take, at more than `above`
    each, a pair once; known pairs may be among it.
    """
    gts, most = len(room), int(room.max()) if len(room) else 0
    few = known[first_k(known.gt, gts, most, known.value, known.prior)]
    # One ground truth has room for `most`, that is for all of them.
    chosen = few if gts == 1 else few[first_in_order(few.gt, room, few.value, few.prior)]
    short = counts(chosen.gt, gts) < room
    short = short.index_fill(0, chosen.gt[chosen.value > above], True)
    if not bool(short.any()):
        return known, chosen
    more = others(short.nonzero().squeeze(1))
    more = more[~torch.isin(_key(more), _key(known))]
    either = Pairs.join((few[short[few.gt]], more))
    taken = either[first_in_order(either.gt, room, either.value, either.prior)]
    return Pairs.join((known, more)), Pairs.join((chosen[~short[chosen.gt]], taken))


def winners(known: Pairs, chosen: Pairs, gts: GroundTruths, above: float, cost: Cost) -> Pairs:
    """One pair for every chosen prior. A contested one goes to the ground truth of the image for which it is cheapest,
    whether that chose it or not, then to the lower index. cost: of pairs that aren't known."""
    if gts.alone:
        return chosen
    contested = counts(gts.slot(chosen), gts.slots) > 1
    if not bool(contested.any()):
        return chosen
    rivals = known[contested[gts.slot(known)]]
    least = known.value.new_full((gts.slots,), torch.inf)
    least = least.scatter_reduce(0, gts.slot(rivals), rivals.value, "amin")
    dear = contested & (least > above)  # somebody that is not known may be the cheapest
    found = [chosen[~contested[gts.slot(chosen)]], _best(rivals[~dear[gts.slot(rivals)]], gts)]
    for slots in portions(dear.nonzero().squeeze(1), len(gts)):
        pairs = _with_all(slots, gts)
        found.append(_best(Pairs(pairs.prior, pairs.gt, cost(pairs)), gts))
    return Pairs.join(found)


def portions(index: Int[Tensor, "n"], each: int) -> tuple[Tensor, ...]:
    """The indices in portions, where every one stands for `each` pairs."""
    return index.split(max(1, PORTION // max(each, 1)))


def worth(pairs: Pairs) -> Pairs:
    """The pairs with what an explanation compares: the higher, the better."""
    return Pairs(pairs.prior, pairs.gt, -pairs.value)


def _key(pairs: Pairs) -> Int[Tensor, "n"]:
    return (pairs.gt << 32) + pairs.prior


def _best(pairs: Pairs, gts: GroundTruths) -> Pairs:
    return pairs[gts.winners(pairs, pairs.value)]


def _with_all(slots: Int[Tensor, "n"], gts: GroundTruths) -> Pairs:
    """Every slot with all ground truths of its image."""
    image = torch.div(slots, gts.num_priors, rounding_mode="floor")
    place, gt = (image[:, None] == gts.image).nonzero(as_tuple=True)
    return Pairs((slots - image * gts.num_priors)[place], gt, gts.boxes.new_zeros(len(gt)))
