"""Display: rich in a notebook, one text anywhere else. Scripts and terminals must never get the bytes of a picture."""

import html
import sys
from typing import Any

CAPTION = "max-width: 46em; margin: 0 0 1em; font-size: 0.95em"


def display(bundle: dict[str, Any], caption: str = "", **options: Any) -> None:
    """Show a MIME bundle in a notebook, print its "text/plain" in a script, in a terminal and without IPython.

    A notebook shows `caption` below it.
    """
    try:
        from IPython import get_ipython
        from IPython.display import display as show
    except ImportError:
        _write(bundle["text/plain"])
        return
    if hasattr(get_ipython(), "kernel"):
        show(bundle, raw=True, **options)
        if caption:
            text = f'<p style="{CAPTION}"><em>{html.escape(caption, quote=False)}</em></p>'
            show({"text/html": text, "text/plain": caption}, raw=True)
    else:
        _write(bundle["text/plain"])


def _write(text: str) -> None:
    """Print; a character that the console's code page lacks becomes a question mark, instead of an exception."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
