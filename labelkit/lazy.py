"""Public names that are imported when first asked for: whoever only wants a version or a help text needs no torch."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from labelkit.extras import explained


def attach(package: str, homes: dict[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` (PEP 562): `homes` says in which module each public name of `package` is defined.

    A home may have the name of what it holds, as `labelkit.training.compare` does. Python hangs a module on its package
    when it is first imported, by whomever: the public name goes there instead.
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            if isinstance(value, ModuleType) and value.__name__ == homes.get(name):
                value = getattr(value, name)
            super().__setattr__(name, value)

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with explained():
            value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    sys.modules[package].__class__ = Package
    return find
