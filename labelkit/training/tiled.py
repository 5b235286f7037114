"""Detection in pictures that are too large for the network: tile by tile, then one answer for the whole picture.

An object in the overlap of two tiles is found twice, and one at the border of a tile is found in part. Merging keeps
one detection of each:

1. A detection that ends at a border of its tile, where the picture goes on, is a **piece**. It goes where a detection
   of its class from another tile covers most of it and is larger, or no piece: an object that is no larger than the
   overlap is whole in some tile, and this is that one, whatever the scores say.
2. What is left in the overlaps goes through `labelkit.nms`, per class.

Detections that lie in one tile alone are left as they are. An object larger than the overlap may stay in pieces;
`cut` flags those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from labelkit.boxes import area
from labelkit.nms import nms
from labelkit.similarity import iof
from labelkit.tiling import Tiling, Window

Detection = dict[str, Tensor]

NEAR = 2.0  # px from the border of its tile at which a detection may be a piece
MERGED = 0.5  # the overlap from which two are one, for a detector that suppresses nothing


@torch.no_grad()
def detect_in_tiles(detector: Any, image: Tensor, tiling: Tiling, batch_size: int = 8) -> Detection:
    """Boxes in the picture's pixels, scores falling, labels, and `cut`: which are pieces. On the CPU.

    Args:
        detector: one of torchvision's, in evaluation mode. Of a picture it returns `detections_per_img` at most, of
            all tiles together; its `nms_thresh` is the overlap from which two detections are one.
        image: float32 [3, H, W] in 0..1, on any device.
        batch_size: tiles at a time.
    """
    height, width = image.shape[-2:]
    device = next(detector.parameters()).device
    windows = tiling.windows(height, width)
    found: list[Detection] = []
    for first in range(0, len(windows), batch_size):
        tiles = [image[:, y1:y2, x1:x2].to(device) for x1, y1, x2, y2 in windows[first : first + batch_size]]
        found += [{name: value.cpu() for name, value in one.items()} for one in detector(tiles)]
    threshold = detector.nms_thresh if detector.nms_thresh < 1 else MERGED
    merged = merge(found, windows, (height, width), threshold)
    return {name: value[: detector.detections_per_img] for name, value in merged.items()}


def merge(found: Sequence[Detection], windows: Sequence[Window], size: tuple[int, int], threshold: float) -> Detection:
    """The detections of the tiles as those of the picture, of (height, width) `size`; see the head of this file."""
    counts = torch.tensor([len(one["scores"]) for one in found])
    tile = torch.arange(len(found)).repeat_interleave(counts)
    frames = torch.tensor(windows)
    scores, labels = (torch.cat([one[name] for one in found]) for name in ("scores", "labels"))
    boxes = torch.cat([one["boxes"] for one in found]) + frames[tile][:, [0, 1, 0, 1]]
    cut = _ends_at_border(boxes, frames[tile], size)
    shared = _tiles_touched(boxes, frames) > 1
    gone = torch.zeros_like(cut)
    areas = area(boxes)
    for piece in (cut & shared).nonzero()[:, 0].tolist():
        better = (~cut | (areas > areas[piece])) & (labels == labels[piece]) & (tile != tile[piece]) & shared
        gone[piece] = (iof(boxes[piece], boxes[better]) > threshold).any()
    left = (shared & ~gone).nonzero()[:, 0]
    kept = ~shared
    kept[left[nms(boxes[left], scores[left], threshold, labels=labels[left])]] = True
    order = scores.argsort(descending=True, stable=True)
    order = order[kept[order]]
    return {"boxes": boxes[order], "scores": scores[order], "labels": labels[order], "cut": cut[order]}


def _ends_at_border(boxes: Tensor, frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Which boxes end at a side of their tile that is no side of the picture."""
    height, width = size
    goes_on = frames != frames.new_tensor([0, 0, width, height])
    return (goes_on & ((boxes - frames).abs() <= NEAR)).any(dim=1)


def _tiles_touched(boxes: Tensor, frames: Tensor) -> Tensor:
    """How many tiles each box reaches into."""
    x1, y1, x2, y2 = (boxes[:, side, None] for side in range(4))
    across = (x1 < frames[:, 2]) & (x2 > frames[:, 0])
    return (across & (y1 < frames[:, 3]) & (y2 > frames[:, 1])).sum(dim=1)
