"""Display: rich in a notebook, one text anywhere else. Scripts and terminals must never get the bytes of a picture."""

from typing import Any


def display(bundle: dict[str, Any], **options: Any) -> None:
    """Show a MIME bundle in a notebook, print its "text/plain" in a script, in a terminal and without IPython."""
    try:
        from IPython import get_ipython
        from IPython.display import display as show
    except ImportError:
        print(bundle["text/plain"])
        return
    if hasattr(get_ipython(), "kernel"):
        show(bundle, raw=True, **options)
    else:
        print(bundle["text/plain"])
