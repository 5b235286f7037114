"""A rule's arguments on the command line, `--set NAME=VALUE`, and how they stand in the name of a run's folder."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelkit.training.recipe import COURSE_DATA

LONGEST = 80  # characters of a folder's name


def parse_arguments(pairs: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """["k=3", "similarity=nwd", "similarity.constant=12.8"] as {"k": 3, "similarity": {"name": "nwd", ...}}."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{option} must be NAME=VALUE, got {pair!r}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
        name, dot, constant = key.partition(".")
        if dot:
            inner = arguments.get(name, {})
            arguments[name] = (inner if isinstance(inner, dict) else {"name": inner}) | {constant: value}
        elif isinstance(arguments.get(key), dict):
            arguments[key] = {"name": value} | arguments[key]
        else:
            arguments[key] = value
    return arguments


def run_folder(data: str, assigner: str, arguments: Mapping[str, Any], seed: int) -> Path:
    """Where a run goes by default: runs/DATA-ASSIGNER-ARGUMENTS-seedSEED, safe on every file system.

    A name that would be too long keeps its beginning and ends in a digest of the whole.
    """
    own = data.replace(":", "-") if data.partition(":")[0] in COURSE_DATA else Path(data).resolve().name
    parts = [own, assigner, *(_words(name, arguments[name]) for name in sorted(arguments))]
    name = re.sub(r"[^\w.=-]+", "_", "-".join(parts))
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Path("runs") / f"{name}-seed{seed}"


def _words(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return "-".join([f"{name}={value.get('name')}", *(f"{k}={v}" for k, v in value.items() if k != "name")])
    return f"{name}={value}"
