"""Training: what a run is made of (recipe), its folder (runs), the order of its items (streaming), Lightning's loop."""

from typing import TYPE_CHECKING

from labelkit.lazy import attach

if TYPE_CHECKING:
    from labelkit.training.compare import Comparison, compare
    from labelkit.training.folder import load_detector, read_recipe
    from labelkit.training.loop import Training, resume, train
    from labelkit.training.predicting import Predicted, predict
    from labelkit.training.recipe import Recipe
    from labelkit.training.rules import build_assigner, build_similarity
    from labelkit.training.weights import load_weights

__all__ = [
    "Comparison",
    "Predicted",
    "Recipe",
    "Training",
    "build_assigner",
    "build_similarity",
    "compare",
    "load_detector",
    "load_weights",
    "predict",
    "read_recipe",
    "resume",
    "train",
]

__getattr__ = attach(
    __name__,
    {
        "Comparison": "labelkit.training.compare",
        "Predicted": "labelkit.training.predicting",
        "Recipe": "labelkit.training.recipe",
        "Training": "labelkit.training.loop",
        "build_assigner": "labelkit.training.rules",
        "build_similarity": "labelkit.training.rules",
        "compare": "labelkit.training.compare",
        "load_detector": "labelkit.training.folder",
        "load_weights": "labelkit.training.weights",
        "predict": "labelkit.training.predicting",
        "read_recipe": "labelkit.training.folder",
        "resume": "labelkit.training.loop",
        "train": "labelkit.training.loop",
    },
)
