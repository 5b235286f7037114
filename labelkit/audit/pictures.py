"""The worst pictures, drawn: objects without a positive in red, an arrow to the neighbour that took what they had."""

from __future__ import annotations

import base64
import io
import math
from html import escape
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labelkit.audit.numbers import REACHED
from labelkit.counts import counted
from labelkit.datasets.box_table import BoxTable
from labelkit.datasets.pixels import read_picture

Found = Any  # an Audit, whose module imports the page
MOST = 12  # pictures
DRAWN = 3000  # boxes of a picture, those without a positive first
SIDE = 560  # px, the longer one of a picture that is embedded
QUALITY = 72  # of its JPEG


def worst(found: Found, rule: str) -> list[int]:
    """The pictures with the most objects that the rule gave nothing; of equal ones those with the most objects that no
    anchor reaches, then the first ones. Pictures with neither are none."""
    image, total = found.objects.image.numpy(), len(found.table_of_boxes)
    starved = np.bincount(image[(found.objects.positives[rule] == 0).numpy()], minlength=total)
    beyond = np.bincount(image[(found.objects.best_iou < REACHED).numpy()], minlength=total)
    order = np.lexsort((np.arange(total), -beyond, -starved))
    return [int(index) for index in order[:MOST] if starved[index] or beyond[index]]


def drawn(found: Found, rule: str, index: int) -> str:
    """One picture with its boxes as SVG, and a sentence on it."""
    table, objects = found.table_of_boxes, found.objects
    height, width = table.sizes[index].tolist()
    own = slice(*np.searchsorted(objects.image.numpy(), (index, index + 1)).tolist())
    place = {int(table.index[row]): row for row in range(table.starts[index], table.starts[index + 1])}
    rows = [place[number] for number in objects.index[own].tolist()]
    starved = (objects.positives[rule][own] == 0).tolist()
    beyond = ((objects.best_iou[own] < REACHED) & (objects.positives[rule][own] > 0)).tolist()
    taken = objects.taken_by[rule][own].tolist()
    parts, arrows = [], []
    head = max(width, height) / 80  # of an arrow, in a picture that may be 50 px or 5,000 px wide
    for row, without, poor, thief in sorted(zip(rows, starved, beyond, taken, strict=True), key=_first_starved)[:DRAWN]:
        x1, y1, x2, y2 = table.boxes[row].tolist()
        kind = "starved" if without else "beyond" if poor else "served"
        parts.append(f'<rect x="{x1:g}" y="{y1:g}" width="{x2 - x1:g}" height="{y2 - y1:g}" class="{kind}"/>')
        if thief >= 0:
            arrows.append(_arrow(_middle(table, row), _middle(table, place[thief]), head))
    name = table.names[index] or f"picture {index}"
    lost = sum(thief >= 0 for thief in taken)
    everyone = counted(len(rows), "object")
    said = f"{name} (image id {table.image_ids[index]}): {sum(starved)} of {everyone} without a positive"
    said += f", {lost} of them taken by a neighbour" if lost else ""
    said += f"; no anchor with an IoU of {REACHED} for {sum(beyond)} of the others" if any(beyond) else ""
    said += f" (drawn: {DRAWN:,} boxes)" if len(rows) > DRAWN else ""
    return (
        f'<figure class="picture"><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">'
        f"{_pixels(found, index, width, height)}{''.join(parts[::-1])}{''.join(arrows)}</svg>"
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )


def _first_starved(one: tuple[int, bool, bool, int]) -> bool:
    return not one[1]


def _middle(table: BoxTable, row: int) -> tuple[float, float]:
    x1, y1, x2, y2 = table.boxes[row].tolist()
    return (x1 + x2) / 2, (y1 + y2) / 2


def _arrow(start: tuple[float, float], end: tuple[float, float], head: float) -> str:
    (x1, y1), (x2, y2) = start, end
    turn, head = math.atan2(y2 - y1, x2 - x1), min(head, math.hypot(x2 - x1, y2 - y1) / 3)
    sides = [(x2 - head * math.cos(turn + bend), y2 - head * math.sin(turn + bend)) for bend in (0.45, -0.45)]
    path = f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" + "".join(f"M{x2:.1f} {y2:.1f}L{x:.1f} {y:.1f}" for x, y in sides)
    return f'<path d="{path}" class="halo"/><path d="{path}" class="loses"/>'


def _pixels(found: Found, index: int, width: int, height: int) -> str:
    """The picture, made small and embedded; nothing where there is none or it can't be read."""
    table = found.table_of_boxes
    try:
        if table.folder is not None:
            pixels = read_picture(table.folder / table.names[index], (width, height))
        elif hasattr(found.dataset, "targets"):
            pixels = found.dataset[index][0]
        else:
            return ""
    except OSError:
        return ""
    values = pixels.as_subclass(Tensor)
    values = values if values.dtype == torch.uint8 else (values * 255).round().clamp(0, 255).byte()
    picture = Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    text = base64.b64encode(file.getvalue()).decode()
    return f'<image href="data:image/jpeg;base64,{text}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
