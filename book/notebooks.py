"""A committed notebook as the book shows it. It was executed when it was built; nothing runs here."""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from book import folding

_EXERCISE = re.compile(r"^(#+ Exercise (\d\d)\.(\d+):)", re.MULTILINE)


def prepared(path: Path) -> NotebookNode:
    """A chapter without its lines of navigation (the book has its own), with hints and answers in place of "blank"."""
    book = nbformat.read(path, as_version=4)
    cells: list[NotebookNode] = []
    last = {number: cell.id for cell in book.cells for number in folding.CHECK.findall(cell.source)}
    for cell in book.cells:
        if "navigation" in cell.metadata.get("tags", []):
            continue
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = folding.details(with_scene(with_addresses(cell.source)))
            continue
        cell.outputs = [output for output in cell.outputs if not is_blank(output)]
        describe_picture(cell)
        for number in (number for number, where in last.items() if where == cell.id):
            cells.append(new_markdown_cell(folding.exercise(number), id=f"folded-{number.replace('.', '-')}"))
    book.cells = cells
    return book


def with_addresses(text: str) -> str:
    """Exercise 05.2 has the address #exercise-05-2, whatever its title becomes."""
    return _EXERCISE.sub(r"(exercise-\2-\3)=\n\1", text)


def with_scene(text: str) -> str:
    """The explorer stands above the chapters here, and at the server's root for JupyterLab."""
    return text.replace('<a href="/files/explorer.html#', '<a href="../explorer.html#')


def is_blank(output: NotebookNode) -> bool:
    """Whether it says that an exercise has no answer yet, which the folded answer makes untrue."""
    said = output.get("data", {}).get("text/plain", "").split("\n")[0]
    return said.startswith("○") and "blank" in said


def describe_picture(cell: NotebookNode) -> None:
    """Copy a picture's alternative text and width from its output, where myst-nb does not look, to the cell."""
    described = [output.metadata["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    if not described:
        return
    if len(described) > 1:
        raise ValueError(f"A cell shows {len(described)} pictures and can describe one: {cell.source[:80]!r}")
    (picture,) = described
    cell.metadata["mystnb"] = {"image": {"alt": picture["alt"], "width": f"{picture['width']}px"}}
