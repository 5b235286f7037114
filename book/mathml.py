"""A Sphinx extension that sets formulas as MathML when the book is built. No script does it in the reader's browser."""

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

CONVERTER = LatexToMathML()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(formula: str, *, display: bool) -> str:
    """A formula of LaTeX as one <math>. One that can't be set ends the build, with its text."""
    try:
        return CONVERTER.convert_with_local_state(formula, displaystyle=display)
    except LatexError as error:
        raise ExtensionError(f"The formula {formula!r} can't be set: {error}") from error


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), display=False))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{mathml(node.astext(), display=True)}</div>\n')
    raise nodes.SkipNode
