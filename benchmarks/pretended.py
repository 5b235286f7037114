"""A pretended device: its tensors are computed on the CPU, and what a GPU would be asked to do is counted.

It shows on any machine what a real device refuses: one operation on tensors of two devices, a copy between devices that
the code doesn't say (an index or a value from the CPU), and on a device without float64 (Apple's MPS) such a tensor.
torch takes one private device a process and keeps it: run this in a process of its own.

What is counted: operators; launches of kernels, none for a view or an allocation; synchronisations, where the CPU waits
for the device to know a value, a shape, or that a copy is done; bytes read and written. A model, not a measurement.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten, _tensor = torch.ops.aten, torch.tensor
DEVICE = "privateuseone"
LAUNCH, WAIT, BANDWIDTH = 5e-6, 18e-6, 3e12  # seconds, seconds, bytes a second: assumed of a GPU of 2023

# Operators of several kernels, as torch's CUDA code has them, about.
KERNELS = {
    "nonzero": 2,
    "masked_select": 3,
    "topk": 2,
    "sort": 4,
    "argsort": 4,
    "unique_consecutive": 4,
    "_unique2": 6,
    "unique_dim": 6,
    "bincount": 3,
    "repeat_interleave": 2,
    "cumsum": 1,
    "median": 4,
}
# How often the CPU waits for the operator: for a value, or for the size of its answer.
WAITS = {
    "_local_scalar_dense": 1,
    "nonzero": 1,
    "masked_select": 1,
    "_unique2": 1,
    "unique_dim": 1,
    "unique_consecutive": 1,
    "bincount": 2,
    "equal": 1,
}
NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_", "_unsafe_view"}
GATHERS = {"index_select", "gather", "index", "embedding"}  # they read what they give, not the whole table
SCATTERS = {"index_fill_", "index_copy_", "index_add_", "scatter_", "scatter_add_", "scatter_reduce_", "index_put_"}


@dataclass
class Counts:
    """Since the device was opened, or `reset`."""

    operators: int = 0
    launches: int = 0
    synchronisations: int = 0
    bytes: int = 0

    @property
    def seconds(self) -> float:
        """By the model: the launches, the waits and the memory, one after another."""
        return self.launches * LAUNCH + self.synchronisations * WAIT + self.bytes / BANDWIDTH

    def as_dict(self) -> dict[str, float]:
        return asdict(self) | {"ms": round(1000 * self.seconds, 3)}


class Elsewhere(torch.Tensor):
    """Holds its numbers as a tensor of the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        return cls._make_wrapper_subclass(cls, inner.size(), inner.stride(), dtype=inner.dtype, device=DEVICE)

    def __init__(self, inner):
        self.inner = inner

    def as_subclass(self, cls):
        return self

    def new_tensor(self, values, dtype=None):
        return _tensor(values, dtype=dtype or self.dtype).to(DEVICE)

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function}: the pretended device is closed")


class Device(TorchDispatchMode):
    """What stands between the code and the numbers while the device is open."""

    def __init__(self, float64: bool) -> None:
        super().__init__()
        self.float64, self.counts = float64, Counts()
        self.seen: Counter[str] = Counter()  # launches by operator
        self.waited: Counter[str] = Counter()  # synchronisations by operator
        self.waiters: Counter[str] = Counter()  # and by the package whose code asked

    def reset(self) -> None:
        self.counts = Counts()
        self.seen.clear()
        self.waited.clear()
        self.waiters.clear()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        here = [value for value in leaves if isinstance(value, Elsewhere)]
        name = function._schema.name.removeprefix("aten::")
        asked = kwargs.get("device")
        moves = name == "_to_copy" and asked is not None and (torch.device(asked).type == DEVICE) is not bool(here)
        if here and any(value.ndim > 0 and not isinstance(value, Elsewhere) for value in leaves):
            wrong = "a copy that the code doesn't say" if name in ("index", "index_put_", "copy_") else "two devices"
            raise RuntimeError(f"{function}: expected all tensors to be on the same device, got {wrong}")
        plain, words = tree_map(_inner, args), tree_map(_inner, kwargs)
        stays = bool(here)
        if asked is not None:
            stays, words["device"] = torch.device(asked).type == DEVICE, "cpu"
        answer = function(*plain, **words)
        if moves:
            answer = answer.clone() if answer is plain[0] else answer
            waits = 0 if stays and kwargs.get("non_blocking") else 1
            self._count("copy", 1, waits, answer.nbytes)
        elif stays or here:
            self._count_operator(function, name, args, kwargs, leaves, answer)
        return tree_map(functools.partial(self._wrapped, stays), answer)

    def _wrapped(self, stays: bool, value: Any) -> Any:
        if not stays or not isinstance(value, torch.Tensor):
            return value
        if value.dtype == torch.float64 and not self.float64:
            raise TypeError("this device has no float64")
        return Elsewhere(value)

    def _count_operator(self, function, name, args, kwargs, leaves, answer) -> None:
        masks = 0
        if name in ("index", "index_put_"):
            masks = sum(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
        waits = WAITS.get(name, 0) + masks
        if name == "repeat_interleave" and kwargs.get("output_size") is None:
            waits = 1
        returns = function._schema.returns
        view = any(one.alias_info is not None and not one.alias_info.is_write for one in returns)
        if view or name in NOTHING:
            self.counts.operators += 1
            return
        answers = [one for one in tree_leaves(answer) if isinstance(one, torch.Tensor)]
        written = sum(map(_nbytes, answers))
        read = sum(map(_nbytes, leaves))
        if name in GATHERS:
            read = min(read, written + sum(map(_nbytes, leaves[1:])))
        elif name in SCATTERS:
            read = written = sum(map(_nbytes, leaves[1:]))
        self._count(name, KERNELS.get(name, 1) + 2 * masks, waits, read + written)

    def _count(self, name: str, launches: int, waits: int, moved: int) -> None:
        self.counts.operators += 1
        self.counts.launches += launches
        self.counts.synchronisations += waits
        self.counts.bytes += moved
        self.seen[name] += launches
        self.waited[name] += waits
        if waits:
            self.waiters[_package()] += waits


def _package() -> str:
    """The innermost one on the stack that is neither torch nor this module."""
    frame: Any = sys._getframe()
    while (name := frame.f_globals.get("__name__", "").partition(".")[0]) in ("torch", __name__.partition(".")[0]):
        frame = frame.f_back
    return name


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Elsewhere) else value


def _nbytes(tensor: torch.Tensor) -> int:
    """Of the different elements: what is broadcast is read once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size for size, stride in sides if stride) * tensor.element_size()


def _made(values, *, dtype=None, device=None):
    """torch.tensor and torch.as_tensor, which copy to a device without asking a mode."""
    made = values if isinstance(values, torch.Tensor) else _tensor(values, dtype=dtype)
    return made if device is None else made.to(device)


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.float16]


@functools.cache
def _registered():
    backend_registration._setup_privateuseone_for_python_backend(backend_module=_Module())


@contextlib.contextmanager
def pretended_device(float64: bool = True) -> Iterator[Device]:
    """Inside, `.to(DEVICE)` and `device=DEVICE` give tensors of the pretended device, and their work is counted."""
    _registered()
    device = Device(float64)
    with mock.patch("torch.tensor", _made), mock.patch("torch.as_tensor", _made), device:
        yield device
