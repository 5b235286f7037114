"""Public names that are imported when first asked for: whoever only wants a version or a help text needs no torch."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from labelkit.extras import explained


def attach(package: str, homes: dict[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` (PEP 562): `homes` says in which module each public name of `package` is defined."""

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with explained():
            value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
