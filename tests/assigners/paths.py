"""The ways an assigner can take to the same answer: windows on a grid, blocks without one, in portions of any size."""

from contextlib import contextmanager

from labelkit import Priors
from labelkit.search import order, windows

PATHS = ("at once", "grid", "grid in small chunks", "small blocks")


@contextmanager
def path(name: str, priors: Priors):
    """Yield the priors to use, with the portions of `windows` set for the time being.

    "at once" is what a problem as small as these takes by itself; the others are forced upon it.
    """
    before = (windows.SMALL, order.FEW, windows.CHUNK, windows.BLOCK)
    if name != "at once":
        windows.SMALL = order.FEW = 0
    if name == "grid in small chunks":
        windows.CHUNK = 1
    if name == "small blocks":
        windows.BLOCK = 7
        priors = Priors.from_boxes(priors.boxes, priors.level_sizes, priors.level_strides)
    try:
        yield priors
    finally:
        windows.SMALL, order.FEW, windows.CHUNK, windows.BLOCK = before
