"""The counting: some pictures' objects at the network's input, against the priors and under the rules.

Inputs of one padded size have the same priors and go through a rule together; nothing is made of an assignment but the
numbers that count, for the labels of all priors of a million pictures would be what takes the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.assigners.base import Assigner
from labelkit.assigners.explanation import Steps, gathered
from labelkit.assigners.ground_truths import GroundTruths
from labelkit.audit.front import Front
from labelkit.audit.tiles import Inputs
from labelkit.boxes import area
from labelkit.datasets.box_table import BoxTable
from labelkit.priors import Priors
from labelkit.search.best import best_prior
from labelkit.search.choosing import first_of

SLOTS = 1_400_000  # priors times inputs that go through a rule at once
Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Part:
    """What was counted of some pictures: a row an object, and a row an input."""

    objects: Columns
    inputs: Columns

    @classmethod
    def joined(cls, parts: list[Part]) -> Part:
        """One table of several, in the order of the data set whoever came first; at least one part.

        Takes the columns out of the parts, one after another: millions of rows are in memory once, not three times.
        """
        inputs = {name: np.concatenate([part.inputs.pop(name) for part in parts]) for name in list(parts[0].inputs)}
        order = np.argsort(np.concatenate([part.objects["box"] for part in parts]), kind="stable")
        names = list(parts[0].objects)
        return cls({name: np.concatenate([part.objects.pop(name) for part in parts])[order] for name in names}, inputs)


@dataclass(frozen=True, eq=False)
class Counter:
    """A table of boxes, a detector's front and rules by name: all that it takes to count."""

    table: BoxTable
    front: Front
    rules: Mapping[str, Assigner]

    @torch.no_grad()
    def count(self, images: np.ndarray) -> Part:
        """images: indices of pictures, ascending."""
        inputs = Inputs.of(self.table, images, self.front.tiles)
        seen = [self.front.at_input((height, width)) for height, width in inputs.sizes.tolist()]
        by_padded: dict[tuple[int, int], list[int]] = {}
        for number, one in enumerate(seen):
            by_padded.setdefault(one.padded, []).append(number)
        scale = np.array([[w / one.image_size[1], h / one.image_size[0]] for one in seen for h, w in [one.size]])
        scale = np.tile(scale.reshape(-1, 2), 2).astype(np.float32)
        found, priors_of = [self._nothing()], np.zeros(len(seen), dtype=np.int64)
        for numbers in by_padded.values():
            priors = self.front.priors(seen[numbers[0]])
            priors_of[numbers] = len(priors)
            together = max(1, SLOTS // max(1, len(priors)))
            for start in range(0, len(numbers), together):
                some = np.array(numbers[start : start + together])
                place, owner, boxes = inputs.boxes(self.table, some)
                if len(place):
                    at_input = torch.from_numpy(boxes * scale[some][owner])
                    counted = self._counted(
                        priors, at_input, inputs.box[place], np.bincount(owner, minlength=len(some))
                    )
                    keep = inputs.counts[place]
                    found.append({name: values[keep] for name, values in counted.items()})
        objects = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
        per_input = np.add.reduceat(np.append(inputs.counts, False).astype(np.int32), inputs.first[:-1])
        per_input = np.where(inputs.first[1:] > inputs.first[:-1], per_input, 0)
        return Part(objects, {"image": inputs.image.astype(np.int32), "objects": per_input, "priors": priors_of})

    def _counted(self, priors: Priors, boxes: Float[Tensor, "G 4"], rows: np.ndarray, counts: np.ndarray) -> Columns:
        """The columns of the objects of some inputs, which lie end to end. rows: theirs in the table."""
        side = area(boxes).sqrt()
        columns: Columns = {"box": rows, "boxes": boxes.numpy()}
        best, level = torch.full((len(boxes),), math.nan), torch.full((len(boxes),), -1, dtype=torch.int16)
        if self.front.has_anchors:
            best, level = _best(priors, boxes)
        columns |= {"best_iou": best.numpy(), "best_level": level.numpy()}
        gts = GroundTruths(boxes, None, tuple(counts.tolist()), len(priors))
        index = torch.from_numpy(self.table.index[rows])
        for name, rule in self.rules.items():
            steps = rule.assign(priors, gts)
            positives = torch.bincount(steps.winners.gt, minlength=len(gts)).int()
            thief = thieves(steps, gts, positives == 0)
            stolen = thief >= 0
            columns[f"positives {name}"] = positives.numpy()
            columns[f"taken_by {name}"] = torch.where(stolen, index[thief], -1).numpy()
            columns[f"times_larger {name}"] = torch.where(stolen, side[thief] / side, math.nan).numpy()
        return columns

    def _nothing(self) -> Columns:
        columns: Columns = {"box": np.zeros(0, np.int64), "boxes": np.zeros((0, 4), np.float32)}
        columns |= {"best_iou": np.zeros(0, np.float32), "best_level": np.zeros(0, np.int16)}
        for name in self.rules:
            columns |= {f"positives {name}": np.zeros(0, np.int32), f"taken_by {name}": np.zeros(0, np.int32)}
            columns[f"times_larger {name}"] = np.zeros(0, np.float32)
        return columns


def _best(priors: Priors, boxes: Float[Tensor, "G 4"]) -> tuple[Float[Tensor, "G"], Int[Tensor, "G"]]:
    """The highest IoU with any prior and that prior's level; 0 and -1 for a box that has no size in float32."""
    real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    best, level = torch.zeros(len(boxes)), torch.full((len(boxes),), -1, dtype=torch.int16)
    value, prior = best_prior(priors, boxes[real])
    best[real], level[real] = value, priors.levels[prior].to(level.dtype)
    return best, level


def thieves(steps: Steps, gts: GroundTruths, starved: Bool[Tensor, "G"]) -> Int[Tensor, "G"]:
    """For every starved object the one (over the batch) that won the best of the priors it had chosen, of equal ones
    the lowest; -1 for an object that had chosen none, and for those that are not starved."""
    thief = torch.full((len(gts),), -1)
    chosen = gathered(steps.chosen)
    chosen = chosen[starved[chosen.gt]]
    if not len(chosen) or not len(steps.winners):
        return thief
    held, order = gts.slot(steps.winners).sort()
    wanted = gts.slot(chosen)
    place = torch.searchsorted(held, wanted).clamp(max=len(held) - 1)
    lost = held[place] == wanted
    chosen, owner = chosen[lost], steps.winners.gt[order[place[lost]]]
    best = first_of(chosen.gt, len(gts), -chosen.value, chosen.prior)
    thief[chosen.gt[best]] = owner[best]
    return thief
