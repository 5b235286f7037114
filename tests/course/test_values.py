"""expect: what it accepts, which clue it says, what it refuses to judge, and that it keeps the answer to itself."""

import pytest
import torch

from labelkit_course import Wrong, expect, factor


def said(got, want, **options):
    with pytest.raises(Wrong) as wrong:
        expect(got, want, **options)
    return wrong.value.message


@pytest.mark.parametrize(
    ("got", "want", "options"),
    [
        (3, 3, {}),
        (0.31, 0.25, {"within": 0.06}),
        (torch.tensor(0.31), 0.25, {"within": 0.06}),
        (1.25, 1.0, {"within": factor(1.25)}),
        (0.8, 1.0, {"within": factor(1.25)}),
        ([1, 2], (1, 2), {}),
        ((1.0, 2.04), torch.tensor([1.0, 2.0]), {"within": 0.05}),
        ([2, 0, 1], [2, 0, 1], {}),
        ({1, 2}, {2, 1}, {}),
        (["a", "b"], {"b", "a"}, {"among": ("a", "b", "c")}),
        ({"A": "yes", "B": "open"}, {"A": "yes", "B": "open"}, {"among": ("yes", "no", "open")}),
        ({"n": 4.1, "share": 0.5}, {"n": 4.0, "share": 0.5}, {"within": {"n": 0.2, "share": 0.01}}),
        ([4.1, 0.5], [4.0, 0.5], {"within": [factor(1.1), 0.01]}),
        ({"kept": [0, 2]}, {"kept": [0, 2]}, {}),
    ],
)
def test_the_right_value_is_right(got, want, options):
    expect(got, want, **options)


@pytest.mark.parametrize(
    ("got", "want", "options", "clue"),
    [
        (0.32, 0.25, {"within": 0.06}, "It is too large"),
        (0.79, 1.0, {"within": factor(1.25)}, "too small"),
        ([1.0, 3.0], [1.0, 2.0], {"within": 0.5}, "Number 2 is too large"),
        ({"A": 3, "B": 1}, {"A": 3, "B": 2}, {}, "“B” is too small"),
        ([0], [0, 2], {}, "It is not so"),
        ({1}, {1, 2}, {}, "You say {1}"),
        ({"A": "yes"}, {"A": "no"}, {"among": ("yes", "no")}, "“A” is not so"),
        ({"A": [0, 1]}, {"A": [0]}, {}, "“A” is not so"),
        ({"n": 4.3, "share": 0.5}, {"n": 4.0, "share": 0.5}, {"within": {"n": 0.2, "share": 9}}, "“n” is"),
    ],
)
def test_a_wrong_value_is_described(got, want, options, clue):
    assert clue in said(got, want, **options)


CLUES = (
    ([..., 0.5], "the union grew"),
    ({"B": 0}, "the large ones have positives"),
    (lambda got: got["A"] > 11, "count digits"),
    (0.5, "half the side"),
    ({"x"}, "a set"),
)


@pytest.mark.parametrize(
    ("got", "want", "clues", "sentence"),
    [
        ([0.2, 0.52], [0.25, 0.3], CLUES[:1], "the union grew"),
        ([0.2, 0.6], [0.25, 0.3], CLUES[:1], "Number 2 is too large"),
        ({"A": 3, "B": 0}, {"A": 11, "B": 7}, CLUES[1:3], "the large ones"),
        ({"A": 13, "B": 7}, {"A": 11, "B": 7}, CLUES[1:3], "count digits"),
        ({"A": 13, "B": 0}, {"A": 11, "B": 7}, CLUES[1:3], "the large ones"),
        (0.46, 0.25, CLUES[3:4], "half the side"),
        (["x"], {"x", "y"}, CLUES[4:], "a set"),
    ],
)
def test_the_misconception_that_fits_is_named(got, want, clues, sentence):
    assert sentence in said(got, want, clues=clues, within=0.06).splitlines()[-1]


def test_the_message_says_what_was_entered_and_not_what_is_right():
    message = said({"A": 5.0, "B": 1.0}, {"A": 5.0, "B": 123.0})
    assert "{'A': 5, 'B': 1}" in message and "123" not in message


@pytest.mark.parametrize("clue", [0.28, ..., lambda got: got < 1])
def test_a_clue_that_fits_the_right_answer_is_its_authors_error(clue):
    with pytest.raises(ValueError, match="'near'"):
        expect(0.25, 0.25, within=0.06, clues=[(clue, "near")])


@pytest.mark.parametrize(
    ("got", "want", "options", "clue"),
    [
        ("a quarter", 0.25, {}, "it should be a number"),
        (True, 1, {}, "it should be a number"),
        (None, 0.25, {}, "it should be a number"),
        ([0.25], [0.25, 0.5], {"within": 0.1}, "a list of 2"),
        (0.25, [0.25, 0.5], {"within": 0.1}, "a list of 2"),
        (3, [3], {}, "should be a list"),
        (["0"], [3], {}, "it[0] should be a number"),
        ({"A": 1}, {"A": 1, "B": 2}, {}, "keys ['A', 'B']"),
        (3, {"A": 1}, {}, "a dict"),
        (3, {3}, {}, "a set"),
        ({"A": "maybe"}, {"A": "no"}, {"among": ("yes", "no")}, "it['A'] should be one of 'yes', 'no'"),
        ({"maybe"}, {"no"}, {"among": ("yes", "no")}, "should be one of"),
    ],
)
def test_another_form_is_refused_not_judged(got, want, options, clue):
    with pytest.raises(ValueError) as error:
        expect(got, want, **options)
    assert clue in str(error.value)


def test_the_picture_is_kept():
    with pytest.raises(Wrong) as wrong:
        expect(1, 2, draw=lambda: "figure")
    assert wrong.value.draw() == "figure"
