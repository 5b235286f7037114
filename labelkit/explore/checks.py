"""What a question may hold. Whatever else stands in it is a ValueError, with a sentence that names the field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from labelkit.explore.presets import DETECTOR, PRESETS, Own

LARGEST = 2048  # px, a side of a picture
MOST_OBJECTS, MOST_RULES, MOST_OFFSETS, MOST_PRIORS = 200, 8, 65, 400_000
FAR = 10_000.0  # px: no corner lies farther out
MOST_PAIRS = 32_000_000  # priors times objects, of which a rule may keep all: 2.3 GB

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shift:
    """An object that is moved along an axis (0: x, 1: y) by each of the offsets, in pixels."""

    object: int
    axis: int
    offsets: tuple[float, ...]


@dataclass(frozen=True)
class Question:
    """A question whose fields have been looked at; see `labelkit.explore.question.answer`."""

    id: int | str | None
    size: tuple[int, int]
    priors: str | Own
    objects: tuple[Box, ...]
    rules: tuple[str, ...]
    chosen: int | None
    panel_rule: str | None
    heat: str | None
    shift: Shift | None

    @classmethod
    def of(cls, asked: Any, seen: tuple[int, int] | None = None) -> Question:
        """seen: (height, width) of the picture that a detector has seen, whose priors the question may then name."""
        if not isinstance(asked, dict):
            raise ValueError(f"a question must be an object with size, priors, objects, rules; got {_short(asked)}")
        objects = tuple(_box(box, f"objects[{i}]") for i, box in enumerate(_list(asked, "objects", 0, MOST_OBJECTS)))
        rules = tuple(_text(rule, f"rules[{i}]") for i, rule in enumerate(_list(asked, "rules", 0, MOST_RULES)))
        if len(set(rules)) < len(rules):
            raise ValueError(f"rules must name every rule once, got {_short(list(rules))}")
        size = _size(asked.get("size"))
        priors = _priors(asked.get("priors"), size, seen)
        if (cells := _cells(priors, size)) > MOST_PRIORS:
            raise ValueError(f"priors must be at most {MOST_PRIORS}, these strides give {cells}: take wider ones")
        if cells * len(objects) > MOST_PAIRS:
            fewer = MOST_PAIRS // cells
            raise ValueError(f"objects must be at most {fewer} with so many priors ({cells}), got {len(objects)}")
        panel_rule, heat = asked.get("panel_rule"), asked.get("heat")
        if panel_rule is not None and panel_rule not in rules:
            raise ValueError(f"panel_rule must be one of the rules or null, got {_short(panel_rule)}")
        if not isinstance(number := asked.get("id"), int | str | None) or len(str(number)) > 40:
            raise ValueError(f"id must be a whole number, a short text or null, got {_short(number)}")
        return cls(
            id=number,
            size=size,
            priors=priors,
            objects=objects,
            rules=rules,
            chosen=_index(asked.get("chosen"), "chosen", len(objects)),
            panel_rule=panel_rule,
            heat=None if heat is None else _text(heat, "heat"),
            shift=_shift(asked.get("shift"), len(objects)),
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(value: Any, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {_short(value)}")
    return float(value)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    number = _number(value, name, low, high)
    if not number.is_integer():
        raise ValueError(f"{name} must be a whole number, got {_short(value)}")
    return int(number)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise ValueError(f"{name} must be a text of 1 to 200 characters, got {_short(value)}")
    return value


def _list(asked: dict, name: str, least: int, most: int) -> list:
    value = asked.get(name)
    if not isinstance(value, list) or not least <= len(value) <= most:
        length = f" of length {len(value)}" if isinstance(value, list) else ""
        raise ValueError(f"{name} must be a list of {least} to {most} entries, got {_short(value)}{length}")
    return value


def _index(value: Any, name: str, count: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise ValueError(f"{name} must be null or an object's index below {count}, got {_short(value)}")
    return value


def _size(value: Any) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"size must be [height, width], got {_short(value)}")
    return _whole(value[0], "size[0]", 1, LARGEST), _whole(value[1], "size[1]", 1, LARGEST)


def _box(value: Any, name: str) -> Box:
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise ValueError(f"{name} must be [x1, y1, x2, y2], got {_short(value)}")
    x1, y1, x2, y2 = (_number(side, f"{name}[{i}]", -FAR, FAR) for i, side in enumerate(value))
    if not (x2 > x1 and y2 > y1):
        raise ValueError(f"{name} must have x1 < x2 and y1 < y2, got {_short(value)}")
    return x1, y1, x2, y2


def _several(asked: dict, name: str, most: int, low: float, high: float) -> tuple[float, ...]:
    return tuple(_number(value, f"{name}[{i}]", low, high) for i, value in enumerate(_list(asked, name, 1, most)))


def _priors(value: Any, size: tuple[int, int], seen: tuple[int, int] | None) -> str | Own:
    if seen is not None and value == DETECTOR:
        if size != seen:
            raise ValueError(
                f"the detector has seen a picture of {seen[1]} x {seen[0]} px, and its priors belong to that one: "
                f"size must be {list(seen)}, got {list(size)}"
            )
        return DETECTOR
    if isinstance(value, dict):
        scale = value.get("scale")
        return Own(
            _several(value, "strides", 8, 1, 512),
            None if scale is None else _number(scale, "scale", 0.1, 64),
            _several({"ratios": [1]} | value, "ratios", 5, 0.05, 20),
        )
    if not isinstance(value, str) or value not in PRESETS:
        known = ", ".join([*PRESETS, DETECTOR] if seen is not None else PRESETS)
        raise ValueError(f'priors must be one of {known}, or {{"strides": [...], "scale": ...}}, got {_short(value)}')
    return value


def _cells(priors: str | Own, size: tuple[int, int]) -> int:
    """How many priors these are, or a few more; of a detector none, as they were counted when it saw its picture."""
    if priors == DETECTOR:
        return 0
    if isinstance(priors, Own):
        each = 1 if priors.scale is None else len(priors.ratios)
        return sum(each * math.prod(math.ceil(side / stride) for side in size) for stride in priors.strides)
    preset = PRESETS[priors]
    each = len(preset.sizes[0]) * len(preset.ratios)
    return sum(each * math.prod(math.ceil((side + 31) / stride) for side in size) for stride in preset.strides)


def _shift(value: Any, count: int) -> Shift | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"shift must be null or an object with object, axis, offsets; got {_short(value)}")
    index = _index(value.get("object"), "shift.object", count)
    if index is None:
        raise ValueError("shift.object must be an object's index, got null")
    if value.get("axis") not in ("x", "y"):
        raise ValueError(f'shift.axis must be "x" or "y", got {_short(value.get("axis"))}')
    return Shift(index, "xy".index(value["axis"]), _several(value, "offsets", MOST_OFFSETS, -FAR, FAR))
