"""labelkit: label assignment for object detection, exact and fast, for torchvision's detectors."""

__version__ = "0.1.0"
