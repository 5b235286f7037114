"""How pytest runs the chapters: `chapters/NN_slug.ipynb` is the exercise form, `chapters/NN_slug.py` the solution form.

nbval executes both. The committed notebook must read blank at every check, and what its checks say, like the outputs
tagged nbval-check-output, must come out as committed. The solution form is built aside and must pass every check.
Needs `--nbval-lax --nbval-current-env` and, on several workers, `--dist loadfile` (set in pyproject.toml).
"""

import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a worker, before torch is loaded: workers share the cores

if os.environ.get("LABELKIT_TYPES") != "0":
    from jaxtyping import install_import_hook

    import tests.typechecker  # noqa: F401

    # Tests hold every call to the shapes and types of its signature: before anything of labelkit is imported.
    install_import_hook("labelkit", "tests.typechecker.check")

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

from labelkit_course import build

EXPECTED = {".ipynb": "blank", ".py": "pass"}
RUNS = "LABELKIT_RUNS"  # where both forms of a chapter find what one of them has trained, on every worker
_seconds: dict[str, float] = defaultdict(float)


class SolutionForm(IPyNbFile):
    """A chapter's source, collected as the notebook of its solution form."""

    def collect(self):
        self.nb = build.solution_notebook(self.path)
        code = (cell for cell in self.nb.cells if cell.cell_type == "code")
        for number, cell in enumerate(code):
            options = defaultdict(bool)  # nothing is compared: this form has no committed outputs
            yield IPyNbCell.from_parent(self, name=f"Cell {number}", cell_num=number, cell=cell, options=options)


def pytest_pycollect_makemodule(module_path, parent):
    """A chapter's source is no test module."""
    if module_path.name[:2].isdigit():
        return SolutionForm.from_parent(parent, path=module_path)
    return None


def pytest_collection_modifyitems(items):
    """A check's words come from the package: they can change without the chapter, which would keep the old ones."""
    for item in items:
        if _chapter(item) == "blank" and item.cell.source.startswith("course.check("):
            item.options["check"] = True


def _chapter(item) -> str | None:
    """Which outcome the checks of this cell's notebook must have; None for anything but a chapter's cell."""
    return EXPECTED.get(item.path.suffix) if isinstance(item, IPyNbCell) else None


def pytest_configure(config):
    """Every session trains anew. Its workers, which inherit the environment, train what another one has not."""
    if RUNS not in os.environ:
        os.environ[RUNS] = tempfile.mkdtemp(prefix="labelkit-runs-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(RUNS), ignore_errors=True))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    """Set LABELKIT_EXPECT before the kernel starts (in the file's set-up), and skip what follows a failed cell."""
    expected = _chapter(item)
    if expected is None:
        return (yield)
    before = os.environ.get("LABELKIT_EXPECT")
    os.environ["LABELKIT_EXPECT"] = expected
    try:
        result = yield
    finally:
        os.environ.pop("LABELKIT_EXPECT")
        if before is not None:
            os.environ["LABELKIT_EXPECT"] = before
    failed = getattr(item.parent, "failed_cell", None)
    if failed is not None:
        pytest.skip(f"cell {failed} failed")
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and _chapter(item):
        item.parent.failed_cell = item.cell_num
    return report


def pytest_runtest_logreport(report):
    """Add up the seconds of each notebook; under xdist this runs where the reports arrive."""
    name = report.nodeid.split("::")[0]
    if name.startswith("chapters/"):
        _seconds[name] += report.duration


def pytest_terminal_summary(terminalreporter):
    """How long each notebook took, kernel start included."""
    if not _seconds:
        return
    terminalreporter.section("seconds a chapter, exercise form and solution form")
    for stem in sorted({Path(name).stem for name in _seconds}):
        both = [_seconds.get(f"chapters/{stem}{suffix}", 0.0) for suffix in EXPECTED]
        terminalreporter.write_line(f"{stem:36}{both[0]:8.1f}{both[1]:8.1f}")
    terminalreporter.write_line(f"{'all':36}{sum(_seconds.values()):16.1f}")
