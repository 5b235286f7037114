"""Where a command computes: `--device` as torch names devices, checked before any work."""

from typing import Any

import torch


def find_device(name: str) -> torch.device:
    """The device of this name, "auto" for the accelerator that torch finds, or the CPU.

    A name that torch does not know, or a device that is not here, is a `ValueError`.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N, mps or another of torch's, got {name!r}") from error
    if device.type == "cpu":
        return device
    count = torch.accelerator.device_count()
    if accelerator is None or device.type != accelerator.type or (device.index or 0) >= count:
        there = "none but the CPU" if accelerator is None else f"{count} x {accelerator.type}"
        raise ValueError(f"device {name!r} is not here: torch finds {there}")
    return device


def trainer_device(name: str) -> dict[str, Any]:
    """The same for Lightning's `Trainer`: "auto" leaves the choice to it, a number takes that device alone."""
    if name == "auto":
        return {}
    device = find_device(name)
    return {"accelerator": device.type} | ({} if device.index is None else {"devices": [device.index]})
