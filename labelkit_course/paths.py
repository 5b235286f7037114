"""Where the course lives on disk: found from the package, never from the working directory."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def chapters() -> Path:
    return ROOT / "chapters"


def work() -> Path:
    """The learner's own folder: LABELKIT_WORK, or work/ in the checkout (or here, where there is no checkout)."""
    home = ROOT if chapters().is_dir() else Path.cwd()
    return Path(os.environ.get("LABELKIT_WORK") or home / "work")


def kept() -> Path:
    """Progress and answers, inside the learner's folder. JupyterLab lists no name that begins with a dot."""
    return work() / ".labelkit"
