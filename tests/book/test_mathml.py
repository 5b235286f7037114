"""Formulas become MathML when the book is built, or the build ends."""

import html
import re
from xml.etree import ElementTree

import pytest

from tests.book.test_prepare import MARKDOWN

mathml = pytest.importorskip(
    "book.mathml", reason="math-core is missing: pip install -r requirements.txt", exc_type=ImportError
)

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$`]+?)\$(?!\d)", re.DOTALL)


def test_every_formula_of_the_course_can_be_set():
    formulas = FORMULA.findall(re.sub(r"```.*?```|`[^`\n]*`", "", MARKDOWN, flags=re.DOTALL))
    assert len(formulas) > 250
    for display, inline in formulas:
        text = mathml.mathml(display or inline, display=bool(display))
        tree = ElementTree.fromstring(re.sub(r"&(?!lt;|gt;|amp;)\w+;", lambda entity: html.unescape(entity[0]), text))
        assert tree.tag == "math" and tree.get("display", "inline") == ("block" if display else "inline")
        assert not list(tree.iter("merror")) and "".join(tree.itertext()).strip()


def test_a_formula_that_cannot_be_set_ends_the_build_with_its_text():
    from sphinx.errors import ExtensionError

    with pytest.raises(ExtensionError, match=r"unheard of.*can't be set"):
        mathml.mathml(r"\unheard of", display=False)
