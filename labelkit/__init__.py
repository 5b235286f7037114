"""labelkit: label assignment for object detection, exact and fast, for torchvision's detectors."""

__version__ = "0.1.0"

from labelkit.assignment import IGNORED, NEGATIVE, Assignment, Predictions
from labelkit.priors import Priors

__all__ = ["IGNORED", "NEGATIVE", "Assignment", "Predictions", "Priors", "__version__"]
