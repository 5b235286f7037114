"""What a reader meets first: a picture and text, lines that fit, times that were counted."""

import re

import pytest

from labelkit_course import chapter, times
from labelkit_course.hiding import code_cells, draws

PATHS = chapter.sources()
LONGEST_LINE = 90


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_lines_fit_a_notebook_cell(path):
    """A row of a Markdown table has to be one line, which a page wraps, and so has an address, which no page shows."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    whole = ("# |", "# [scene]: ")
    long = [number for number, line in lines if len(line) > LONGEST_LINE and not line.startswith(whole)]
    assert long == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_picture_comes_before_any_code_in_sight(path):
    for cell, folded in code_cells(path):
        assert folded, f"in sight before the first picture: {cell.source[:60]!r}"
        if draws(chapter.exercise_form(cell.source)):
            return
    pytest.fail("there is no picture")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_times_are_stated_as_counted(path):
    assert times.STATED.search(chapter.text(path)) and times.problem(path) is None


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_folds_is_closed_before_the_next(path):
    """An answer whose fold is left open swallows the questions after it."""
    tags = re.findall(r"</?details>", path.read_text(encoding="utf-8"))
    assert tags == ["<details>", "</details>"] * (len(tags) // 2)
