"""Weights from elsewhere: a run's, torchvision's, or a backbone's, from a file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.ops import FrozenBatchNorm2d

NAMED = ("imagenet", "coco")  # what torchvision downloads; any other text is a file
CLASS_LAYER = "head.classification_head.cls_logits."
BOX_LAYER, THIRD_BRANCH = "head.regression_head.bbox_reg.", "head.regression_head.bbox_ctrness."
HEAD, FIRST_HEAD, SECOND_HEAD = "head.", "head.first.", "head.second."
BODY = "backbone.body."
FROZEN = ("conv1", "bn1", "layer1")  # what torchvision leaves as it is when it starts from trained weights


def load_weights(detector: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load, also into batch norms what was saved from torchvision's frozen ones, which do not count batches.

    A pretrained detector has frozen norms; rebuilt without its weights it has batch norms, which compute the same in
    evaluation mode. Any other difference in names is a `ValueError`.
    """
    missing, unexpected = detector.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.endswith(".num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(
            f"these weights are of another detector: missing {_first(missing)}, unexpected {_first(unexpected)}"
        )


def start_from_file(detector: nn.Module, path: str | os.PathLike) -> None:
    """Begin with the weights in a file: a state dict of torchvision's detector, of its backbone, or a run's checkpoint.

    The class layer starts anew where the file's has another number of classes, and so do the layers of fcos whose form
    a method changes: distances against bins, a third branch that one of the two lacks. Of two heads in the file the
    second is taken, which answers. As with downloaded weights, a ResNet's batch norms are frozen, and so are its stem
    and first stage. A file that is not there, unreadable or of another network is a `ValueError` that names it.
    """
    weights = _read(Path(path))
    own = detector.state_dict()
    if "conv1.weight" in weights:  # a ResNet by itself, whose classifier no detector has
        weights = {BODY + name: value for name, value in weights.items() if not name.startswith("fc.")}
        weights |= {name: value for name, value in own.items() if not name.startswith(BODY)}
    weights = _with_head_of(detector, weights)
    _freeze_norms(detector)
    weights = {n: v for n, v in weights.items() if not n.endswith(".num_batches_tracked")}
    try:
        load_weights(detector, weights)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"weights: {path} does not fit the detector: {reason}") from error


def _with_head_of(detector: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, in their head the detector's own layers where those have another form by design."""
    own = detector.state_dict()
    if any(name.startswith(SECOND_HEAD) for name in weights):
        weights = {n.replace(SECOND_HEAD, HEAD): v for n, v in weights.items() if not n.startswith(FIRST_HEAD)}
    free: tuple[str, ...] = (CLASS_LAYER,)
    if isinstance(detector, FCOS):
        free += (BOX_LAYER, THIRD_BRANCH)
        weights = {n: v for n, v in weights.items() if n in own or not n.startswith(THIRD_BRANCH)}
        weights = {n: v for n, v in own.items() if n.startswith(THIRD_BRANCH)} | weights
    anew = [n for n in own if n.startswith(free) and n in weights and weights[n].shape != own[n].shape]
    return weights | {name: own[name] for name in anew}


def _first(names: list[str]) -> str:
    return f"{names[:5]} and {len(names) - 5} more" if len(names) > 5 else str(names)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, tensors and plain values only; a run's without the prefix of its module."""
    if not path.is_file():
        raise ValueError(f"weights must be imagenet, coco or a file, and there is no file {str(path)!r}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers and the unpickler raise anything on damaged bytes
        raise ValueError(f"weights: {path} cannot be read as a state dict ({type(error).__name__})") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = {name.removeprefix("detector."): value for name, value in content["state_dict"].items()}
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"weights: {path} holds no state dict, which names tensors")
    return content


def _freeze_norms(detector: nn.Module) -> None:
    """What torchvision does for trained weights: frozen batch norms, the first layers of the ResNet left alone."""
    for module in list(detector.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, FrozenBatchNorm2d(child.num_features, child.eps))
    for name, parameter in detector.named_parameters():
        if name.startswith(tuple(f"{BODY}{layer}." for layer in FROZEN)):
            parameter.requires_grad_(False)
