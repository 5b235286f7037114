"""compare: what it finds, what it says, and that it keeps the answer to itself."""

import pytest
import torch

from labelkit_course import Exercise, Wrong, compare, todo
from labelkit_course.exercise import Blank, describe

T = torch.tensor


def said(got, want, **options):
    with pytest.raises(Wrong) as wrong:
        compare("Some case", {"boxes": T([[0.0, 0.5, 2.0, 2.0]])}, got, want, **options)
    return wrong.value.message


@pytest.mark.parametrize(
    "value",
    [
        T([1.0, 2.0]), T([1, 2]), T([True]), T(3.0), T([float("nan"), float("inf")]), T([]),
        1.5, 3, True, "text", [1, 2], (T([1.0]), 2), {"gt": T([1])},
    ],
)  # fmt: skip
def test_the_right_answer_is_right(value):
    compare("Some case", {}, value, value)


def test_floats_are_compared_to_a_tolerance_and_integers_exactly():
    compare("Some case", {}, T([1.000001]), T([1.0]))
    compare("Some case", {}, 0.1 + 0.2, 0.3)
    assert "too large" in said(T([1.001]), T([1.0]))
    assert "is 1 " in said(T([0, 1]), T([0, 2]))
    compare("Some case", {}, T([1.1]), T([1.0]), atol=0.2)


@pytest.mark.parametrize(
    ("got", "want", "clue"),
    [
        (None, T([1.0]), "return"),
        ([1.0], T([1.0]), "should be a tensor"),
        (T([[1.0]]), T([1.0]), "shape (1, 1); it should be (1,)"),
        (T([1]), T([1.0]), "it should hold floats"),
        (T([1.0]), T([True]), "it should hold booleans"),
        (T([0.0, float("nan")]), T([0.0, 1.0]), "index [1] is nan, not a number"),
        (T([1, -1, 5]), T([1, -1, 2]), "index [2] is 5 (1 of 3 values is wrong)"),
        (T([1.0]), 1.0, "should be a number"),
        (0.25, 0.75, "is 0.25, too small"),
        ((1, 2), (1, 3), "[1] is 2"),
        ((1,), (1, 3), "tuple of 2"),
        ({"gt": T([1])}, {"gt": T([2])}, "['gt'] at index [0] is 1"),
        ({"a": 1}, {"gt": 1}, "keys ['gt']"),
        ("left", "right", "is 'left'"),
    ],
)
def test_a_wrong_answer_is_described(got, want, clue):
    assert clue in said(got, want)


def test_the_message_names_the_case_and_the_input_and_not_the_answer():
    message = said(T([7.0]), T([123.0]))
    assert message.startswith("Some case.")
    assert "boxes = [[0, 0.5, 2, 2]]" in message
    assert "123" not in message


def test_a_cause_is_said_if_it_alone_explains_the_answer():
    clues = [(T([2.0]), "You doubled it."), (T([0.0]), "You took nothing."), (T([0.0]), "You took it away.")]
    assert said(T([2.0]), T([1.0]), clues=clues).endswith("\nYou doubled it.")
    for unknown in (T([3.0]), T([0.0]), T([[2.0]]), None):
        assert "You " not in said(unknown, T([1.0]), clues=clues)
    compare("Some case", {}, T([1.0]), T([1.0]), clues=[(T([1.0]), "Here it makes no difference.")])


def test_a_picture_is_kept_only_for_an_answer_that_can_be_drawn():
    for got, drawn in ((T([2.0]), True), (T([1.0, 1.0]), True), (T([[2.0]]), False), (None, False)):
        with pytest.raises(Wrong) as wrong:
            compare("Some case", {}, got, T([1.0]), draw=lambda: "figure")
        assert (wrong.value.draw is not None) == drawn
    for got, drawn in (([1, 2, 3], True), ([None], False), (3, False)):
        with pytest.raises(Wrong) as wrong:
            compare("Some case", {}, got, [1, 2], draw=lambda: "figure")
        assert (wrong.value.draw is not None) == drawn


def test_a_wrong_answer_carries_its_inputs():
    with pytest.raises(Wrong) as wrong:
        compare("Some case", {"k": 3}, 1, 2)
    assert wrong.value.inputs == {"k": 3} and Wrong("Not so.").inputs == {}


def test_a_long_tensor_is_described_by_its_shape_and_beginning():
    assert describe(torch.arange(100).reshape(50, 2)) == (
        "tensor of shape (50, 2), beginning [0, 1, 2, 3, 4, 5, 6, 7, ...]"
    )


def test_todo_raises_a_kind_of_not_implemented():
    with pytest.raises(Blank, match=r"05\.2") as blank:
        todo("05.2")
    assert isinstance(blank.value, NotImplementedError)


def test_an_exercise_needs_three_hints_and_a_difficulty_on_the_scale():
    parts = {"id": "99.1", "title": "t", "minutes": 1, "tests": (), "mutants": {}}
    with pytest.raises(ValueError, match="three hints"):
        Exercise(difficulty=1, hints=("one",), **parts)
    with pytest.raises(ValueError, match="1 to 5"):
        Exercise(difficulty=6, hints=("a", "b", "c"), **parts)
    with pytest.raises(ValueError, match="kind of 99.1"):
        Exercise(difficulty=1, hints=("a", "b", "c"), kind="Q", **parts)


def test_a_value_needs_no_three_hints():
    parts = {"id": "99.1", "title": "t", "minutes": 1, "tests": (), "mutants": {}, "difficulty": 1}
    Exercise(hints=(), kind="P", **parts)
    with pytest.raises(ValueError, match="three hints"):
        Exercise(hints=("1", "2", "3", "4"), kind="P", **parts)
    with pytest.raises(ValueError, match="three hints"):
        Exercise(hints=("1", "2"), kind="B", **parts)
