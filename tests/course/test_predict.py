"""Answers that are values, the seal on a prediction, given code, and the inputs that a failing check keeps."""

import json

import pytest
import torch

import labelkit_course as course
from labelkit import Priors
from labelkit_course import checking, progress, registry
from labelkit_course.exercise import Exercise, Wrong, compare
from labelkit_course.judging import evaluate


def exercise(kind, *tests, hints=("a", "b", "c")):
    return Exercise("99.1", "Odd", 1, 1, hints, tests, {}, kind=kind)


def a_quarter(guess):
    course.expect(guess, 0.25, within=0.06, clues=[(0.5, "half the side")])


@pytest.fixture
def declared(monkeypatch):
    monkeypatch.setattr(checking, "_failing", {})

    def declare(one):
        monkeypatch.setattr(registry, "find", lambda name: one)
        monkeypatch.setattr(registry, "every", lambda: (one,))

    declare(exercise("P", a_quarter, hints=()))
    return declare


def kept(work):
    return json.loads((work / ".labelkit" / "progress.json").read_text())["99.1"]


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["P", "C", "L", "M", "X"])
def test_an_answer_may_be_a_value(kind):
    one = exercise(kind, a_quarter)
    assert evaluate(one, 0.25).state == "passed"
    assert evaluate(one, 0.5).state == "not yet" and "half the side" in evaluate(one, 0.5).text
    assert evaluate(one, "0.25").state == "error" and "should be a number" in evaluate(one, "0.25").text
    assert evaluate(one, ...).state == "blank" and evaluate(one, ...).text == ""


@pytest.mark.parametrize("kind", ["P", "C", "L", "M"])
def test_a_value_is_no_function_and_a_function_no_value(kind):
    assert "not a function" in evaluate(exercise(kind, a_quarter), lambda: 0.25).text
    assert "without brackets" in evaluate(exercise("B", a_quarter), 0.25).text
    assert evaluate(exercise("X", lambda answer: course.expect(answer(), 1)), lambda: 1).state == "passed"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"A": ..., "B": ...}, ""),
        ([..., ...], ""),
        ({"sky": ..., "stained": "rule"}, "Still blank: 'sky'."),
        ([1, ..., ...], "Still blank: no. 2, no. 3."),
        ({"A": [1, ...], "B": 3}, "Still blank: no. 2 of 'A'."),
        ({1, ...}, "Still blank"),
    ],
)
def test_an_answer_with_a_gap_is_blank_and_names_the_gap(answer, text):
    outcome = evaluate(exercise("M", a_quarter), answer)
    assert outcome.state == "blank" and outcome.text.startswith(text) and bool(outcome.text) == bool(text)


def test_a_test_cannot_spoil_the_value_for_the_next():
    def spoils(boxes):
        boxes += 1

    boxes = torch.zeros(1, 4)
    outcome = evaluate(exercise("C", spoils, lambda boxes: compare("The same", {}, boxes, torch.zeros(1, 4))), boxes)
    assert outcome.state == "passed" and boxes.sum() == 0


# --- the seal -------------------------------------------------------------------------------------------------------


def predicted(guess, capsys):
    """What predict says, and whether the truth was revealed."""
    revealed = []
    course.predict("99.1", guess, lambda: revealed.append(True) or "what happens: 0.25")
    said = capsys.readouterr().out
    assert bool(revealed) == ("what happens: 0.25" in said)
    return said, bool(revealed)


@pytest.mark.parametrize(("guess", "state"), [(..., "blank"), ([...], "blank"), ("much", "error")])
def test_nothing_is_revealed_before_a_guess(guess, state, declared, work, capsys):
    said, revealed = predicted(guess, capsys)
    assert not revealed and "0.25" not in said
    assert kept(work)["state"] == state and "guess" not in kept(work)


def test_a_wrong_guess_is_committed_and_reveals(declared, work, capsys):
    said, revealed = predicted(0.5, capsys)
    assert revealed and "● 99.1 Odd: committed" in said and "half the side" in said
    assert said.index("what happens") < said.index("half the side")
    assert kept(work)["state"] == "committed" and kept(work)["guess"] == "0.5"


def test_a_right_guess_passes_and_reveals(declared, work, capsys):
    said, revealed = predicted(0.25, capsys)
    assert revealed and "✓ 99.1 Odd: as you said" in said
    assert kept(work)["state"] == "passed" and kept(work)["guess"] == "0.25"


def test_the_first_guess_is_kept_and_counts(declared, work, capsys):
    for guess in (0.5, ..., 0.25):
        said, _ = predicted(guess, capsys)
    assert "Your first guess was 0.5." in said
    assert kept(work)["state"] == "committed" and kept(work)["guess"] == "0.5"
    course.status()
    said = capsys.readouterr().out
    assert "committed" in said and "predict" in said and "first guess 0.5" in said
    assert "0 of 1 exercise passed, 1 prediction committed." in said
    course.reset("99.1")
    predicted(0.25, capsys)
    assert kept(work)["state"] == "passed"


