"""Where a run goes by default: a folder's name that says what the run is of, safe on every file system."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelkit.training.recipe import of_course

LONGEST = 80  # characters of a folder's name


def data_name(data: str) -> str:
    """What a run's data are called in a folder's name: "trees-0" for trees:0, or the name of their folder."""
    return data.replace(":", "-") if of_course(data) else Path(data).resolve().name


def run_folder(data: str, assigner: str, arguments: Mapping[str, Any], seed: int) -> Path:
    """runs/DATA-ASSIGNER-ARGUMENTS-seedSEED.

    A name that would be too long keeps its beginning and ends in a digest of the whole.
    """
    parts = [data_name(data), assigner, *(_words(name, arguments[name]) for name in sorted(arguments))]
    name = re.sub(r"[^\w.=-]+", "_", "-".join(parts))
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Path("runs") / f"{name}-seed{seed}"


def _words(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return "-".join([f"{name}={value.get('name')}", *(f"{k}={v}" for k, v in value.items() if k != "name")])
    return f"{name}={value}"
