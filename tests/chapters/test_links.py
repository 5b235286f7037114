"""Links between chapters lead somewhere, and the map of chapter 00 leads to every chapter."""

import re
from pathlib import Path

import pytest

from labelkit_course import chapter

SOURCES = chapter.sources()
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[\d\d\]: (\S+)$", re.MULTILINE)


def links(path: Path) -> list[str]:
    found = ["".join(groups) for groups in LINK.findall(chapter.text(path))]
    return [target for target in found if not target.startswith(("http", "#"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_link_to_another_chapter_leads_to_a_notebook(path):
    """By name alone: a learner's copy in work/ has the other chapters beside it, and nothing else."""
    assert set(links(path)) <= {f"{source.stem}.ipynb" for source in SOURCES}


def test_the_map_leads_to_every_chapter():
    """A new chapter gets its link below the table of chapters/00_start_here.py."""
    first, *others = SOURCES
    assert links(first) == [f"{source.stem}.ipynb" for source in others]
