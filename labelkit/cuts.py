"""Cuts: a long list of ranges in runs of about one size, so that what is made of them at once stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor


def cuts(ends: Int[Tensor, "k n"], chunk: int) -> Iterator[tuple[int, ...]]:
    """Cut n ranges into runs of about `chunk` elements, never less than a range: (first range, last + 1, counts).

    ends: of each of k things that are counted, elements first, how many there are up to each range; at least one range.
    counts: of each, in the run. The CPU waits for them once, and once more where cuts are made.
    """
    total, *others = ends[:, -1].tolist()
    edges = [(ends.shape[1], total, *others)]
    if total > chunk:
        marks = torch.arange(chunk, total, chunk, device=ends.device)
        last = torch.searchsorted(ends[0], marks)
        edges = sorted({*edges, *zip(*torch.stack((last + 1, *ends[:, last])).tolist(), strict=True)})
    before = (0,) * (1 + len(ends))
    for edge in edges:
        yield before[0], edge[0], *(count - start for count, start in zip(edge[1:], before[1:], strict=True))
        before = edge
