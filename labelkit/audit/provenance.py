"""Where a report comes from: the command, the versions, the file that was read."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any

import torch
import torchvision

import labelkit


def made_by(file: str | None, command: str = "") -> dict[str, Any]:
    """command: as it was typed. sha256: of the annotation file, None where the data are in memory."""
    known = file is not None and Path(file).is_file()
    return {
        "command": command,
        "versions": {
            "labelkit": labelkit.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
        },
        "file": file,
        "sha256": _sha256(Path(str(file))) if known else None,
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
