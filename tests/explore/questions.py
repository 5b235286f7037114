"""Questions for the rules in JavaScript: half of the scenes full of ties, borders and tiny boxes, far and near."""

import random

POINTS = {"strides": [8, 16], "scale": None, "ratios": [1]}
PRESETS = ("retinanet", "fcos", "course-anchors", "course-points")
OWN = (
    {"strides": [4, 8], "scale": 4, "ratios": [1]},
    {"strides": [8, 16, 32], "scale": 2.5, "ratios": [0.5, 1, 2]},
    {"strides": [6, 20], "scale": 3, "ratios": [1, 3]},
    {"strides": [64, 128], "scale": 1, "ratios": [1]},
    POINTS,
)


def scene(seed: int, step: float | None = None) -> dict:
    """One picture, its priors and objects. step: all coordinates are multiples of it (in pixels)."""
    pick = random.Random(seed)
    priors = pick.choice([*PRESETS, *OWN])
    large = isinstance(priors, dict) and priors["strides"][0] == 64
    size = [pick.choice([1024, 2048]) if large else pick.choice([32, 96, 100, 128, 200, 256]) for _ in "hw"]
    nasty = seed % 2 == 0
    objects: list[list[float]] = []
    for _ in range(pick.choice([1, 1, 2, 3, 5, 8])):
        box = _nasty(pick, size, objects) if nasty else _anywhere(pick, size)
        if step is not None:
            box = [round(side / step) * step for side in box]
            box[2:] = [max(high, low + step) for low, high in zip(box[:2], box[2:], strict=True)]
        objects.append(box)
    return {"size": size, "priors": priors, "objects": objects}


def _anywhere(pick: random.Random, size: list[int]) -> list[float]:
    width, height = (2 ** pick.uniform(1, 8) for _ in "xy")
    x, y = pick.uniform(0, size[1]), pick.uniform(0, size[0])
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _nasty(pick: random.Random, size: list[int], before: list[list[float]]) -> list[float]:
    """On the lattice of the priors, as large as one, again, a neighbour, tiny, across the border, far outside."""
    kind = pick.choice(["lattice", "lattice", "prior", "again", "tiny", "border", "outside", "huge"])
    if kind == "again" and before:
        x1, y1, x2, y2 = pick.choice(before)
        dx, dy = pick.choice([0, 0, 4, -8]), pick.choice([0, 2, 8])
        return [x1 + dx, y1 + dy, x2 + dx, y2 + dy]
    unit = pick.choice([2, 4, 8, 16])
    x, y = (unit * pick.randint(0, side // unit) for side in (size[1], size[0]))
    width, height = (pick.choice([2, 4, 7, 8, 12, 16, 32, 64]) for _ in "xy")
    if kind == "prior":
        width = height = pick.choice([8, 16, 32, 64, 128])
    if kind == "tiny":
        width, height = pick.choice([0.5, 1, 3]), pick.choice([0.5, 1, 2.5])
    if kind == "border":
        x = pick.choice([0, size[1], -width / 2, size[1] + width / 2])
    if kind == "outside":
        x, y = x + pick.choice([-300, 400, 3000]), y + pick.choice([0, 500, -2000])
    if kind == "huge":
        width, height = 3 * size[1], pick.choice([3, 0.5]) * size[0]
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
