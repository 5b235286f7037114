"""Evaluation: how good detections are (average precision, oLRP) and which objects their rule left without a label."""

from labelkit.evaluation.average_precision import PRESETS, Preset, evaluate, size_index
from labelkit.evaluation.starvation import starvation_by_size

__all__ = ["PRESETS", "Preset", "evaluate", "size_index", "starvation_by_size"]
