"""A large JSON file read record by record: what stands in its lists is never in memory all at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from labelkit.datasets.coco import load_coco, of_pairs

CHUNK = 1 << 20  # characters
_LONGEST_NUMBER = 64  # characters; a number that may go on in the next chunk is not taken for whole
_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder(object_pairs_hook=of_pairs).raw_decode


def stream(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
    """The keys of the JSON object in a file, in its order, with their values; for a list an iterator over its records.

    An iterator that is not used up is read through before the next key comes. Text that is no JSON object raises the
    `ValueError` of `load_coco`, with its place, when it is reached; so does a key that stands there twice.
    """
    path = Path(path)
    with open(path, encoding="utf-8-sig") as file:
        yield from _members(_Text(file, path))


def _members(text: _Text) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    text.expect("{")
    while text.peek() != "}":
        if seen:
            text.expect(",")
        key = text.value()
        if not isinstance(key, str) or key in seen:
            text.fail(f"{key!r} must be a key that stands there once")
        seen.add(key)
        text.expect(":")
        if text.peek() == "[":
            records = _records(text)
            yield key, records
            for _ in records:
                pass
        else:
            yield key, text.value()
    text.expect("}")
    if text.peek():
        text.fail("more text than one object")


def _records(text: _Text) -> Iterator[Any]:
    text.expect("[")
    first = True
    while text.peek() != "]":
        if not first:
            text.expect(",")
        first = False
        yield text.value()
    text.expect("]")


class _Text:
    """A window that moves over the text of a file."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.at, self.ended = "", 0, False

    def peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more()

    def expect(self, mark: str) -> None:
        if self.peek() != mark:
            self.fail(f"expected {mark!r}")
        self.at += 1

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if self.ended:
                    self.fail(str(error))
            except (ValueError, RecursionError) as error:
                self.fail(str(error))
            else:
                if end + _LONGEST_NUMBER < len(self.text) or self.ended:
                    self.at = end
                    return value
            self._more()

    def fail(self, message: str) -> NoReturn:
        load_coco(self.path)  # says what is wrong and where
        raise ValueError(f"{self.path}: not JSON as it is read here: {message}")

    def _more(self) -> None:
        """At least as much again: a long value is decoded few times."""
        try:
            new = self.file.read(max(CHUNK, len(self.text) - self.at))
        except UnicodeDecodeError as error:
            self.fail(str(error))
        self.text, self.at, self.ended = self.text[self.at :] + new, 0, not new
