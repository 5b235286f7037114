"""A table of an audit: rows for programs, aligned columns for a terminal, HTML for a notebook."""

from __future__ import annotations

import html
from typing import Any

from labelkit.audit import words


class Table(list[dict[str, Any]]):
    """A dict a row. `str` of it is the table for a terminal."""

    def __init__(self, rows: list[dict[str, Any]], shown: list[list[str]]) -> None:
        super().__init__(rows)
        self.shown = shown  # as texts, the head first

    @classmethod
    def by_size(cls, numbers: words.Numbers) -> Table:
        rows = []
        for size in numbers["sizes"]:
            row = {key: value for key, value in size.items() if key != "rules"}
            for name, found in size["rules"].items():
                row |= {f"{key} {name}": value for key, value in found.items()}
            rows.append(row)
        return cls(rows, words.size_rows(numbers))

    def __str__(self) -> str:
        return "\n".join(words.aligned(self.shown))

    def _repr_html_(self) -> str:
        return as_html(self.shown)


def as_html(rows: list[list[str]], wordy: int | None = None) -> str:
    """Texts as a table, the first row its head, the first column names. wordy: the column that holds no numbers."""

    def kind(column: int) -> str:
        return ' class="text"' if column == wordy else ""

    head = "".join(f'<th scope="col"{kind(column)}>{html.escape(text)}</th>' for column, text in enumerate(rows[0]))
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td{kind(column)}>{html.escape(text)}</td>" for column, text in enumerate(row[1:], start=1))
        + "</tr>"
        for row in rows[1:]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
