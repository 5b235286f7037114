"""A scene of the explorer as it stands behind the # of its address, and as a dict.

size=128,128&priors=course-anchors&objects=61,61,67,67;14,30,90,102&rules=max_iou;rka+k=3&chosen=0&panel_rule=max_iou&heat=iou

size: height, width. priors: a preset, or own strides as STRIDES, STRIDESxSCALE or STRIDESxSCALE:RATIOS, such as
4,8x4:0.5,1,2 (without a scale they are points). objects: x1, y1, x2, y2 each. What is left out is `DEFAULTS`.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any
from urllib.parse import parse_qsl, quote

from labelkit.explore.checks import Question

RULES = ("max_iou", "fcos", "atss", "rka")
DEFAULTS: dict[str, Any] = {
    "size": [128, 128],
    "priors": "course-anchors",
    "objects": [],
    "rules": list(RULES),
    "chosen": None,
    "panel_rule": None,
    "heat": None,
}


def checked(scene: dict[str, Any], seen: tuple[int, int] | None = None) -> dict[str, Any]:
    """A scene with all of its fields: those it leaves out are `DEFAULTS`. ValueError where one is not as it must be.

    seen: (height, width) of the picture that a detector has seen; only then may the priors be the detector's.
    """
    unknown = scene.keys() - DEFAULTS.keys()
    if unknown:
        raise ValueError(f"a scene holds {', '.join(DEFAULTS)}; got {', '.join(sorted(unknown))}")
    whole = deepcopy(DEFAULTS | scene)  # who changes a scene changes nobody else's
    if whole["chosen"] is None and whole["objects"]:
        whole["chosen"] = 0
    if whole["panel_rule"] is None and isinstance(whole["rules"], list) and whole["rules"]:
        whole["panel_rule"] = whole["rules"][0]
    Question.of(whole, seen)
    return whole


def read_state(text: str) -> dict[str, Any]:
    """The scene that an address' end says; a # before it may stay."""
    return checked(fields_of(text))


def fields_of(text: str) -> dict[str, Any]:
    """The fields that an address' end names, as they stand there."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text.partition("#")[2] or text, keep_blank_values=True):
        if name == "size":
            found[name] = [_whole(side) for side in _numbers(value, name)]
        elif name == "objects":
            found[name] = [_numbers(box, name) for box in value.split(";") if box]
        elif name == "rules":
            found[name] = [rule for rule in value.split(";") if rule]
        elif name == "chosen":
            found[name] = _whole(_numbers(value, name)[0]) if value else None
        elif name == "priors":
            found[name] = _own(value) if value[:1].isdigit() else value
        elif name in DEFAULTS:
            found[name] = value or None
    return found


def write_state(scene: dict[str, Any]) -> str:
    """`read_state` backwards."""
    whole = checked(scene)
    fields = {
        "size": _listed(whole["size"]),
        "priors": whole["priors"] if isinstance(whole["priors"], str) else _of_own(whole["priors"]),
        "objects": ";".join(_listed(box) for box in whole["objects"]),
        "rules": ";".join(whole["rules"]),
        "chosen": whole["chosen"],
        "panel_rule": whole["panel_rule"],
        "heat": whole["heat"],
    }
    written = {name: quote(str(value), safe=",;:= ").replace(" ", "+") for name, value in fields.items()}
    return "&".join(f"{name}={written[name]}" for name, value in fields.items() if value is not None)


def _numbers(text: str, name: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be numbers with commas between them, got {text!r}") from None


def _whole(number: float) -> float:
    """As an int where it is one; what it otherwise is, infinite say, the checks name."""
    return int(number) if number.is_integer() else number


def _listed(numbers: list[float]) -> str:
    return ",".join(f"{number:.10g}" for number in numbers)


def _own(text: str) -> dict[str, Any]:
    laid, _, ratios = text.partition(":")
    strides, _, scale = laid.partition("x")
    return {
        "strides": _numbers(strides, "priors"),
        "scale": _numbers(scale, "priors")[0] if scale else None,
        "ratios": _numbers(ratios, "priors") if ratios else [1.0],
    }


def _of_own(own: dict[str, Any]) -> str:
    scale, ratios = own.get("scale"), own.get("ratios", [1.0])
    text = _listed(own["strides"]) + ("" if scale is None else f"x{scale:.10g}")
    return text if ratios == [1.0] or scale is None else f"{text}:{_listed(ratios)}"
