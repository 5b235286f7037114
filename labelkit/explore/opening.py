"""What an explorer begins with: a named scene, an address' end, a picture of one's own, a file of annotations."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from labelkit.counts import counted
from labelkit.datasets.coco import check_coco, corners, load_coco
from labelkit.datasets.pixels import read_picture
from labelkit.explore.checks import MOST_OBJECTS
from labelkit.explore.network import Network
from labelkit.explore.presets import DETECTOR
from labelkit.explore.state import DEFAULTS, checked, fields_of
from labelkit.network_input import size_of
from labelkit.scenes import SCENES, Scene

LONGEST = 800  # px, the longer side of a picture; larger ones are made smaller, boxes and all
FIRST = {  # FCOS and ATSS forget the first object here, and two pixels to the right they do not
    "size": [128, 128],
    "priors": "fcos",
    "objects": [[57, 45, 64, 52], [20, 64, 64, 108], [84, 66, 104, 86], [30, 20, 42, 32]],
}
BLIND = "a detector must be given a picture to look at, and there is none"
ASKING = ("max_iou", "atss", "simota", "tal")  # the rules that a detector's scene begins with


class Opened(NamedTuple):
    """scene: see `labelkit.explore.state`. picture: a PNG, or None. notes: what was done to them, a sentence each.
    network: a detector that has seen the picture, or None."""

    scene: dict[str, Any]
    picture: bytes | None = None
    notes: tuple[str, ...] = ()
    network: Network | None = None

    @property
    def url(self) -> str | None:
        """The picture as a data: URL."""
        return None if self.picture is None else data_url(self.picture)


def data_url(picture: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def opened(
    scene: Any = None, image: Any = None, boxes: Any = None, *, labels: Any = None, detector: Any = None, **state: Any
) -> Opened:
    """From what `labelkit.explore` takes: see there."""
    if labels is not None and (boxes is None or detector is None):
        raise ValueError("labels are the classes of boxes, as a detector counts them: give boxes and detector too")
    if detector is not None and image is None:
        raise ValueError(BLIND)
    if image is None and boxes is None:
        return Opened(checked(_named(FIRST if scene is None else scene) | state))
    begun = {} if scene is None else _named(scene)
    if boxes is not None:
        begun["objects"] = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4).tolist()
    if image is None:
        return Opened(checked(begun | state))
    pixels = read_picture(image) if isinstance(image, str | os.PathLike) else _pixels(image)
    if detector is None:
        return _scaled(begun | state, size_of(pixels), pixels)
    known = [] if labels is None else torch.as_tensor(labels).tolist()
    if known and len(known) != len(begun["objects"]):
        raise ValueError(f"labels must be one for each of the {len(begun['objects'])} boxes, got {len(known)}")
    return _seen(begun | state, pixels, known, detector)


def from_files(picture: Path | None, annotations: Path | None, trained: Any = None) -> Opened:
    """A picture, the boxes that a COCO file has for it, or both; and the detector of a run, where there is one.

    Without `picture` it is the first in the file that has boxes; its pixels are looked for beside the file, and left
    out where they are not there. Raises OSError for a picture that can't be read, ValueError for a file that is no COCO
    or does not know the picture, or for a picture that the detector can't be asked about.
    trained: a run's, of `labelkit.training.folder.load_trained`; its class is not named here, because it comes with
    Lightning, which the explorer can do without.
    """
    white = None if trained is None else trained.white
    if annotations is None:
        if picture is not None:
            alone = read_picture(picture, white=white)
            return _laid_over(alone, size_of(alone), [], [], trained)
        if trained is not None:
            raise ValueError(BLIND)
        return opened()
    coco, _ = check_coco(load_coco(annotations), file=str(annotations))
    record = _record(coco, picture, annotations)
    own = [one for one in coco["annotations"] if one["image_id"] == record["id"] and not one["iscrowd"]]
    objects = [list(corners(one["bbox"])) for one in own]
    ids = () if trained is None else trained.category_ids or ()
    labels = [ids.index(one["category_id"]) if one["category_id"] in ids else None for one in own]
    size = record["width"], record["height"]
    if picture is None:
        places = (annotations.parent / record["file_name"], Path(record["file_name"]))
        picture = next((place for place in places if place.is_file()), None)
    pixels = None if picture is None else read_picture(picture, size, white=white)
    found = _laid_over(pixels, size[::-1], objects[:MOST_OBJECTS], labels[:MOST_OBJECTS], trained)
    left = len(objects) - MOST_OBJECTS
    beyond = f"beyond the first {MOST_OBJECTS}"
    notes = (f"{counted(left, f'object {beyond} is', f'objects {beyond} are')} left out",) if left > 0 else ()
    return found._replace(notes=(f"{record['file_name']}: {counted(len(objects), 'object')}", *notes, *found.notes))


def _laid_over(
    pixels: Tensor | None,
    size: tuple[int, int],
    objects: list[list[float]],
    labels: list[int | None],
    trained: Any,
) -> Opened:
    """Objects over a picture of (height, width) `size`, as a run's detector sees both, where there is one."""
    if trained is None:
        return _scaled({"objects": objects}, size, pixels)
    if pixels is None:
        raise ValueError(BLIND)
    tiling = trained.recipe.tiling
    if tiling is not None and max(size) > tiling.tile:
        raise ValueError(f"the run cuts pictures into tiles of {tiling.tile} px, and this one is larger: give one tile")
    return _seen({"objects": objects}, pixels, labels, trained.detector)


