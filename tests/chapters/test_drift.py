"""The committed notebooks are what their sources build, and hold nothing that would pass nbval unseen."""

import pytest

from labelkit_course import build, chapter


@pytest.mark.parametrize("path", chapter.sources(), ids=lambda path: path.stem)
def test_the_notebook_is_built_from_its_source(path):
    assert build.drift(path) == []


def test_no_notebook_stands_without_a_source():
    sources = {path.stem for path in chapter.sources()}
    assert {path.stem for path in chapter.sources()[0].parent.glob("*.ipynb")} == sources
