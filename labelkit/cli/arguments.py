"""A rule's arguments on the command line, `--set NAME=VALUE`, and how they stand in the name of a run's folder."""

import json
from collections.abc import Sequence
from typing import Any

from labelkit.training.naming import LONGEST, run_folder

__all__ = ["LONGEST", "parse_arguments", "run_folder"]


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
