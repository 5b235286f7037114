"""The ways an assigner can take to the same answer: windows on a grid, blocks without one, in portions of any size."""

from contextlib import contextmanager

from labelkit import Priors
from labelkit.assigners import dynamic_k
from labelkit.search import buckets, decoded, lookup, order, windows

PATHS = ("at once", "grid", "grid in small chunks", "small blocks")
SIZES = (
    (windows, "SMALL"),
    (windows, "CHUNK"),
    (windows, "BLOCK"),
    (order, "FEW"),
    (decoded, "DEARER"),
    (decoded, "MANY"),
    (dynamic_k, "PORTION"),
    (lookup, "ENOUGH"),
    (lookup, "DEARER"),
    (buckets, "ENOUGH"),
    (buckets, "PAYS"),
    (buckets, "DEARER"),
)


@contextmanager
def path(name: str, priors: Priors):
    """Yield the priors to use, with the sizes of portions set for the time being.

    "at once" is what a problem as small as these takes by itself; the others are forced upon it.
    """
    before = [getattr(room, size) for room, size in SIZES]
    if name != "at once":
        windows.SMALL = order.FEW = decoded.DEARER = lookup.ENOUGH = lookup.DEARER = 0
    if name == "grid in small chunks":
        windows.CHUNK = decoded.MANY = dynamic_k.PORTION = 1
    if name in ("small blocks", "buckets"):
        windows.BLOCK = 7
        priors = Priors.from_boxes(priors.boxes, priors.level_sizes, priors.level_strides)
    if name == "buckets":  # tests/search/test_buckets.py takes every rule this way
        windows.CHUNK, windows.BLOCK = 200, 2000
        buckets.ENOUGH = buckets.PAYS = buckets.DEARER = 0
    try:
        yield priors
    finally:
        for (room, size), value in zip(SIZES, before, strict=True):
            setattr(room, size, value)
