"""What a device can't do, or is slow at: some have no float64 (Apple's MPS), and what must be exact is then computed on
the CPU; a GPU is idle while the CPU waits for it."""

from __future__ import annotations

import torch
from torch import Tensor

WITHOUT_FLOAT64 = {"mps"}


def as_double(tensor: Tensor) -> Tensor:
    """The same numbers in float64: on the tensor's own device, or on the CPU where that device has no float64.

    For short vectors whose last bits decide (a threshold, a mean): the labels are then those of every other device,
    for the price of one copy. What is computed from it has to be brought back.
    """
    return (tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor).double()


def read(*scalars: Tensor) -> list[float]:
    """The numbers of tensors of one element: a device is waited for once."""
    if all(one.device.type == "cpu" for one in scalars):
        return [one.item() for one in scalars]
    return torch.stack([one if one.is_floating_point() else one.float() for one in scalars]).tolist()


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A short tensor of the CPU on a device, without waiting for it. MPS would read the memory too late."""
    return tensor.to(device, non_blocking=device.type != "mps")


def shipped(tensor: Tensor, device: torch.device) -> Tensor:
    """`sent`, for a tensor of any length: CUDA waits for a long one unless it stands in memory that is pinned."""
    pinned = tensor.device.type == "cpu" and device.type == "cuda"
    return sent(tensor.contiguous().pin_memory() if pinned else tensor, device)


def out_of_memory(error: BaseException) -> str | None:
    """A sentence that says what would need less, or None for any other error.

    A GPU's is torch.OutOfMemoryError, the CPU's a RuntimeError, numpy's and Python's own a MemoryError.
    """
    short = str(error).strip().partition("\n")[0]
    of_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in short
    if not (of_cpu or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"):
        return None
    return f"out of memory: smaller batches, smaller inputs or tiles need less ({short or type(error).__name__})"
