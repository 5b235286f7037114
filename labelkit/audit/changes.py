"""What would change it: the same pictures under larger inputs, smaller anchors, finer strides, cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from labelkit.assigners import ATSS, RKA
from labelkit.audit.counting import Counter, Part
from labelkit.audit.front import Front
from labelkit.audit.numbers import REACHED, mean, median, number
from labelkit.audit.tiles import Tiles
from labelkit.audit.work import Job, work
from labelkit.similarity import nwd, nwd_constant

CHANGES = (  # of the input, of the anchors' sides, of the strides
    (1, 1, 1),
    (1, 2, 1),
    (1, 4, 1),
    (1, 4, 2),
    (2, 1, 1),
    (2, 4, 2),
    (4, 1, 1),
)
CUT_INTO = (2, 4)  # tiles along the longer side of a picture
LOOKED_AT = 16  # pictures for which the changes are worked out
TOGETHER = 4  # of them, for one worker
LARGER = 1.2  # as much larger must a tile be at the input than the picture, to be worth a line


def changes(counter: Counter, workers: int) -> list[dict[str, Any]]:
    """One dict a change: in words, the anchors of a picture, what they reach, whom three rules starve."""
    table, front = counter.table, counter.front
    step = max(1, len(table) // LOOKED_AT)
    objects = np.bincount(table.image[~table.ignored], minlength=len(table))
    some = np.array([image for image in range(0, len(table), step) if objects[image]][:LOOKED_AT], dtype=np.int64)
    if not len(some):
        return []
    first, rule = next(iter(counter.rules.items()))
    as_it_is = Counter(table, front, {}).count(some)
    constant = nwd_constant(torch.from_numpy(as_it_is.objects["boxes"]))
    rules = {first: rule, "atss": ATSS(), "rka": RKA(similarity=partial(nwd, constant=constant))}
    fronts = list(_fronts(front, table.sizes[some]))
    counters = [Counter(table, changed, rules) for changed in fronts]
    jobs: list[Job] = [
        (which, some[start : start + TOGETHER])
        for which in range(len(fronts))
        for start in range(0, len(some), TOGETHER)
    ]
    parts: dict[int, list[Part]] = {}
    for (which, _), part in work(counters, jobs, workers):
        parts.setdefault(which, []).append(part)
    return [_row(front, fronts[which], Part.joined(parts[which]), list(rules), some) for which in sorted(parts)]


def _fronts(front: Front, sizes: np.ndarray) -> Iterator[Front]:
    for enlarge, smaller, finer in CHANGES if front.has_anchors else [c for c in CHANGES if c[1] == c[2]]:
        yield front.changed(enlarge=enlarge, smaller=smaller, finer=finer)
    if front.tiles is not None:
        return
    height, width = (int(length) for length in np.median(sizes, axis=0))
    as_it_is = front.at_input((height, width)).size[0] / height
    for parts in CUT_INTO:
        side = -(-max(height, width) // parts)
        down, across = min(side, height), min(side, width)
        if front.at_input((down, across)).size[0] / down > LARGER * as_it_is:
            yield front.changed(tiles=Tiles(side))


def _row(front: Front, changed: Front, part: Part, rules: list[str], some: np.ndarray) -> dict[str, Any]:
    best = torch.from_numpy(part.objects["best_iou"])
    priors = np.bincount(np.searchsorted(some, part.inputs["image"]), part.inputs["priors"])
    return {
        "change": _in_words(front, changed),
        "options": _as_options(front, changed),
        "anchors": int(np.median(priors)),
        "reachable_50": number(mean(best >= REACHED) if front.has_anchors else math.nan),
        "median_best_iou": number(median(best)),
        "starved": {name: number(mean(torch.from_numpy(part.objects[f"positives {name}"]) == 0)) for name in rules},
        "images": len(some),
    }


def _in_words(front: Front, changed: Front) -> str:
    said = []
    if changed.enlarge > front.enlarge:
        said.append(f"input x {changed.enlarge // front.enlarge}")
    if changed.smaller > front.smaller and changed.has_anchors:
        said.append(f"anchors from {min(changed.anchor_sides):.0f} px")
    if changed.finer > front.finer:
        said.append(f"stride {changed.finest_stride:.0f}")
    if changed.tiles != front.tiles and changed.tiles is not None:
        said.append(f"tiles of {changed.tiles.side} px")
    return ", ".join(said) or "as it is"


def _as_options(front: Front, changed: Front) -> str:
    """Of `labelkit audit`, which make the same change; "" where none do."""
    said = []
    if changed.enlarge > front.enlarge:
        transform: Any = changed.model.transform
        sides = getattr(transform, "min_size", None), getattr(transform, "max_size", None)
        if sides[0] is None or sides[1] is None or getattr(transform, "fixed_size", None):
            return ""
        said.append(f"--min-size {sides[0][-1] * changed.enlarge} --max-size {sides[1] * changed.enlarge}")
    if changed.finer > front.finer:
        said.append(f"--strides {','.join(f'{2 ** round(math.log2(stride))}' for stride in changed.strides)}")
    if changed.smaller > front.smaller and changed.has_anchors:
        levels = ("+".join(f"{side:g}" for side in level) for level in changed.sizes)
        ratios = ",".join(f"{ratio:g}" for ratio in changed.ratios)
        said.append(f"--sizes {','.join(levels)} --ratios {ratios}")
    if changed.tiles != front.tiles and changed.tiles is not None:
        said.append(f"--tile {changed.tiles.side} --overlap {changed.tiles.overlap}")
    return " ".join(said)
