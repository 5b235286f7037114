"""Opens the course: copies the chapters to work/, where a learner's files are never overwritten, and starts JupyterLab.

Works without a browser and inside a container: the address is printed in any case. Imports nothing of labelkit and
runs as a plain script (`python labelkit_course/lab.py`), so that nobody waits for torch before JupyterLab begins.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_chapters() -> Path:
    """Copy each chapter that work/ does not have yet; name those that have changed since they were copied."""
    work = Path(os.environ.get("LABELKIT_WORK") or ROOT / "work")
    work.mkdir(parents=True, exist_ok=True)
    added, changed = [], []
    for book in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb")):
        mine = work / book.name
        if not mine.exists():
            shutil.copyfile(book, mine)
            added.append(book.stem)
        elif _source(mine) != _source(book):
            changed.append(book.name)
    if added:
        print(f"Copied to {work}: {', '.join(added)}")
    if changed:
        print(f"Changed since you began, your files are as you left them: {', '.join(changed)}")
        print("To get a new one, rename yours and run this again.")
    return work


def _source(path: Path) -> str | None:
    """Hash of the source a notebook was built from; None where the learner's editor has lost it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["metadata"]["labelkit"]["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def command(work: Path, extra: list[str]) -> list[str]:
    """The JupyterLab line: opens chapter 00; no browser where none could open; root may be root."""
    line = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={work}"]
    first = next(iter(sorted(work.glob("00_*.ipynb"))), None)
    if first is not None:
        line.append(f"--LabApp.default_url=/lab/tree/{first.name}")
    if not _has_screen():
        line.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        line.append("--allow-root")
    return line + extra


def _has_screen() -> bool:
    if sys.platform in ("darwin", "win32"):
        return sys.stdout.isatty()
    return sys.stdout.isatty() and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def main(extra: list[str]) -> int:
    """Copy the chapters, then become JupyterLab: a signal to this process reaches it, and nothing is left running.

    Windows can't replace a process; there JupyterLab is a child that is waited for.
    """
    work = copy_chapters()
    print(f"JupyterLab opens {work}. Its address, with the token, is printed below; Ctrl-C ends it.", flush=True)
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}
    line = command(work, extra)
    if sys.platform != "win32":
        os.execve(line[0], line, environment)
    try:
        return subprocess.call(line, env=environment)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
