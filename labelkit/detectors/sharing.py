"""One model under another class: the same modules, weights and attributes, and the methods of both classes."""

import copy
import types
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def share(model: nn.Module, kind: type[M]) -> M:
    """A `kind` with all that `model` has: its modules are the same objects, its own tables of them are copies.

    No constructor runs, no mode changes; a module set on one of the two is not set on the other.
    """
    twin = object.__new__(kind)
    state = model.__getstate__()
    twin.__setstate__(
        {name: copy.copy(value) if isinstance(value, dict | set) else value for name, value in state.items()}
    )
    return twin


_made: dict[tuple[type, type], type] = {}


def combined(ours: type[M], base: type[nn.Module], kind: type[nn.Module]) -> type[M]:
    """`ours` with the methods of `kind`, a subclass of `base` as ours is: made once, so that copies are of one class.

    What ours defines can't be kept from `kind` as well, so such a method is a TypeError that names it.
    """
    if issubclass(ours, kind):
        return ours
    if issubclass(kind, ours):
        return kind
    own = {name for part in ours.__mro__ if part not in base.__mro__ for name in vars(part) if name[0] != "_"}
    for name in sorted(own - {"forward"}):  # ours hands on to the next
        if getattr(kind, name, None) is not getattr(base, name, None):
            was = kind.__name__
            raise TypeError(f"model is a {was}, whose own {name} would be lost: derive {was} from {ours.__name__}")
    if (ours, kind) not in _made:
        _made[ours, kind] = _combine(ours, base, kind)
    return _made[ours, kind]


def _combine(ours: type, base: type, kind: type) -> type:
    def reduce(self: nn.Module) -> tuple[Any, ...]:
        return _empty, (ours, base, kind), self.__getstate__()

    body = {"__reduce__": reduce, "__module__": kind.__module__, "__doc__": ours.__doc__}
    return types.new_class(f"{ours.__name__}_{kind.__name__}", (ours, kind), exec_body=lambda space: space.update(body))


def _empty(ours: type[M], base: type[nn.Module], kind: type[nn.Module]) -> M:
    return object.__new__(combined(ours, base, kind))