def _record(coco: dict, picture: Path | None, file: Path) -> dict[str, Any]:
    if picture is None:
        boxed = {one["image_id"] for one in coco["annotations"]}
        found = [one for one in coco["images"] if one["id"] in boxed] or coco["images"]
        if not found:
            raise ValueError(f"{file} must hold at least one image, and holds none")
        return found[0]
    for one in coco["images"]:
        if Path(one["file_name"].replace("\\", "/")).name == picture.name:
            return one
    raise ValueError(f"{file} holds no image of the name {picture.name}")


def names_a_scene(value: Any) -> bool:
    """Whether it is a scene and no picture: a `Scene`, a dict, a scene's name or an address' end."""
    if isinstance(value, str):
        return value in SCENES or (
            not Path(value).exists() and value.lstrip("#").startswith(tuple(f"{k}=" for k in DEFAULTS))
        )
    return isinstance(value, Scene | dict)


def _named(scene: Any) -> dict[str, Any]:
    if isinstance(scene, dict):
        return dict(scene)
    if isinstance(scene, str) and "=" in scene:
        return fields_of(scene)
    if isinstance(scene, str):
        if scene not in SCENES:
            raise ValueError(f"scene must be one of {', '.join(SCENES)}, a Scene, or an address' end, got {scene!r}")
        scene = SCENES[scene]
    if not isinstance(scene, Scene):
        raise ValueError(f"scene must be a name, a Scene, a dict or an address' end, got {type(scene).__name__}")
    return {"size": list(scene.size), "objects": scene.boxes.tolist()}


def _pixels(image: Any) -> Tensor:
    """[3, H, W], uint8 or floats in 0..1: of other numbers nobody says which is white."""
    try:
        pixels = torch.as_tensor(image).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        kind = type(image).__name__
        raise ValueError(f"image must be a file, or pixels of shape [3, H, W], got {kind}") from None
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or pixels.numel() == 0:
        raise ValueError(f"image must be a file, or pixels of shape [3, H, W], got shape {list(pixels.shape)}")
    if pixels.dtype != torch.uint8 and not (pixels.is_floating_point() and pixels.min() >= 0 and pixels.max() <= 1):
        found = f"{pixels.dtype} from {pixels.min().item()} to {pixels.max().item()}"
        raise ValueError(f"image must hold uint8, or floats in 0..1, got {found}")
    return pixels.expand(3, -1, -1)


def _scaled(scene: dict[str, Any], size: tuple[int, int], pixels: Tensor | None) -> Opened:
    """The scene at `size` (height, width), made smaller where that is too large; the boxes go along."""
    by = min(1.0, LONGEST / max(size))
    small = [max(1, round(side * by)) for side in size]
    objects = [[side * by for side in box] for box in scene.get("objects", [])]
    notes = (
        (f"{size[1]} x {size[0]} px are shown as {small[1]} x {small[0]}, and the boxes with them",) if by < 1 else ()
    )
    picture = None if pixels is None else _png(pixels, small)
    return Opened(checked(scene | {"size": small, "objects": objects}), picture, notes)


def _seen(scene: dict[str, Any], pixels: Tensor, labels: Sequence[int | None], detector: Any) -> Opened:
    """The scene at a detector's input: the picture as large as its network sees it, and the boxes with it.

    labels: of the scene's objects, None where a class is not known; empty where none is.
    """
    objects = torch.tensor(scene.get("objects", []), dtype=torch.float32).reshape(-1, 4)
    known = [i for i, label in enumerate(labels) if label is not None]
    classes = torch.tensor([labels[i] for i in known], dtype=torch.int64)
    network = Network.of(detector, pixels, objects[known], classes)
    width, height = network.size[::-1]
    at_input = {"size": [height, width], "objects": network.seen.at_input(objects).tolist()}
    notes = (f"{counted(len(network.priors), 'prior')} of the detector; its network sees {width} x {height} px",)
    begun = {"priors": DETECTOR, "rules": list(ASKING)} | scene | at_input
    return Opened(checked(begun, network.size), _png(pixels, [height, width]), notes, network)


def _png(pixels: Tensor, size: list[int]) -> bytes:
    """The picture at (height, width) `size`."""
    whole, file = F.to_dtype(pixels, torch.uint8, scale=True), io.BytesIO()
    Image.fromarray(F.resize(whole, size, antialias=True).permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()
