"""What the four steps found, and what of it a person may ask: who was a candidate, which bar held, who lost to whom.

`Assigner.assign` returns `Steps`. The labels are made of its last lines, the explanation of all: one path, so that an
explanation cannot differ from the labels. Steps keep references to what was computed anyway, and cost no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labelkit.assigners.ground_truths import GroundTruths
from labelkit.assignment import IGNORED, NEGATIVE, Assignment
from labelkit.counts import counted
from labelkit.search.candidates import Pairs

Found = Pairs | tuple[Pairs, ...] | Callable[[], Pairs]


@dataclass(frozen=True, eq=False)
class Steps:
    """What a rule found, in global indices (see `GroundTruths`).

    candidates: the pairs that were looked at, with their values (of a rule in stages one `Pairs` a stage, of a rule
        that does not keep them a function that finds them again). chosen: those that passed. winners: one pair a slot,
        the positives; its value becomes the assignment's `similarity`. ignored: slots that are neither; `gts.slots` is
        none. Chosen and winning pairs may be `Marked`: gathered when somebody asks.
    bar: what a candidate's value had to reach, one number a ground truth; None: the least value that was chosen; one
        number for all where a second rule may choose below it, which lowers the bar of that ground truth.
    score_target, weight: of the winners, for the loss; a tensor of them goes with winners that are gathered.
    """

    candidates: Found
    chosen: Found
    winners: Pairs
    ignored: Int[Tensor, "m"] | None = None
    bar: Float[Tensor, "G"] | float | None = None
    score_target: Float[Tensor, "n"] | float = 1.0
    weight: Float[Tensor, "n"] | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the labels of one image are what they are. Pairs are vectors `prior`, `gt` (index in the target), `value`.

    candidates: every pair the rule considered, with the value it was judged by. bar [G]: the value from which on a
    ground truth chose; infinite where it chose nobody and the rule has no bar of its own. chosen: the pairs that
    passed. winners: the positives. losers: chosen pairs whose prior went to another ground truth; `taken_by` says to
    which. `assignment` holds the labels that follow.
    """

    candidates: Pairs
    bar: Float[Tensor, "G"]
    chosen: Pairs
    winners: Pairs
    losers: Pairs
    taken_by: Int[Tensor, "l"]
    assignment: Assignment

    def story(self, gt: int) -> str:
        """One ground truth's way through the four steps, in a few sentences."""
        if not 0 <= gt < len(self.bar):
            raise ValueError(f"gt must be an index below {len(self.bar)}, got {gt}")
        considered, chosen = self.candidates.value[self.candidates.gt == gt], int((self.chosen.gt == gt).sum())
        won, lost = int((self.winners.gt == gt).sum()), (self.losers.gt == gt).nonzero().squeeze(1)
        if not len(considered):
            return f"Ground truth {gt}: no prior was a candidate."
        lines = [
            f"Ground truth {gt}: {counted(len(considered), 'candidate')}, the best value "
            f"{float(considered.max()):.3g}, bar {float(self.bar[gt]):.3g}.",
            f"{chosen} chosen, {won} of them won.",
        ]
        for index in lost.tolist():
            prior, value, rival = (x[index].item() for x in (self.losers.prior, self.losers.value, self.taken_by))
            lines.append(f"Prior {prior} ({value:.3g}) went to ground truth {rival}.")
        return "\n".join(lines)


def labels_of(steps: Steps, gts: GroundTruths, ignored: Int[Tensor, "m"] | None) -> Assignment:
    """The flat answer [B * P]: the winners, `ignored` slots, all other slots negative.

    A slot that is positive and ignored is positive.
    """
    winners = steps.winners.table
    slot, real, size = gts.places(steps.winners), winners.value, gts.slots + 1  # the last one for who did not win
    gt = torch.full((size,), NEGATIVE, dtype=torch.int64, device=gts.boxes.device)
    for slots in (steps.ignored, ignored):
        if slots is not None:
            gt.index_fill_(0, slots, IGNORED)
    gt.index_copy_(0, slot, gts.local(winners.gt))
    similarity, score = real.new_zeros(2, size)
    similarity.index_copy_(0, slot, real)
    if isinstance(steps.score_target, Tensor):
        score.index_copy_(0, slot, steps.score_target)
    else:
        score.index_fill_(0, slot, steps.score_target)
    weight = real.new_ones(size)
    if steps.weight is not None:
        weight.index_copy_(0, slot, steps.weight)
    return Assignment(gt[:-1], similarity[:-1], score[:-1], weight[:-1])


def explanations(steps: Steps, gts: GroundTruths, answers: list[Assignment], totals: list[int]) -> list[Explanation]:
    """One an image. answers: the assignment of each image; totals: how many boxes its target has, flagged ones too."""
    candidates, chosen = gathered(steps.candidates), gathered(steps.chosen)
    bar = steps.bar
    if not isinstance(bar, Tensor):
        highest = chosen.value.new_full((len(gts),), torch.inf if bar is None else bar)
        bar = highest.scatter_reduce(0, chosen.gt, chosen.value, "amin")
    if bar.device != chosen.gt.device:  # computed on the CPU for a device without float64
        bar = bar.float().to(chosen.gt.device)
    result = []
    for image, (answer, total) in enumerate(zip(answers, totals, strict=True)):
        own = gts.image == image
        bars = bar.new_full((total,), torch.inf)
        bars[gts.index_in_image[own]] = bar[own].to(bars.dtype)
        passed = _of_image(chosen, gts, image)
        holder = answer.gt.index_select(0, passed.prior)
        lost = (holder != passed.gt).nonzero().squeeze(1)
        result.append(
            Explanation(
                candidates=_of_image(candidates, gts, image),
                bar=bars,
                chosen=passed,
                winners=_of_image(steps.winners, gts, image),
                losers=passed[lost],
                taken_by=holder[lost],
                assignment=answer,
            )
        )
    return result


def gathered(found: Found) -> Pairs:
    """The pairs, all stages of them, of a rule that may have kept only how to find them."""
    if isinstance(found, Pairs):
        return found
    if isinstance(found, tuple):
        return Pairs.join(found)
    return found()


def _of_image(pairs: Pairs, gts: GroundTruths, image: int) -> Pairs:
    """The pairs of one image, the ground truth by its index in the target."""
    own = pairs[gts.image.index_select(0, pairs.gt) == image]
    return Pairs(own.prior, gts.index_in_image.index_select(0, own.gt), own.value)
