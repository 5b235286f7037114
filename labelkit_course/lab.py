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
EXPLORER = ROOT / "labelkit" / "explore"
WRITE_EXPLORER = """import sys; from pathlib import Path; from labelkit.explore.page import static_page
Path(sys.argv[1]).write_text(static_page(), encoding="utf-8")"""
# No question about Jupyter's news before the first page. A learner's own settings come before these.
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
# The file in which JupyterLab looks for the workspace "course", by its own way of naming.
WORKSPACE = "course-a908.jupyterlab-workspace"
CONTENTS = {"current": "@jupyterlab/toc:plugin", "widgets": ["filebrowser", "@jupyterlab/toc:plugin"]}


def copy_chapters() -> Path:
    """Copy each chapter that work/ does not have yet; name those that have changed since they were copied."""
    work = Path(os.environ.get("LABELKIT_WORK") or ROOT / "work")
    work.mkdir(parents=True, exist_ok=True)
    added, changed = [], []
    glossary = ROOT / "chapters" / "glossary.md"
    if glossary.exists():
        shutil.copyfile(glossary, work / glossary.name)  # nobody writes in it: always today's
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


def write_explorer(page: Path) -> None:
    """The page that chapters link their scenes in, if there is none as new as its source. Nobody waits for it."""
    sources = (file for file in EXPLORER.rglob("*.*") if file.suffix != ".pyc")
    changed = max((file.stat().st_mtime for file in sources), default=0.0)
    if not page.exists() or page.stat().st_mtime < changed:
        subprocess.Popen([sys.executable, "-c", WRITE_EXPLORER, str(page)], stdin=subprocess.DEVNULL)


def ready_to_read(work: Path) -> None:
    """Settings and a workspace for JupyterLab, once: what a learner changes later stays."""
    if sys.prefix != sys.base_prefix:  # an environment of its own, and not everybody's Python
        _write_once(Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.json", SETTINGS)
    left = {"collapsed": False, "visible": True, **CONTENTS}
    layout = {"left": left, "right": {"collapsed": True, "visible": True}, "relativeSizes": [0.2, 0.8]}
    _write_once(_workspaces(work) / WORKSPACE, {"data": {"layout-restorer:data": layout}, "metadata": {"id": "course"}})


def _workspaces(work: Path) -> Path:
    return work / ".labelkit" / "workspaces"


def _write_once(path: Path, content: dict) -> None:
    """Where the folder can't be written JupyterLab opens as it always does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError:
        return


def command(work: Path, extra: list[str]) -> list[str]:
    """The JupyterLab line: opens chapter 00; no browser where none could open; root may be root."""
    line = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={work}"]
    line.append(f"--LabApp.workspaces_dir={_workspaces(work)}")
    first = next(iter(sorted(work.glob("00_*.ipynb"))), None)
    if first is not None:
        line.append(f"--LabApp.default_url=/lab/workspaces/course/tree/{first.name}")
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
    ready_to_read(work)
    write_explorer(work / "explorer.html")
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
