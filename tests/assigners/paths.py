"""The ways an assigner can take to the same answer: windows on a grid, blocks without one, chunks of any size."""

from contextlib import contextmanager

from labelkit import Priors, pairs

PATHS = ("grid", "grid in small chunks", "blocks", "small blocks")


@contextmanager
def path(name: str, priors: Priors):
    """Yield the priors to use, with the chunk size of `pairs` set for the time being.

    A chunk of 1 also keeps `plausible` from taking a small problem through blocks although there is a grid.
    """
    chunk = pairs.CHUNK
    if "blocks" in name:
        priors = Priors.from_boxes(priors.boxes, priors.level_sizes, priors.level_strides)
    pairs.CHUNK = {"grid": 1 << 62, "grid in small chunks": 1, "blocks": chunk, "small blocks": 7}[name]
    try:
        yield priors
    finally:
        pairs.CHUNK = chunk
