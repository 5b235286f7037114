"""A pretended device without float64, as Apple's MPS is: its tensors are computed on the CPU.

It shows on any machine what such a device refuses: a float64 tensor, and one operation on tensors of two devices.
torch takes one private device a process and keeps it: run this in a process of its own.
"""

import contextlib
import functools
from unittest import mock

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten, _tensor = torch.ops.aten, torch.tensor
DEVICE = "privateuseone"
OF_TWO_DEVICES = {aten._to_copy.default, aten.copy_.default, aten.index.Tensor, aten.index_put_.default}


class Elsewhere(torch.Tensor):
    """Holds its numbers as a tensor of the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        if inner.dtype == torch.float64:
            raise TypeError("this device has no float64")
        return cls._make_wrapper_subclass(cls, inner.size(), inner.stride(), dtype=inner.dtype, device=DEVICE)

    def __init__(self, inner):
        self.inner = inner

    def as_subclass(self, cls):
        return self

    def new_tensor(self, values, dtype=None):
        return Elsewhere(_tensor(values, dtype=dtype or self.dtype))

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


class _Redirect(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


def _compute(function, args, kwargs):
    found = {"here": False, "cpu": False}

    def inner(value):
        if isinstance(value, Elsewhere):
            found["here"] = True
            return value.inner
        found["cpu"] |= isinstance(value, torch.Tensor) and value.ndim > 0
        return value

    args, plain = tree_map(inner, args), tree_map(inner, kwargs)
    if all(found.values()) and function not in OF_TWO_DEVICES:
        raise RuntimeError(f"{function}: expected all tensors to be on the same device")
    here = found["here"]
    if kwargs.get("device") is not None:
        here, plain["device"] = torch.device(kwargs["device"]).type == DEVICE, "cpu"
    answer = function(*args, **plain)
    return tree_map(lambda value: Elsewhere(value) if here and isinstance(value, torch.Tensor) else value, answer)


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
def device_without_float64():
    """Inside, `.to(device)` and `device=device` give tensors of the pretended device."""
    _registered()
    with mock.patch("torch.tensor", _made), mock.patch("torch.as_tensor", _made), _Redirect():
        yield torch.device(DEVICE, 0)
