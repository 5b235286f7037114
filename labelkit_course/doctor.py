"""What is wrong with an installation of the course, in words, and the mend; exit code 1 if anything is.

It has to run where things are broken, as a plain script too (`python labelkit_course/doctor.py`): it imports nothing
but the library's own doctor, which needs nothing but Python.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # a script's own folder is all that is there

from labelkit.cli import doctor as library  # noqa: E402
from labelkit.cli.doctor import Finding, installed  # noqa: E402

CHAPTERS = ROOT / "chapters"
REINSTALL = "python -m pip install -r requirements.txt"
DATA = ("annotations.json", "yell_528.jpg", "yell_541.jpg")


def python() -> Iterator[Finding]:
    mend = "The course needs Python 3.11 or newer: remove .venv, then make lab PYTHON=python3.12"
    yield from _mended(library.python(), mend)


def torch_pair() -> Iterator[Finding]:
    both = "python -m pip install --force-reinstall $(grep -E '^torch(vision)?==' requirements.txt)"
    yield from _mended(library.torch_pair(), f"Install both at once, in the versions of requirements.txt: {both}")


def _mended(findings: Iterator[Finding], mend: str) -> Iterator[Finding]:
    """The library's findings, with what mends them in a checkout of the course."""
    return (finding if finding.well else replace(finding, mend=mend) for finding in findings)


def packages() -> Iterator[Finding]:
    """The versions that requirements.txt pins, where the course is installed from it."""
    listed = ROOT / "requirements.txt"
    if not _has_course():
        yield Finding(True, "the course is not installed in this environment", f"make lab, or {REINSTALL}")
        return
    if not listed.exists():
        yield Finding(True, "the course is installed without its folder, so no versions are pinned")
        return
    wrong = list(version_faults(listed.read_text(encoding="utf-8"), installed))
    if not wrong:
        yield Finding(True, "the packages are those of requirements.txt")
    for what in wrong:
        yield Finding(False, what, REINSTALL)


def version_faults(requirements: str, installed: Callable[[str], str | None]) -> Iterator[str]:
    """Each requirement that is absent or has another version; `installed(name)` gives a version or None."""
    for name, pinned in re.findall(r"^([A-Za-z0-9][\w.-]*)(?:==([^\s;]+))?", requirements, re.MULTILINE):
        version = installed(name)
        if version is None:
            yield f"{name} is not installed"
        elif pinned and version.split("+")[0] != pinned:
            yield f"{name} {version} is installed, the course was tested with {pinned}"


def _has_course() -> bool:
    return installed("labelkit-course") is not None


def kernel() -> Iterator[Finding]:
    """Notebooks start the Python of this environment."""
    if not _has_course():
        return
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        yield Finding(False, "Jupyter is not installed", REINSTALL)
        return
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        yield Finding(False, "Jupyter has no Python kernel", "python -m ipykernel install --sys-prefix")
        return
    program = spec.argv[0]
    here = not os.path.isabs(program) or Path(program).parent == Path(sys.executable).parent
    if here:
        yield Finding(True, "notebooks run on this environment's Python")
    else:
        mend = "python -m ipykernel install --sys-prefix, then start JupyterLab with make lab"
        yield Finding(False, f"the kernel named python3 starts {program}, not this environment's Python", mend)


def data() -> Iterator[Finding]:
    """The chapters and the data that they read."""
    if not CHAPTERS.is_dir():
        yield Finding(True, "labelkit is installed without the course's chapters and data")
        return
    notebooks = [source.with_suffix(".ipynb") for source in sorted(CHAPTERS.glob("[0-9]*.py"))]
    wanted = [*notebooks, *(ROOT / "data" / "neon_trees" / name for name in DATA)]
    missing = [path.relative_to(ROOT) for path in wanted if not path.exists() or path.stat().st_size == 0]
    if not missing:
        yield Finding(True, "chapters and data are there")
    for path in missing:
        yield Finding(False, f"{path} is missing or empty", "git checkout -- chapters data")


def work_folder() -> Iterator[Finding]:
    """work/ can be written."""
    folder = Path(os.environ.get("LABELKIT_WORK") or ROOT / "work")
    probe = folder / ".doctor"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        mend = "Give yourself the right to write there, or set LABELKIT_WORK to a folder of yours"
        yield Finding(False, f"{folder} can't be written ({error.strerror}), so progress is not kept", mend)
    else:
        yield Finding(True, f"your work and your progress are kept in {folder}")


EXAMINATIONS = (python, torch_pair, packages, kernel, data, work_folder)


def main() -> int:
    """Print every finding; 1 if anything is wrong."""
    return library.report(finding for examine in EXAMINATIONS for finding in examine())


if __name__ == "__main__":
    sys.exit(main())
