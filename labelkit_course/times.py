"""How long a chapter takes: reading counted from its words and its visible code, solving from its exercises."""

import re
from pathlib import Path

from labelkit_course import chapter, registry
from labelkit_course.hiding import hidden

WORDS_A_MINUTE = 200
LINES_A_MINUTE = 20  # of code that is in sight, and belongs to no exercise
STATED = re.compile(r"(\d+)\s+minutes\s+to\s+read\s+and\s+(\d+)\s+to\s+solve\s+the\s+exercises")


def minutes(path: Path) -> tuple[int, int]:
    """To read, to the nearest five; and to solve, as the exercises say."""
    cells = chapter.cells(path)
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    code = [
        (chapter.exercise_form(cell.source), cell.metadata.get("tags", []))
        for cell in cells
        if cell.cell_type == "code"
    ]
    exercise = [chapter.REGION.search(cell.source) is not None for cell in cells if cell.cell_type == "code"]
    lines = sum(
        len(text.splitlines())
        for (text, _), fold, asks in zip(code, hidden(code), exercise, strict=True)
        if not fold and not asks
    )
    reading = words / WORDS_A_MINUTE + lines / LINES_A_MINUTE
    return max(5, 5 * round(reading / 5)), sum(each.minutes for each in registry.of_chapter(path.name[:2]))


def problem(path: Path) -> str | None:
    """What is wrong with the times that a chapter states; None where they are right or not stated."""
    text = "\n".join(cell.source for cell in chapter.cells(path) if cell.cell_type == "markdown")
    stated = STATED.search(text)
    if stated is None:
        return None
    reading, solving = minutes(path)
    if (int(stated[1]), int(stated[2])) == (reading, solving):
        return None
    return f"says {stated[0]!r}; counted are {reading} minutes to read and {solving} to solve"
