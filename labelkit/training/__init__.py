"""Training: what a run is made of (recipe), its folder (runs), the order of its items (streaming), Lightning's loop."""

from labelkit.training.loop import Training, load_detector, load_weights, read_recipe, resume, train
from labelkit.training.recipe import Recipe, build_assigner, build_similarity

__all__ = [
    "Recipe",
    "Training",
    "build_assigner",
    "build_similarity",
    "load_detector",
    "load_weights",
    "read_recipe",
    "resume",
    "train",
]
