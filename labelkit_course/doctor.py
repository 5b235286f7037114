"""What is wrong with an installation, in words, and the mend. `labelkit doctor` prints it; exit code 1 if anything is.

It has to run where things are broken: it imports nothing of labelkit, and runs as a plain script too
(`python labelkit_course/doctor.py`).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "chapters"
REINSTALL = "python -m pip install -r requirements.txt"
DATA = ("annotations.json", "yell_528.jpg", "yell_541.jpg")


@dataclass(frozen=True)
class Finding:
    """One thing examined: whether it is as it should be, what it is, and the mend if it is not."""

    well: bool
    what: str
    mend: str = ""


def python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info < (3, 11):  # noqa: UP036
        mend = "The course needs Python 3.11 or newer: remove .venv, then make lab PYTHON=python3.12"
        yield Finding(False, f"Python {version} is too old", mend)
    else:
        yield Finding(True, f"Python {version} at {sys.executable}")


def torch_pair() -> Iterator[Finding]:
    """torch and torchvision load, in a process of their own: a mismatched pair can crash rather than raise."""
    code = (
        "import torch, torchvision; from torchvision.ops import nms; "
        "nms(torch.tensor([[0., 0., 1., 1.]]), torch.tensor([1.]), 0.5); "
        "print(torch.__version__, torchvision.__version__, torch.cuda.is_available())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if run.returncode == 0:
        torch, torchvision, cuda = run.stdout.split()[-3:]
        yield Finding(True, f"torch {torch} and torchvision {torchvision} load and fit each other")
        gpu = "a CUDA device is there, and labelkit can use it" if cuda == "True" else "no CUDA device; none is needed"
        yield Finding(True, gpu)
        return
    yield explain_torch(run.stderr)


def explain_torch(error: str) -> Finding:
    """Why torch and torchvision do not load together, from what Python wrote to stderr."""
    last = error.strip().splitlines()[-1] if error.strip() else "the process was killed"
    missing = re.search(r"No module named '(\w+)'", error)
    if missing:
        return Finding(False, f"{missing[1]} is not installed", REINSTALL)
    if "torchvision::nms" in error or "undefined symbol" in error or "Couldn't load custom C++ ops" in error:
        return Finding(
            False,
            f"torch and torchvision do not fit each other ({last}): torchvision's compiled part was made for another "
            "torch, so that its operators (nms is the first to be missed) are not there",
            "Install both at once, in the versions of requirements.txt: "
            "python -m pip install --force-reinstall $(grep -E '^torch(vision)?==' requirements.txt)",
        )
    return Finding(False, f"torch and torchvision do not load: {last}", REINSTALL)


def packages() -> Iterator[Finding]:
    """The versions that requirements.txt pins."""
    listed = ROOT / "requirements.txt"
    if not listed.exists():
        yield Finding(True, "labelkit is installed without the course, so no versions are pinned")
        return
    wrong = list(version_faults(listed.read_text(encoding="utf-8"), _installed))
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


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def kernel() -> Iterator[Finding]:
    """Notebooks start the Python of this environment."""
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
    width = shutil.get_terminal_size().columns
    findings = [finding for examine in EXAMINATIONS for finding in examine()]
    for finding in findings:
        print(textwrap.fill(f"{'ok   ' if finding.well else 'WRONG'} {finding.what}", width, subsequent_indent=" " * 6))
        if finding.mend:
            print(f"      Mend: {finding.mend}")
    wrong = sum(not finding.well for finding in findings)
    print("All is well." if not wrong else f"{wrong} thing{'s' if wrong > 1 else ''} to mend.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
