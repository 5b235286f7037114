"""What stays outside of `torch.compile`'s graphs, because its shapes follow the number of objects."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.compiler.disable`, asked for as soon as something else has brought in the compiler: it takes seconds to
    import, and who never compiles need not wait for it."""
    outside: list[Callable[P, R]] = []

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not outside:
            outside.append(torch.compiler.disable(function))
        return outside[0](*args, **kwargs)

    return call