def test_check_judges_a_guess_and_reveals_nothing(declared, work, capsys):
    course.check("99.1", 0.5)
    assert "half the side" in capsys.readouterr().out
    assert kept(work)["state"] == "committed"


def test_the_seal_holds_and_opens_where_tests_run(declared, monkeypatch, capsys):
    monkeypatch.setenv("LABELKIT_EXPECT", "blank")
    assert not predicted(..., capsys)[1]
    with pytest.raises(AssertionError, match="reads 'not yet'"):
        predicted(0.5, capsys)
    monkeypatch.setenv("LABELKIT_EXPECT", "pass")
    assert predicted(0.25, capsys)[1]
    with pytest.raises(AssertionError, match="reads 'blank'"):
        predicted(..., capsys)


def test_only_a_prediction_is_predicted(declared):
    declared(exercise("I"))
    with pytest.raises(ValueError, match="no prediction"):
        course.predict("99.1", 0.5, print)


def test_an_exercise_without_hints_says_so(declared, capsys):
    course.hint("99.1")
    assert "has no hints" in capsys.readouterr().out


# --- code with a bug ------------------------------------------------------------------------------------------------


def test_given_code_has_to_fail_where_the_exercise_form_runs(declared, monkeypatch):
    declared(exercise("B", lambda answer: compare("Two objects", {"x": 2}, answer(2), 4)))
    monkeypatch.setenv("LABELKIT_EXPECT", "blank")
    course.check("99.1", lambda x: 3)
    with pytest.raises(AssertionError, match="reads 'passed'"):
        course.check("99.1", lambda x: 4)
    monkeypatch.setenv("LABELKIT_EXPECT", "pass")
    course.check("99.1", lambda x: 4)
    with pytest.raises(AssertionError, match="reads 'not yet'"):
        course.check("99.1", lambda x: 3)


# --- the failing case -----------------------------------------------------------------------------------------------

PRIORS = Priors.points((32, 32), (8,))


def on_priors(answer):
    compare("Sixteen points", {"priors": repr(PRIORS)}, answer(PRIORS, torch.ones(1, 4), k=2), 3)


def test_a_failing_check_keeps_what_the_function_was_called_with(declared, capsys):
    declared(exercise("I", on_priors))

    def mine(points, boxes, k=1):
        return len(points) * k + len(boxes)

    course.check("99.1", mine)
    assert 'course.case("99.1")' in capsys.readouterr().out
    inputs = course.case("99.1")
    assert list(inputs) == ["points", "boxes", "k"] and isinstance(inputs["points"], Priors)
    assert mine(**inputs) == 33
    inputs["points"].boxes.zero_()
    inputs["boxes"].zero_()
    again = course.case("99.1")
    assert torch.equal(again["points"].boxes, PRIORS.boxes) and again["boxes"].sum() == 4


def test_a_crash_keeps_its_inputs_too_and_a_pass_forgets_them(declared, capsys):
    declared(exercise("I", lambda answer: compare("Any", {}, answer(torch.zeros(2)), 1)))
    course.check("99.1", lambda x: x.reshape(3))
    assert course.case("99.1")["x"].shape == (2,)
    course.check("99.1", lambda x: 1)
    capsys.readouterr()
    assert course.case("99.1") == {} and "no failing case" in capsys.readouterr().out


def test_a_function_that_tells_no_names_is_numbered(declared):
    declared(exercise("I", lambda answer: compare("Any", {}, answer(4), 3)))
    course.check("99.1", min)
    assert course.case("99.1") == {"argument 1": 4}


def test_inputs_of_a_value_are_those_of_the_test(declared):
    def worst(answer):
        raise Wrong("39 % have none.", inputs={"worst": 7})

    declared(exercise("C", worst))
    course.check("99.1", 3)
    assert course.case("99.1") == {"worst": 7}


def test_no_case_and_no_exercise_are_told_not_raised(capsys):
    assert course.case("77.1") == {} and "There is no exercise" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", [lambda p: p.boxes.add_(1), lambda p: p.strides.mul_(4), lambda p: p.levels.add_(1)])
def test_priors_that_an_answer_changes_are_noticed_and_spoil_no_other_test(spoil):
    boxes = PRIORS.boxes.clone()

    def mine(priors, gt_boxes, k):
        spoil(priors)
        return 3

    outcome = evaluate(exercise("I", on_priors), mine)
    assert outcome.state == "not yet" and "changed what it was given" in outcome.text
    assert torch.equal(PRIORS.boxes, boxes) and PRIORS.strides.max() == 8 and PRIORS.levels.max() == 0
    assert evaluate(exercise("I", on_priors), lambda priors, gt_boxes, k: 3).state == "passed"


def test_progress_without_a_guess_is_as_before(work):
    progress.record_check("99.1", "not yet")
    assert "guess" not in kept(work)
