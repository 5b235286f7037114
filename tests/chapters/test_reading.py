"""What a reader meets first: a picture and text, lines that fit, times that were counted."""

import ast

import pytest

from labelkit_course import chapter, times
from labelkit_course.hiding import DRAWING, hidden

# Chapters that the second edition has not reached yet (issue 12).
TO_COME = {"07", "08", "09", "10", "11", "16", "18"}
PATHS = [path for path in chapter.sources() if path.name[:2] not in TO_COME]
LONGEST_LINE = 90


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_lines_fit_a_notebook_cell(path):
    """A row of a Markdown table has to be one line; a page wraps it."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    long = [number for number, line in lines if len(line) > LONGEST_LINE and not line.startswith("# |")]
    assert long == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_picture_comes_before_any_code_in_sight(path):
    cells = [cell for cell in chapter.cells(path) if cell.cell_type == "code"]
    codes = [(chapter.exercise_form(cell.source), cell.metadata.get("tags", [])) for cell in cells]
    first = next(index for index, (code, _) in enumerate(codes) if _draws(code))
    assert all(hidden(codes)[: first + 1]), f"in sight before the first picture: {codes[first][0][:60]!r}"


def _draws(code):
    calls = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return any(
        (getattr(call.value, "id", ""), call.attr) in DRAWING for call in calls if isinstance(call, ast.Attribute)
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_times_are_stated_as_counted(path):
    text = "\n".join(cell.source for cell in chapter.cells(path) if cell.cell_type == "markdown")
    assert times.STATED.search(text) and times.problem(path) is None
