"""The front end's files: one style, and one script whose parts share a scope that nothing else on a page sees."""

import json
from importlib.resources import files
from typing import Any

VALUES = ("state.js", "questions.js", "pictures.js")  # know nothing of a page
DRAWING = ("nodes.js", "painting.js", "chart.js")  # know what they draw
PAGE = ("lens.js", "objects.js", "hands.js", "asking.js", "controls.js", "views.js", "panels.js", "layout.js")
PARTS = (*VALUES, *DRAWING, *PAGE, "explorer.js")


def front(name: str) -> str:
    """A file of the front end."""
    return (files("labelkit.explore") / "front" / name).read_text(encoding="utf-8")


def style() -> str:
    return front("explorer.css")


def code(name: str) -> str:
    """A script of the front end as a page gets it: the lines that are comments stay here."""
    return "\n".join(line for line in front(name).splitlines() if not line.lstrip().startswith(("/*", "//")))


def script() -> str:
    """Defines `labelkitExplorer`: a plain script, since a page that is opened from a disk may not import modules."""
    named = "globalThis.labelkitExplorer = {mount, readState, writeState};"
    return "\n".join(('(() => {\n"use strict";', *map(code, PARTS), named, "})();\n"))


def in_script(value: Any) -> str:
    """Plain values as they may stand in a page's script: no text among them ends it."""
    return json.dumps(value).replace("<", "\\u003c")
