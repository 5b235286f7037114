"""Packages that not every installation has: which extra brings each, and the sentence for one that is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

BROUGHT_BY = {  # a module's name -> the extra of labelkit
    "matplotlib": "plot",
    "IPython": "plot",
    "skimage": "data",
    "sklearn": "data",
    "yaml": "data",
    "lightning": "train",
    "faster_coco_eval": "train",
    "anywidget": "explore",
}


def sentence(error: ModuleNotFoundError) -> str:
    """What is missing and which extra brings it; the error's own words for a module that none brings."""
    module = (error.name or "").partition(".")[0]
    if module not in BROUGHT_BY:
        return str(error)
    return f"{module} is not installed; pip install 'labelkit[{BROUGHT_BY[module]}]' brings it"


@contextmanager
def explained() -> Iterator[None]:
    """Around imports that need an extra: a module that is missing is a ModuleNotFoundError that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(sentence(error), name=error.name, path=error.path) from None
