"""labelkit: label assignment for object detection, exact and fast, for torchvision's detectors."""

from typing import TYPE_CHECKING

from labelkit.lazy import attach

if TYPE_CHECKING:
    from labelkit.assignment import IGNORED, NEGATIVE, Assignment, Predictions
    from labelkit.explore import explore
    from labelkit.priors import Priors
    from labelkit.search.best import best_prior

__version__ = "0.1.0"

__all__ = ["IGNORED", "NEGATIVE", "Assignment", "Predictions", "Priors", "__version__", "best_prior", "explore"]

__getattr__ = attach(
    __name__,
    {
        "IGNORED": "labelkit.assignment",
        "NEGATIVE": "labelkit.assignment",
        "Assignment": "labelkit.assignment",
        "Predictions": "labelkit.assignment",
        "Priors": "labelkit.priors",
        "best_prior": "labelkit.search.best",
        "explore": "labelkit.explore",
    },
)
