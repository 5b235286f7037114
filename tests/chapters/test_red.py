"""What must turn the tests red does: copies of chapter 00, each spoilt in one way, under pytest as everyone runs it.

Chapter 00 stands for all of them, as the shortest. Drift is covered case by case in tests/course/test_build.py.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from labelkit_course import paths

SOURCE = next(paths.chapters().glob("00_*.py"))
BOOK = SOURCE.with_suffix(".ipynb")


def index_of(cells, text: str) -> int:
    return next(number for number, cell in enumerate(cells) if text in json.dumps(cell))


def change_a_number(cells):
    """Another digit in the first output that is compared."""
    cell = cells[index_of(cells, "nbval-check-output")]
    text = "".join(cell["outputs"][0]["text"])
    digit = next(letter for letter in text if letter.isdigit())
    cell["outputs"][0]["text"] = text.replace(digit, str((int(digit) + 1) % 10), 1)


def leak_the_answer(cells):
    cell = cells[index_of(cells, "course.todo(")]
    answer = "return (boxes[:, :2] + boxes[:, 2:]) / 2"
    cell["source"] = "".join(cell["source"]).replace('course.todo("00.1")', answer)


def spoilt_book(change) -> str:
    book = json.loads(BOOK.read_text(encoding="utf-8"))
    change([cell for cell in book["cells"] if cell["cell_type"] == "code"])
    return json.dumps(book)


def broken_solution() -> str:
    text, end = SOURCE.read_text(encoding="utf-8"), "/ 2\n    # END SOLUTION"
    assert end in text
    return text.replace(end, "/ 3\n    # END SOLUTION")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """What pytest prints about the four copies, run once."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "chapters").mkdir()
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(paths.ROOT / name, checkout)
    copies = {
        "00_as_it_is.ipynb": BOOK.read_text(encoding="utf-8"),
        "00_number.ipynb": spoilt_book(change_a_number),
        "00_leak.ipynb": spoilt_book(leak_the_answer),
        "00_broken.py": broken_solution(),
    }
    for name, text in copies.items():
        (checkout / "chapters" / name).write_text(text, encoding="utf-8")
    line = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "chapters"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(paths.ROOT)
    done = subprocess.run(line, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert not (checkout / "work").exists()
    return done.stdout


def cell_that_failed(report: str, name: str) -> int:
    """The one cell of a copy that failed; every cell after it was skipped."""
    lines = [line for line in report.splitlines() if line.startswith("FAILED") and f"{name}::Cell" in line]
    assert len(lines) == 1, lines
    return int(lines[0].split("::Cell ")[1].split()[0])


def cells_of(book: str) -> list:
    return [cell for cell in json.loads(book)["cells"] if cell["cell_type"] == "code"]


def test_an_unspoilt_chapter_passes_and_its_seconds_are_told(report):
    assert "FAILED chapters/00_as_it_is" not in report and "PASSED chapters/00_as_it_is.ipynb::Cell 0" in report
    assert "seconds a chapter" in report and "\n00_as_it_is " in report


def test_a_changed_number_is_red_and_names_its_cell(report):
    cells = cells_of(BOOK.read_text(encoding="utf-8"))
    assert cell_that_failed(report, "00_number.ipynb") == index_of(cells, "nbval-check-output")
    assert "Cell outputs differ" in report


def test_a_leaked_answer_is_red(report):
    cells = cells_of(BOOK.read_text(encoding="utf-8"))
    assert cell_that_failed(report, "00_leak.ipynb") == index_of(cells, "course.check(")
    assert "00.1 should read 'blank' here; it reads 'passed'" in report


def test_a_broken_solution_is_red(report):
    cell_that_failed(report, "00_broken.py")
    assert "00.1 should read 'pass' here; it reads 'not yet'" in report


def test_what_follows_a_failed_cell_is_skipped(report):
    cells = cells_of(BOOK.read_text(encoding="utf-8"))
    failed = [cell_that_failed(report, name) for name in ("00_number.ipynb", "00_leak.ipynb", "00_broken.py")]
    assert f"{sum(len(cells) - 1 - cell for cell in failed)} skipped" in report
