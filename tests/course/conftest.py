"""A learner's own world for every test: progress and answers go to a folder of the test's, no LABELKIT_EXPECT."""

import pytest

from labelkit_course import answers


@pytest.fixture(autouse=True)
def work(monkeypatch, tmp_path):
    folder = tmp_path / "work"
    monkeypatch.setenv("LABELKIT_WORK", str(folder))
    monkeypatch.delenv("LABELKIT_EXPECT", raising=False)
    monkeypatch.delenv("LABELKIT_RUNS", raising=False)
    monkeypatch.setattr(answers, "_taken", {})
    return folder
