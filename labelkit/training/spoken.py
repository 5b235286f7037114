"""Rules as a person writes them, "topk k=3", and their arguments, NAME=VALUE; without torch, for command lines."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Spoken(NamedTuple):
    """A rule's registry name, its arguments, and the whole with single spaces."""

    name: str
    arguments: dict[str, Any]
    label: str


def parse_rule(text: str, option: str = "--assigner") -> Spoken:
    """ "topk  k=3" as ("topk", {"k": 3}, "topk k=3"); `option` is what an error calls the text."""
    name, *pairs = shlex.split(text) or [""]
    return Spoken(name, parse_arguments(pairs, option), " ".join([name, *pairs]))


def write_rule(name: str, arguments: Mapping[str, Any]) -> str:
    """`parse_rule` backwards: "topk k=3" from "topk" and {"k": 3}."""
    words = [name]
    for key, value in arguments.items():
        constants = dict(value) if isinstance(value, dict) else {"name": value}
        words.append(f"{key}={_written(constants.pop('name'))}")
        words += [f"{key}.{constant}={_written(number)}" for constant, number in constants.items()]
    return " ".join(word if shlex.split(word) == [word] else shlex.quote(word) for word in words)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def parse_arguments(pairs: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """["k=3", "similarity=nwd", "similarity.constant=12.8"] as {"k": 3, "similarity": {"name": "nwd", ...}}."""
    arguments: dict[str, Any] = {}
    seen: set[str] = set()
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{option} must be NAME=VALUE, got {pair!r}")
        if key in seen:
            raise ValueError(f"{option} must name {key} once, got {pair!r} besides")
        seen.add(key)
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
        name, dot, constant = key.partition(".")
        if dot:
            inner = arguments.get(name, {})
            arguments[name] = (inner if isinstance(inner, dict) else {"name": inner}) | {constant: value}
        elif isinstance(arguments.get(key), dict):
            arguments[key] = {"name": value} | arguments[key]
        else:
            arguments[key] = value
    return arguments
