"""The door of an assigner: the targets of a batch, checked and laid end to end; objects apart from ignored regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labelkit.boxes import check_boxes, shaped, shortest_and_longest, sound
from labelkit.devices import read, sent
from labelkit.priors import Priors
from labelkit.search.candidates import Pairs
from labelkit.search.choosing import best_per_prior, first_of

Target = Mapping[str, Tensor]
FLAGS = ("iscrowd", "ignore")  # a box with either is a region where nothing may be learned


@dataclass(frozen=True, eq=False)
class GroundTruths:
    """The objects of a batch, concatenated. A global index counts over the batch, a slot is image * P + prior.

    counts: objects in each image. own_index: the index of each object in its target; None where it is the place in
    its image, because nothing was flagged. regions, region_counts: the flagged boxes likewise, which no rule sees.
    """

    boxes: Float[Tensor, "G 4"]
    labels: Int[Tensor, "G"] | None
    counts: tuple[int, ...]
    num_priors: int
    own_index: Int[Tensor, "G"] | None = None
    regions: Float[Tensor, "R 4"] | None = None
    region_counts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.boxes.shape[0]

    @property
    def images(self) -> int:
        return len(self.counts)

    @property
    def slots(self) -> int:
        return self.images * self.num_priors

    @property
    def spans(self) -> list[slice]:
        """Where the ground truths of each image stand."""
        ends = accumulate(self.counts, initial=0)
        return [slice(first, last) for first, last in pairwise(ends)]

    @property
    def alone(self) -> bool:
        """Whether no image has two ground truths, so that no prior is wanted twice."""
        return max(self.counts, default=0) <= 1

    @cached_property
    def image(self) -> Int[Tensor, "G"]:
        """Which image of the batch each ground truth belongs to."""
        image = torch.repeat_interleave(torch.tensor(self.counts, dtype=torch.int64), output_size=len(self))
        return sent(image, self.boxes.device)

    @cached_property
    def index_in_image(self) -> Int[Tensor, "G"]:
        """The index of each ground truth among the boxes of its own target."""
        if self.own_index is not None:
            return self.own_index
        own = [torch.arange(count) for count in self.counts]
        return sent(torch.cat([torch.zeros(0, dtype=torch.int64), *own]), self.boxes.device)

    def local(self, gt: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Indices in the own target instead of global ones."""
        return gt if self.images == 1 and self.own_index is None else self.index_in_image.index_select(0, gt)

    def slot_of(self, prior: Int[Tensor, "n"], gt: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Where a prior stands over the whole batch: it serves the image of each ground truth separately."""
        return prior if self.images == 1 else self.image.index_select(0, gt) * self.num_priors + prior

    def slot(self, pairs: Pairs) -> Int[Tensor, "n"]:
        """`slot_of` the prior and the ground truth of each pair."""
        return self.slot_of(pairs.prior, pairs.gt)

    def places(self, pairs: Pairs) -> Int[Tensor, "n"]:
        """`slot` of each pair of the `table`, and `slots`, one beyond the last, for those that the mask leaves out."""
        slot = self.slot(pairs.table)
        return slot if pairs.mask is None else slot.masked_fill(~pairs.mask, self.slots)

    def mark(self, pairs: Pairs) -> Bool[Tensor, "slots"]:
        """Which slots the priors of these pairs stand in."""
        marked = torch.zeros(self.slots + 1, dtype=torch.bool, device=self.boxes.device)
        return marked.index_fill_(0, self.places(pairs), True)[:-1]

    def winners(self, pairs: Pairs, criterion: Float[Tensor, "n"] | None = None) -> Bool[Tensor, "n"]:
        """Mark, in the table of the pairs, one pair for every slot: the most similar one, or the least by a criterion
        of the table's pairs; then the lower ground truth. Who is alone in an image has no rival."""
        table = pairs.table
        if self.alone:
            return torch.ones_like(table.gt, dtype=torch.bool) if pairs.mask is None else pairs.mask
        if criterion is None:
            return best_per_prior(pairs, self.slot(table), self.slots)
        return first_of(self.slot(table), self.slots, criterion, table.gt, among=pairs.mask)

    def of_images(self, first: int, last: int) -> GroundTruths:
        """The images from first to last - 1 as a batch of their own."""

        def cut(rows: Tensor | None, counts: tuple[int, ...]) -> Tensor | None:
            start = sum(counts[:first])
            return rows if rows is None else rows[start : start + sum(counts[first:last])]

        return GroundTruths(
            cast(Tensor, cut(self.boxes, self.counts)),
            cut(self.labels, self.counts),
            self.counts[first:last],
            self.num_priors,
            cut(self.own_index, self.counts),
            cut(self.regions, self.region_counts),
            self.region_counts[first:last],
        )

    def only_regions(self) -> GroundTruths | None:
        """The regions in the place of the objects, so that their pairs find their slots; None if there are none."""
        if self.regions is None:
            return None
        return GroundTruths(self.regions, None, self.region_counts, self.num_priors)


def collect(targets: Sequence[Target], priors: Priors) -> GroundTruths:
    """Check every target and concatenate them. The errors name the target, the index and the value."""
    if not isinstance(priors, Priors):
        raise ValueError(f"priors must be a labelkit.Priors, got {type(priors).__name__}: see Priors.from_boxes")
    checked = [_checked(target, f"target[{i}]", priors) for i, target in enumerate(targets)]
    flat = _end_to_end([one.boxes for one in checked], priors)
    counts = tuple(len(one.boxes) for one in checked)
    labels, known = None, [one.labels for one in checked if one.labels is not None]
    if len(known) == len(checked):
        labels = known[0] if len(known) == 1 else torch.cat([_no_labels(priors), *known])
    everything = GroundTruths(flat, labels, counts, len(priors))
    flags = [flag for one in checked for flag in one.flags.values()]
    if not _any_flagged(flat, known, flags, checked):
        return everything
    return _apart(everything, [one.flagged() for one in checked])


def _any_flagged(boxes: Tensor, labels: Sequence[Tensor], flags: Sequence[Tensor], checked: Sequence[_Checked]) -> bool:
    """Look at the values of all targets, waiting for a device once: an error for the first that is wrong, else whether
    a box is flagged."""
    if not len(boxes):
        return False
    label = torch.cat([*labels]) if len(labels) > 1 else labels[0] if labels else boxes.new_zeros(0)
    asked = [*shortest_and_longest(boxes)]
    if len(label):
        asked.append(label.amin())
    if flags:
        flag = torch.cat([*flags]) if len(flags) > 1 else flags[0]
        asked += [((flag != 0) & (flag != 1)).any(), (flag != 0).any()]
    low, high, *rest = read(*asked)
    least_label = rest[0] if len(label) else 0
    wrong, any_flagged = rest[-2:] if flags else (False, False)
    if not sound(low, high) or least_label < 0 or wrong:
        for one in checked:
            one.raise_for_values()
    return bool(any_flagged)


def _apart(everything: GroundTruths, flagged: Sequence[Tensor | None]) -> GroundTruths:
    """Objects and flagged regions apart."""
    device = everything.boxes.device
    flags = [
        torch.zeros(count, dtype=torch.bool, device=device) if one is None else one
        for one, count in zip(flagged, everything.counts, strict=True)
    ]
    regions = torch.stack([one.sum() for one in flags]).tolist()
    flag = torch.cat(flags)
    keep, drop = (~flag).nonzero().squeeze(1), flag.nonzero().squeeze(1)
    return GroundTruths(
        everything.boxes[keep],
        None if everything.labels is None else everything.labels[keep],
        tuple(count - region for count, region in zip(everything.counts, regions, strict=True)),
        everything.num_priors,
        everything.index_in_image[keep],
        everything.boxes[drop],
        tuple(regions),
    )


def _end_to_end(boxes: Sequence[Tensor], priors: Priors) -> Tensor:
    """One tensor, at least as wide as the priors."""
    flat = boxes[0] if len(boxes) == 1 else torch.cat([priors.boxes.new_zeros(0, 4), *boxes])
    if flat.dtype != priors.boxes.dtype:
        flat = flat.to(torch.promote_types(flat.dtype, priors.boxes.dtype))
    return flat


def _no_labels(priors: Priors) -> Tensor:
    return torch.zeros(0, dtype=torch.int64, device=priors.device)


class _Checked(NamedTuple):
    """A target whose keys, shapes and dtypes are in order, and whose values nobody has looked at."""

    name: str
    boxes: Tensor
    labels: Tensor | None
    flags: dict[str, Tensor]

    def raise_for_values(self) -> None:
        """The error for a value that can't be, if there is one."""
        check_boxes(self.boxes, f"{self.name}['boxes']")
        wrong = [] if self.labels is None else [("labels", self.labels, self.labels < 0, "a class counted from 0")]
        wrong += [(key, flag, (flag != 0) & (flag != 1), "0 or 1") for key, flag in self.flags.items()]
        for key, values, bad, rule in wrong:
            for index in bad.nonzero()[:1, 0].tolist():
                raise ValueError(f"{self.name}['{key}'][{index}] must be {rule}, got {values[index].item()}")

    def flagged(self) -> Tensor | None:
        """Which boxes are regions to be ignored; None if nothing says so."""
        flags = [flag != 0 for flag in self.flags.values()]
        return torch.stack(flags).any(dim=0) if flags else None


def _checked(target: object, name: str, priors: Priors) -> _Checked:
    if not isinstance(target, Mapping) or "boxes" not in target:
        raise ValueError(f"{name} must be a dict with 'boxes' [G, 4] and 'labels' [G], got {target!r:.80}")
    for key in ("boxes", "labels", *FLAGS):
        value = target.get(key)
        if isinstance(value, Tensor) and value.device != priors.device:
            raise ValueError(f"{name}['{key}'] is on {value.device}, the priors are on {priors.device}")
    boxes, labels = target["boxes"], target.get("labels")
    if isinstance(boxes, Tensor) and boxes.numel() == 0:
        boxes = boxes.reshape(-1, 4)
    boxes = shaped(boxes, f"{name}['boxes']")
    if labels is not None:
        labels = _labels(labels, f"{name}['labels']", len(boxes))
    return _Checked(name, boxes, labels, _flags(target, name, boxes))


def _labels(labels: object, name: str, count: int) -> Tensor:
    # torch.tensor([]) is float32: no labels need no dtype.
    nothing = isinstance(labels, Tensor) and count == 0 and labels.numel() == 0
    if not isinstance(labels, Tensor) or (labels.is_floating_point() or labels.dtype == torch.bool) and not nothing:
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise ValueError(f"{name} must be a tensor of whole numbers, got {kind}")
    if nothing:
        return labels.reshape(0).long()
    if labels.shape != (count,):
        raise ValueError(f"{name} must have shape [{count}], one class for each box, got {list(labels.shape)}")
    return labels.long()


def _flags(target: Mapping[str, object], name: str, boxes: Tensor) -> dict[str, Tensor]:
    """The flags of a target that has boxes, by their names."""
    found = {}
    for key in FLAGS:
        value = target.get(key)
        if value is None or not len(boxes):
            continue
        if not isinstance(value, Tensor) or value.shape != (len(boxes),):
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name}['{key}'] must have shape [{len(boxes)}], one flag for each box, got {shape}")
        found[key] = value
    return found


def flagged(target: Mapping[str, Any]) -> Bool[Tensor, "G"]:
    """Which boxes of a target are regions to ignore, by `iscrowd` or `ignore`, and no objects."""
    nowhere = torch.zeros(len(target["boxes"]), dtype=torch.bool, device=target["boxes"].device)
    return torch.stack([nowhere, *(target[key] != 0 for key in FLAGS if target.get(key) is not None)]).any(dim=0)
