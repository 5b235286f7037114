"""How the pages that are built from results write a number, a place and a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


def times(ratio: float | None) -> str:
    """Two digits: more would not come again."""
    return "" if ratio is None else f"{float(f'{ratio:.2g}'):,.{1 if ratio < 9.5 else 0}f}"


def milliseconds(value: float) -> str:
    return f"{float(f'{value:.2g}'):,g}"


def mebibytes(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else "under 1"


def memory(row: Row) -> str:
    """The peer's beside ours, where it was measured."""
    sides = (row["peer_mib"], row["ours_mib"])
    return "" if None in sides else " / ".join(map(mebibytes, sides))


def place(row: Row) -> str:
    """201,600 (9 anchors); as it stands where no kind is named."""
    kind = row["priors"].partition(", ")[2]
    return f"{row['P']:,} ({kind})" if kind and "P" in row else row["priors"]


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])
