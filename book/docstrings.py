"""A Sphinx extension for docstrings that are plain text: what stands there is what the page shows."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

_FIELD = re.compile(r"(\*{0,2}[a-z_][\w.]*(?:, \*{0,2}[a-z_][\w.]*)*): +(?=\S)")
_ITEM = re.compile(r"(?:- |\d+\. )")
_RULER = re.compile(r"\s*\|[|:\s-]+\|")
_MARKS = re.compile(r"([\\*_|<>`])")
_STRESS = re.compile(r"(?<![\w*])(\*{1,2})(\w(?:[^*]*\w)?)\1(?![\w*])")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", as_text)
    app.connect("autodoc-process-signature", short_defaults)
    app.connect("autodoc-skip-member", is_no_method)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def as_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines)


def short_defaults(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """A default that is a function is shown by its name, not by its place in memory."""
    return (signature and re.sub(r"<(?:function|class) '?([\w.]+)'?(?: at \w+)?>", r"\1", signature)), returned


def is_no_method(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """A function that is the default of a field is not a method of the class; a method's name begins with its class."""
    return True if what == "class" and inspect.isfunction(obj) and "." not in obj.__qualname__ else None


def restructured(lines: list[str]) -> list[str]:
    """Plain text as reStructuredText: paragraphs, lists, tables, "name: meaning" and code; all else is escaped."""
    made: list[str] = []
    depth = 0  # how far what belongs to the last item of a list is indented
    for block in _blocks(lines):
        indents = {len(line) - len(line.lstrip()) for line in block}
        if depth and min(indents) >= depth:
            made += [" " * depth + line if line else "" for line in restructured([line[depth:] for line in block])]
        elif len(block) > 1 and _RULER.fullmatch(block[1]):
            made += [*_table(block), ""]
        elif min(indents) >= 2:
            made += ["::", "", *block, ""]
        else:
            for entry in _entries(block):
                made += [*_entry(entry, _named(block)), ""]
            item = _ITEM.match(entry[0])
            depth = len(item[0]) if item else 0
    return made


def _table(block: list[str]) -> list[str]:
    """Rows of cells between bars, the first of them the head, as a list table."""
    made = [".. list-table::", "   :header-rows: 1", ""]
    for line in block:
        if not _RULER.fullmatch(line):
            cells = [_escaped(cell.strip()) for cell in line.strip()[1:-1].split("|")]
            made += [f"   {'  ' if index else '* '}- {cell}" for index, cell in enumerate(cells)]
    return made


def _entry(lines: list[str], named: bool) -> list[str]:
    """A paragraph, an item of a list, or a name with its meaning."""
    first, rest = lines[0], [_escaped(line.strip()) for line in lines[1:]]
    field, item = _FIELD.match(first) if named else None, _ITEM.match(first)
    if field:
        return [f"``{field[1]}``", *(f"    {line}" for line in [_escaped(first[field.end() :]), *rest])]
    return [_escaped(first.strip()), *(" " * (len(item[0]) if item else 0) + line for line in rest)]


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """The parts between blank lines."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line.rstrip())
        elif block:
            yield block
            block = []


def _entries(block: list[str]) -> Iterator[list[str]]:
    """A block's items and fields, each with the lines that go on with it."""
    named, entry = _named(block), []
    for line in block:
        if entry and (_ITEM.match(line) or (named and _FIELD.match(line))):
            yield entry
            entry = []
        entry.append(line)
    yield entry


def _named(block: list[str]) -> bool:
    """Whether each line that is not indented gives a name its meaning."""
    return all(_FIELD.match(line) for line in block if not line.startswith(" ")) and not block[0].startswith(" ")


def _escaped(line: str) -> str:
    """Marks escaped; what stands in backticks is code, and between stars it is stressed."""
    parts = re.split(r"`+([^`]+)`+", line)
    return "".join(f"``{part.strip()}``\\ " if index % 2 else _words(part) for index, part in enumerate(parts))


def _words(text: str) -> str:
    """Text without code: the stars around stressed words stay, all other marks are escaped."""
    made, end = "", 0
    for found in _STRESS.finditer(text):
        made += _MARKS.sub(r"\\\1", text[end : found.start()]) + found[1] + _MARKS.sub(r"\\\1", found[2]) + found[1]
        end = found.end()
    return made + _MARKS.sub(r"\\\1", text[end:])
