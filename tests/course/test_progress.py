"""What the first edition kept comes over to today's chapter numbers, once; what the second wrote stays as it is."""

import json

import pytest

from labelkit_course import answers, progress

FIRST = {
    "05.2": {"state": "passed", "attempts": 1},
    "13.1": {"state": "passed", "attempts": 2, "passed_on": "2026-05-01"},
    "14.10": {"hints": 3},
    "15.4": {"solution_seen": True},
}
MOVED = {"05.2": FIRST["05.2"], "16.1": FIRST["13.1"], "17.10": FIRST["14.10"], "18.4": FIRST["15.4"]}


@pytest.fixture
def kept(work):
    """Write a progress file, and an answer each of these exercises."""

    def write(records, ids=(), place=".labelkit"):
        home = work / place
        (home / "answers").mkdir(parents=True, exist_ok=True)
        (home / "progress.json").write_text(json.dumps(records))
        for name in ids:
            (home / "answers" / f"{name}.py").write_text(f"# {name}")

    return write


def in_the_folder(work):
    return {file.stem: file.read_text() for file in (work / ".labelkit" / "answers").iterdir()}


def in_the_file(work):
    return json.loads((work / ".labelkit" / "progress.json").read_text())


@pytest.mark.parametrize("place", ["", ".labelkit"])
def test_the_first_edition_kept_them_among_the_notebooks(work, kept, place):
    kept(FIRST, ["09.3", "13.4"], place)
    assert progress.read() == MOVED and in_the_file(work) == {"edition": 2, **MOVED}
    assert in_the_folder(work) == {"09.3": "# 09.3", "16.4": "# 13.4"}
    assert {file.name for file in work.iterdir()} == {".labelkit"}


def test_what_was_moved_is_not_replaced(work, kept):
    second = {"edition": 2, "13.1": {"state": "passed"}}
    kept(second, ["13.4"])
    kept(FIRST, ["05.2"], place="")
    assert progress.read() == {"13.1": {"state": "passed"}} and in_the_folder(work) == {"13.4": "# 13.4"}
    assert json.loads((work / "progress.json").read_text()) == FIRST


def test_the_first_editions_records_and_answers_move_with_their_chapters(work, kept):
    kept(FIRST, ["09.3", "13.4", "14.2", "15.3"])
    assert progress.read() == MOVED
    assert in_the_file(work) == {"edition": 2, **MOVED}
    assert in_the_folder(work) == {"09.3": "# 09.3", "16.4": "# 13.4", "17.2": "# 14.2", "18.3": "# 15.3"}


def test_an_answer_moves_before_it_is_asked_for(work, kept):
    kept(FIRST, ["15.3"])
    assert [file.name for file in answers._folder().iterdir()] == ["18.3.py"]
    assert progress.read() == MOVED


def test_what_the_second_edition_wrote_stays(work, kept):
    second = {"edition": 2, "13.1": {"state": "passed"}, "16.1": {"state": "blank"}}
    kept(second, ["13.4", "16.4"])
    assert progress.read() == {"13.1": {"state": "passed"}, "16.1": {"state": "blank"}}
    progress.record("14.1", hints=1)
    assert in_the_file(work) == {**second, "14.1": {"hints": 1}}
    assert in_the_folder(work) == {"13.4": "# 13.4", "16.4": "# 16.4"}


def test_it_happens_once(work, kept):
    kept(FIRST)
    progress.record_check("13.1", "passed")
    progress.record_check("13.1", "passed")
    assert progress.read()["13.1"]["attempts"] == 2 and progress.read()["16.1"] == FIRST["13.1"]


def test_a_new_file_is_the_second_editions_from_the_start(work):
    progress.record_check("13.1", "passed")
    assert in_the_file(work)["edition"] == 2 and set(progress.read()) == {"13.1"}
    progress.clear()
    assert in_the_file(work) == {"edition": 2} and progress.read() == {}


def test_nothing_is_written_where_tests_run(work, kept, monkeypatch):
    kept(FIRST, ["13.4"])
    monkeypatch.setenv("LABELKIT_EXPECT", "pass")
    assert progress.read() == MOVED
    assert in_the_file(work) == FIRST and in_the_folder(work) == {"13.4": "# 13.4"}


def test_a_folder_that_cannot_be_written_still_reads(work, kept, monkeypatch):
    kept(FIRST)
    monkeypatch.setattr(progress, "_write", lambda records: None)
    assert progress.read() == MOVED == progress.read()


@pytest.mark.parametrize("text", ["", "[]", "{ no", "{}", '{"05.2": 3, "13.1": null}'])
def test_a_spoilt_file_is_no_progress(work, text):
    (work / ".labelkit").mkdir(parents=True)
    (work / ".labelkit" / "progress.json").write_text(text)
    assert progress.read() == {}
