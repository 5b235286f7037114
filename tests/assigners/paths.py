"""The ways an assigner can take to the same answer: windows on a grid, blocks without one, in portions of any size."""

from contextlib import contextmanager

from labelkit import Priors, pairs, windows

PATHS = ("grid", "grid in small chunks", "blocks", "small blocks")


@contextmanager
def path(name: str, priors: Priors):
    """Yield the priors to use, with the portions of `windows` set for the time being.

    With a grid, a small problem goes through windows too, which otherwise goes through blocks.
    """
    before = (pairs.SMALL, windows.CHUNK, windows.BLOCK)
    pairs.SMALL = 0
    if name == "grid in small chunks":
        windows.CHUNK = 1
    if "blocks" in name:
        priors = Priors.from_boxes(priors.boxes, priors.level_sizes, priors.level_strides)
    if name == "small blocks":
        windows.BLOCK = 7
    try:
        yield priors
    finally:
        pairs.SMALL, windows.CHUNK, windows.BLOCK = before
