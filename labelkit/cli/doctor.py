"""`labelkit doctor`: whether what is installed fits together, the mend if not, and which extra brings what is missing.

It has to run where things are broken: it needs nothing but Python's own library.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import groupby

PAIR = "Install both at once, from one place: pip install --force-reinstall torch torchvision"
PURPOSES = {  # extra -> what it is for
    "plot": "pictures",
    "data": "the course's pictures and objects",
    "train": "training, evaluation",
    "explore": "the explorer in a notebook",
    "tensorboard": "the course of a training in TensorBoard",
    "test": "labelkit's own tests",
}


@dataclass(frozen=True)
class Finding:
    """One thing examined: whether it is as it should be, what it is, and what to do if not, or to have more."""

    well: bool
    what: str
    mend: str = ""


@dataclass(frozen=True)
class Requirement:
    """A line of the package's metadata: a distribution, its lowest version, the extra that asks for it, if one does."""

    name: str
    least: str = ""
    extra: str = ""

    def __str__(self) -> str:
        return f"{self.name}>={self.least}" if self.least else self.name


def python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info < (3, 11):  # noqa: UP036
        yield Finding(False, f"Python {version} is too old", "Make an environment with Python 3.11 or newer")
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
        return Finding(False, f"{missing[1]} is not installed", PAIR)
    if "torchvision::nms" in error or "undefined symbol" in error or "Couldn't load custom C++ ops" in error:
        return Finding(
            False,
            f"torch and torchvision do not fit each other ({last}): torchvision's compiled part was made for another "
            "torch, so that its operators (nms is the first to be missed) are not there",
            PAIR,
        )
    return Finding(False, f"torch and torchvision do not load: {last}", PAIR)


def packages() -> Iterator[Finding]:
    """What labelkit always needs, and each of its extras."""
    labelkit = distribution("labelkit")
    if labelkit is None:
        yield Finding(True, "labelkit runs from its folder and is not installed; no versions are asked for")
        return
    wanted = requirements(labelkit.requires or [])
    yield from core(labelkit.version, [one for one in wanted if not one.extra], installed)
    for extra in dict.fromkeys(one.extra for one in wanted if one.extra):
        yield from of_extra(extra, [one for one in wanted if one.extra == extra], installed)


def requirements(lines: Iterable[str]) -> list[Requirement]:
    """The requirements of a package as its metadata writes them, without those on itself (an extra made of extras)."""
    # A name, perhaps [extras], the lowest version, perhaps the extra that asks for it.
    pattern = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*(?:>=\s*([\w.]+))?[^;]*(?:;.*\bextra\s*==\s*[\"']([\w-]+)[\"'])?")
    found = (pattern.match(line) for line in lines)
    return [Requirement(one[1], one[2] or "", one[3] or "") for one in found if one and one[1] != "labelkit"]


def core(version: str, wanted: list[Requirement], installed: Callable[[str], str | None]) -> Iterator[Finding]:
    """What is missing or too old of what labelkit `version` always needs; `installed(name)` gives a version or None."""
    faults = [*_too_old(wanted, installed)]
    for one in wanted:
        if installed(one.name) is None:
            faults.append(Finding(False, f"{one.name} is not installed", f"pip install '{one}'"))
    yield from faults or [Finding(True, f"labelkit {version} has what it always needs")]


def of_extra(extra: str, wanted: list[Requirement], installed: Callable[[str], str | None]) -> Iterator[Finding]:
    """Whether an extra is there. One that is not is no fault; one that is there in old versions is."""
    name = f"labelkit[{extra}] ({PURPOSES.get(extra, 'more')})"
    missing = [one.name for one in wanted if installed(one.name) is None]
    if missing:
        yield Finding(True, f"{name}: {', '.join(missing)} not installed", f"pip install 'labelkit[{extra}]'")
    else:
        yield from [*_too_old(wanted, installed)] or [Finding(True, f"{name} is installed")]


def _too_old(wanted: list[Requirement], installed: Callable[[str], str | None]) -> Iterator[Finding]:
    for one in wanted:
        version = installed(one.name)
        if version is not None and _numbers(version) < _numbers(one.least):
            what = f"{one.name} {version} is installed, labelkit needs {one.least} or newer"
            yield Finding(False, what, f"pip install '{one}'")


def _numbers(version: str) -> tuple[int, ...]:
    """The first three numbers of a version, to compare by: all that pyproject.toml asks for are lowest versions."""
    numbers = [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]
    return tuple([*numbers, 0, 0, 0][:3])


def distribution(name: str) -> metadata.Distribution | None:
    """An installed distribution; what a build leaves in a checkout (its egg-info has no METADATA) is none."""
    return next((one for one in metadata.distributions(name=name) if one.read_text("METADATA")), None)


def installed(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    found = distribution(name)
    return None if found is None else found.version


def report(findings: Iterable[Finding]) -> int:
    """Print every finding once, and a mend below those that it mends; 1 if anything is wrong, else 0."""
    said: dict[str, Finding] = {}
    for mend, group in groupby(findings, key=lambda finding: finding.mend):
        fresh = [finding for finding in group if finding.what not in said]
        said |= {finding.what: finding for finding in fresh}
        for finding in fresh:
            _say("WRONG" if not finding.well else "ok" if not mend else "-", finding.what)
        if fresh and mend:
            print(f"      {'To have it' if fresh[0].well else 'Mend'}: {mend}", flush=True)
    wrong = sum(not finding.well for finding in said.values())
    print("All is well." if not wrong else f"{wrong} thing{'s' if wrong > 1 else ''} to mend.")
    return int(wrong > 0)


def _say(mark: str, what: str) -> None:
    """In lines as wide as the terminal; a path is not broken, so that it can be copied."""
    width = shutil.get_terminal_size().columns
    line = f"{mark:5} {what}"
    print(textwrap.fill(line, width, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False))


EXAMINATIONS = (python, torch_pair, packages)


def main() -> int:
    """Print what was found; 1 if anything is wrong. An extra that is not installed is not."""
    return report(finding for examine in EXAMINATIONS for finding in examine())
