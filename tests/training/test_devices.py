"""Devices by name: found, refused by name, and handed to Lightning."""

import pytest
import torch

from labelkit.training.devices import find_device, trainer_device


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)


def test_devices_that_are_there(two_gpus):
    assert find_device("auto") == find_device("cuda") == torch.device("cuda")
    assert find_device("cpu") == torch.device("cpu") and find_device("cuda:1") == torch.device("cuda:1")
    assert trainer_device("auto") == {} and trainer_device("cpu") == {"accelerator": "cpu"}
    assert trainer_device("cuda:1") == {"accelerator": "cuda", "devices": [1]}


@pytest.mark.parametrize("name", ["cuda:2", "mps"])
def test_a_device_that_is_not_there_is_named(two_gpus, name):
    with pytest.raises(ValueError, match=f"device '{name}' is not here: torch finds 2 x cuda"):
        find_device(name)


def test_without_an_accelerator(no_gpu):
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="device 'cuda' is not here: torch finds none but the CPU"):
        trainer_device("cuda")
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda, cuda:N, mps .*, got 'gpu0'"):
        find_device("gpu0")
