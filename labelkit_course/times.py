"""How long a chapter takes: reading counted from its words and its visible code, solving from its exercises."""

import re
from pathlib import Path

from labelkit_course import chapter, registry
from labelkit_course.hiding import code_cells

WORDS_A_MINUTE = 200
LINES_A_MINUTE = 20  # of code that is in sight, and belongs to no exercise
STATED = re.compile(r"(\d+)\s+minutes\s+to\s+read\s+and\s+(\d+)\s+to\s+solve\s+the\s+exercises")


def minutes(path: Path) -> tuple[int, int]:
    """To read, to the nearest five; and to solve, as the exercises say."""
    words = len(chapter.text(path).split())
    lines = sum(
        len(cell.source.splitlines())
        for cell, folded in code_cells(path)
        if not folded and not chapter.REGION.search(cell.source)
    )
    reading = words / WORDS_A_MINUTE + lines / LINES_A_MINUTE
    return max(5, 5 * round(reading / 5)), sum(each.minutes for each in registry.of_chapter(path.name[:2]))


def problem(path: Path) -> str | None:
    """What is wrong with the times that a chapter states; None where they are right or not stated."""
    stated = STATED.search(chapter.text(path))
    if stated is None:
        return None
    reading, solving = minutes(path)
    if (int(stated[1]), int(stated[2])) == (reading, solving):
        return None
    return f"says {stated[0]!r}; counted are {reading} minutes to read and {solving} to solve"
