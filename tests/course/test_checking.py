"""What a learner sees from check, hint, solution, status and reset, and that none of them raises."""

import json

import pytest
import torch

import labelkit_course as course
from labelkit import plot
from labelkit.boxes import centers
from labelkit_course import chapter, progress, registry
from labelkit_course.checking import evaluate
from labelkit_course.exercise import Exercise, Wrong, compare

RIGHT = centers
WRONG = lambda boxes: boxes[:, :2]  # noqa: E731


def blank(boxes):
    course.todo("00.1")


def crash(boxes):
    return boxes.reshape(-1, 3)


def state(work):
    return json.loads((work / ".labelkit" / "progress.json").read_text())["00.1"]["state"]


@pytest.mark.parametrize(
    ("answer", "expected", "clue"),
    [
        (RIGHT, "passed", "✓ 00.1"),
        (blank, "blank", "○ 00.1"),
        (WRONG, "not yet", "boxes = [[12, 20, 32, 40]]"),
        (crash, "error", "return boxes.reshape(-1, 3)"),
        (3.5, "error", "without brackets"),
    ],
)
def test_check_says_how_an_answer_stands_and_records_it(answer, expected, clue, work, capsys, monkeypatch):
    monkeypatch.setattr(plot, "show", lambda figure, alt: print(f"[picture: {alt}]"))
    course.check("00.1", answer)
    said = capsys.readouterr().out
    assert clue in said
    assert state(work) == expected
    assert ("[picture: Your answer in a picture." in said) == (expected == "not yet")


def test_the_traceback_is_the_learners_own(capsys):
    course.check("00.1", crash)
    said = capsys.readouterr().out
    assert "RuntimeError" in said and "crash(" in said
    assert "/checking.py" not in said and "/ch00.py" not in said


@pytest.mark.parametrize("name", ["00.9", "77.1", "", None, 3])
def test_an_unknown_exercise_is_told_not_raised(name, capsys):
    course.check(name, RIGHT)
    course.hint(name)
    course.solution(name)
    course.preview(name, RIGHT)
    assert capsys.readouterr().out.count("There is no exercise") == 4


def test_a_pass_is_kept_when_the_answer_is_spoilt_later(work):
    for answer in (WRONG, RIGHT, WRONG):
        course.check("00.1", answer)
    record = progress.read()["00.1"]
    assert record["state"] == "passed" and record["attempts"] == 3


def test_an_answer_that_changes_its_input_is_told_so():
    def spoils(boxes):
        boxes[:, 2:] += boxes[:, :2]
        return boxes[:, 2:] / 2

    outcome = evaluate(registry.find("00.1"), spoils)
    assert outcome.state == "not yet" and "changed what it was given" in outcome.text


@pytest.mark.parametrize("value", [torch.tensor([True]), torch.tensor([1]), torch.tensor([float("nan")]), "text"])
def test_any_input_survives_the_copy(value):
    def test(answer):
        compare("Inside a list", {}, answer([value], more={"value": value}), 1)

    exercise = Exercise("99.1", "Odd", 1, 1, ("a", "b", "c"), (test,), {})
    assert evaluate(exercise, lambda values, more: 1).state == "passed"


def test_gradients_reach_the_tests_own_tensor():
    def test(answer):
        x = torch.tensor(3.0, requires_grad=True)
        answer(x).backward()
        compare("The gradient of the square at 3", {"x": x}, x.grad, torch.tensor(6.0))

    exercise = Exercise("99.1", "Odd", 1, 1, ("a", "b", "c"), (test,), {})
    assert evaluate(exercise, torch.square).state == "passed"


def test_a_picture_that_cannot_be_drawn_leaves_the_sentence(capsys, monkeypatch):
    def test(answer):
        raise Wrong("Not so.", draw=lambda: 1 / 0)

    odd = Exercise("99.1", "Odd", 1, 1, ("a", "b", "c"), (test,), {})
    monkeypatch.setattr(registry, "find", lambda name: odd)
    course.check("99.1", RIGHT)
    assert "Not so." in capsys.readouterr().out


def test_randomness_in_a_test_is_seeded_and_leaves_the_learners_alone():
    seen = []

    def test(answer):
        seen.append(torch.rand(3))
        compare("Any", {}, answer(1), 1)

    exercise = Exercise("99.1", "Odd", 1, 1, ("a", "b", "c"), (test, test), {})
    before = torch.get_rng_state()
    evaluate(exercise, lambda x: x)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("expected", "answer", "clue"),
    [("blank", RIGHT, "reads 'passed'"), ("pass", blank, "reads 'blank'"), ("pass", WRONG, "reads 'not yet'")],
)
def test_an_unexpected_outcome_raises_where_tests_run(expected, answer, clue, work, monkeypatch):
    monkeypatch.setenv("LABELKIT_EXPECT", expected)
    with pytest.raises(AssertionError, match=clue):
        course.check("00.1", answer)
    with pytest.raises(ValueError, match="There is no exercise"):
        course.check("00.9", answer)
    assert not work.exists()


def test_the_expected_outcome_passes_and_writes_nothing(work, monkeypatch):
    for expected, answer in (("blank", blank), ("pass", RIGHT)):
        monkeypatch.setenv("LABELKIT_EXPECT", expected)
        course.check("00.1", answer)
        course.hint("00.1")
    assert not work.exists()


def test_preview_neither_records_nor_raises(work, monkeypatch, capsys):
    monkeypatch.setenv("LABELKIT_EXPECT", "blank")
    course.preview("00.1", WRONG)
    assert "not yet" in capsys.readouterr().out and not work.exists()


def test_each_call_shows_one_hint_more(capsys):
    hints = registry.find("00.1").hints
    for expected in (1, 2, 3, 3):
        course.hint("00.1")
        said = capsys.readouterr().out
        assert [hint in said for hint in hints] == [number < expected for number in range(3)]
    assert progress.read()["00.1"]["hints"] == 3


def test_the_solution_shown_is_the_region_of_the_chapter(capsys):
    course.solution("00.1")
    said = capsys.readouterr().out
    assert chapter.solution_text("00.1") in said and "SOLUTION" not in said
    assert progress.read()["00.1"]["solution_seen"] is True


def test_status_counts_and_reset_forgets(capsys):
    course.check("00.1", RIGHT)
    course.solution("00.1")
    capsys.readouterr()
    course.status()
    said = capsys.readouterr().out
    assert f"1 of {len(registry.every())} exercises passed." in said and "answer seen" in said
    course.reset("00.1")
    assert progress.read() == {}


def test_a_spoilt_or_unwritable_progress_file_does_not_interrupt(work, monkeypatch):
    (work / ".labelkit").mkdir(parents=True)
    (work / ".labelkit" / "progress.json").write_text("{ not json")
    course.check("00.1", RIGHT)
    assert state(work) == "passed"
    monkeypatch.setenv("LABELKIT_WORK", str(work / ".labelkit" / "progress.json" / "below a file"))
    course.check("00.1", RIGHT)
