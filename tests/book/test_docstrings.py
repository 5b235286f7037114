"""Docstrings are plain text, and the page shows what stands there."""

import pytest

from book.docstrings import is_no_method, restructured, short_defaults

pytest.importorskip("sphinx", reason="Sphinx is missing: pip install -r requirements.txt")


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a *#n 4 of x_ and |y|", r"a \*#n 4 of x\_ and \|y\|"),
        ("the `k` best", r"the ``k``\  best"),
        ("Rules:\n\n- one\n  goes on\n- two", "Rules:\n\n- one\n  goes on\n\n- two"),
        ("k: how many,\n    at most\nn: whose", "``k``\n    how many,\n    at most\n\n``n``\n    whose"),
        ("Assigners: one a file", "Assigners: one a file"),
        ("so:\n\n    a = b * c", "so:\n\n::\n\n    a = b * c"),
        ("1. the sum\n\n       a * b\n\n   of both", "1. the sum\n\n   ::\n\n       a * b\n\n   of both"),
        ("k: how many\nand no more", "k: how many\nand no more"),
        ("takes *any* of **both ends**, not a *b", r"takes *any* of **both ends**, not a \*b"),
        ("f(*args, **rest) and 2*k*n", r"f(\*args, \*\*rest) and 2\*k\*n"),
        (
            "| | `k` |\n|---|:-:|\n| one | 1 * 2 |",
            ".. list-table::\n   :header-rows: 1\n\n   * - \n     - ``k``\\ \n   * - one\n     - 1 \\* 2",
        ),
    ],
)
def test_plain_text_is_shown_as_it_stands(text, shown):
    assert "\n".join(restructured(text.split("\n"))).strip() == shown


class Rule:
    def method(self):
        """A method."""


def function():
    """A function."""


def test_a_field_that_holds_a_function_is_no_method():
    assert is_no_method(None, "class", "loss", function, False, None) is True
    assert is_no_method(None, "class", "method", Rule.method, False, None) is None
    assert is_no_method(None, "module", "function", function, False, None) is None


def test_a_default_is_shown_by_its_name():
    given = "(similarity: Similarity = <function iou at 0x7f00>, kind=<class 'torch.float32'>)"
    shown, returned = short_defaults(None, "class", "x", Rule, None, given, "int")
    assert shown == "(similarity: Similarity = iou, kind=torch.float32)" and returned == "int"
