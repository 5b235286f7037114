"""What an explorer begins with: a named scene, an address' end, a picture of one's own, a file of annotations."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from labelkit.datasets.coco import check_coco, corners, load_coco
from labelkit.datasets.pixels import read_picture
from labelkit.explore.checks import MOST_OBJECTS
from labelkit.explore.state import DEFAULTS, checked, read_state
from labelkit.scenes import SCENES, Scene

LONGEST = 800  # px, the longer side of a picture; larger ones are made smaller, boxes and all
FIRST = {  # FCOS and ATSS forget the first object here, and two pixels to the right they do not
    "size": [128, 128],
    "priors": "fcos",
    "objects": [[57, 45, 64, 52], [20, 64, 64, 108], [84, 66, 104, 86], [30, 20, 42, 32]],
}


class Opened(NamedTuple):
    """scene: see `labelkit.explore.state`. picture: a PNG, or None. notes: what was done to them, a sentence each."""

    scene: dict[str, Any]
    picture: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def url(self) -> str | None:
        """The picture as a data: URL."""
        return None if self.picture is None else data_url(self.picture)


def data_url(picture: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def opened(scene: Any = None, image: Any = None, boxes: Any = None, **state: Any) -> Opened:
    """From what `labelkit.explore` takes: see there."""
    if image is None and boxes is None:
        return Opened(checked(_named(FIRST if scene is None else scene) | state))
    begun = {} if scene is None else _named(scene)
    if boxes is not None:
        begun["objects"] = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4).tolist()
    if image is None:
        return Opened(checked(begun | state))
    pixels = read_picture(image) if isinstance(image, str | os.PathLike) else _pixels(image)
    return _scaled(begun | state, (pixels.shape[-2], pixels.shape[-1]), pixels)


def from_files(picture: Path | None, annotations: Path | None) -> Opened:
    """A picture, the boxes that a COCO file has for it, or both.

    Without `picture` it is the first in the file that has boxes; its pixels are looked for beside the file, and left
    out where they are not there. Raises OSError for a picture that can't be read, ValueError for a file that is no COCO
    or does not know the picture.
    """
    if annotations is None:
        return opened(image=picture) if picture is not None else opened()
    coco, _ = check_coco(load_coco(annotations), file=str(annotations))
    record = _record(coco, picture, annotations)
    own = [one for one in coco["annotations"] if one["image_id"] == record["id"] and not one["iscrowd"]]
    objects = [list(corners(one["bbox"])) for one in own]
    size = record["width"], record["height"]
    if picture is None:
        places = (annotations.parent / record["file_name"], Path(record["file_name"]))
        picture = next((place for place in places if place.is_file()), None)
    pixels = None if picture is None else read_picture(picture, size)
    found = _scaled({"objects": objects[:MOST_OBJECTS]}, size[::-1], pixels)
    left = len(objects) - MOST_OBJECTS
    notes = (f"{left} objects beyond the first {MOST_OBJECTS} are left out",) if left > 0 else ()
    return found._replace(notes=(f"{record['file_name']}: {len(objects)} objects", *notes, *found.notes))


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
        return read_state(scene)
    if isinstance(scene, str):
        if scene not in SCENES:
            raise ValueError(f"scene must be one of {', '.join(SCENES)}, a Scene, or an address' end, got {scene!r}")
        scene = SCENES[scene]
    if not isinstance(scene, Scene):
        raise ValueError(f"scene must be a name, a Scene, a dict or an address' end, got {type(scene).__name__}")
    return {"size": list(scene.size), "objects": scene.boxes.tolist()}


def _pixels(image: Any) -> Tensor:
    """[3, H, W] uint8."""
    pixels = torch.as_tensor(image).detach().cpu()
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise ValueError(f"image must be a file, or pixels of shape [3, H, W], got shape {list(pixels.shape)}")
    return pixels.expand(3, -1, -1)


def _scaled(scene: dict[str, Any], size: tuple[int, int], pixels: Tensor | None) -> Opened:
    """The scene at `size` (height, width), made smaller where that is too large; the boxes go along."""
    by = min(1.0, LONGEST / max(size))
    small = [max(1, round(side * by)) for side in size]
    objects = [[side * by for side in box] for box in scene.get("objects", [])]
    notes = (
        (f"{size[1]} x {size[0]} px are shown as {small[1]} x {small[0]}, and the boxes with them",) if by < 1 else ()
    )
    picture = None
    if pixels is not None:
        whole = F.to_dtype(pixels, torch.uint8, scale=True)
        file = io.BytesIO()
        Image.fromarray(F.resize(whole, small, antialias=True).permute(1, 2, 0).numpy()).save(file, "PNG")
        picture = file.getvalue()
    return Opened(checked(scene | {"size": small, "objects": objects}), picture, notes)
