"""What must turn the tests red does: each spoils a copy of chapter 00 and runs pytest on it as everyone does.

Chapter 00 stands for all of them, as the shortest. Drift itself is covered case by case in tests/course/test_build.py.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labelkit.course import paths

SOURCE = next(paths.chapters().glob("00_*.py"))
NUMBERS = "0123456789"


@pytest.fixture
def checkout(tmp_path):
    """The few files that pytest needs to run chapter 00 elsewhere."""
    (tmp_path / "chapters").mkdir()
    for file in (SOURCE, SOURCE.with_suffix(".ipynb")):
        shutil.copy(file, tmp_path / "chapters")
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(paths.ROOT / name, tmp_path)
    return tmp_path


def run(checkout: Path, suffix: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"chapters/{SOURCE.stem}{suffix}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(paths.ROOT)
    return subprocess.run(line, cwd=checkout, env=environment, capture_output=True, text=True)


def edit(checkout: Path, change) -> None:
    """Apply `change` to the cells of the committed notebook."""
    file = checkout / "chapters" / f"{SOURCE.stem}.ipynb"
    book = json.loads(file.read_text())
    change([cell for cell in book["cells"] if cell["cell_type"] == "code"])
    file.write_text(json.dumps(book))


def index_of(cells, text: str) -> int:
    return next(number for number, cell in enumerate(cells) if text in "".join(cell["source"]))


def test_both_forms_pass_and_say_how_long_they_took(checkout):
    for suffix in (".ipynb", ".py"):
        done = run(checkout, suffix)
        assert done.returncode == 0, done.stdout
        assert "seconds a chapter" in done.stdout and f"{SOURCE.stem} " in done.stdout
    assert not (checkout / "work").exists()


def test_a_changed_number_is_red_and_names_its_cell(checkout):
    def change(cells):
        number = next(i for i, cell in enumerate(cells) if "nbval-check-output" in cell["metadata"].get("tags", []))
        text = "".join(cells[number]["outputs"][0]["text"])
        digit = next(letter for letter in text if letter in NUMBERS)
        cells[number]["outputs"][0]["text"] = text.replace(digit, NUMBERS[int(digit) - 1], 1)
        change.number = number

    edit(checkout, change)
    done = run(checkout, ".ipynb")
    assert done.returncode == 1 and "Cell outputs differ" in done.stdout
    assert f"{SOURCE.stem}.ipynb::Cell {change.number}" in done.stdout


def test_a_leaked_answer_is_red_and_what_follows_is_skipped(checkout):
    def change(cells):
        cell = cells[index_of(cells, "course.todo(")]
        source = "".join(cell["source"])
        cell["source"] = source.replace('course.todo("00.1")', "return (boxes[:, :2] + boxes[:, 2:]) / 2")
        change.after = len(cells) - index_of(cells, "course.check(") - 1

    edit(checkout, change)
    done = run(checkout, ".ipynb")
    assert done.returncode == 1 and "should read 'blank' here; it reads 'passed'" in done.stdout
    assert "1 failed" in done.stdout and f"{change.after} skipped" in done.stdout


def test_a_broken_solution_is_red(checkout):
    source = checkout / "chapters" / SOURCE.name
    text = source.read_text()
    assert "/ 2\n    # END SOLUTION" in text
    source.write_text(text.replace("/ 2\n    # END SOLUTION", "/ 3\n    # END SOLUTION"))
    done = run(checkout, ".py")
    assert done.returncode == 1 and "should read 'pass' here; it reads 'not yet'" in done.stdout
    assert f"{SOURCE.name}::Cell" in done.stdout
