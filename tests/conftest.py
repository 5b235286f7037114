"""What every test may ask for. The device is a parameter: tests marked gpu skip themselves where there is none."""

import os

import jaxtyping
import pytest
import torch
from hypothesis import settings

# The same examples in every run, so that what passes here passes elsewhere. HYPOTHESIS_PROFILE=new draws others.
settings.register_profile("fixed", derandomize=True, database=None)
settings.register_profile("new")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture
def unchecked():
    """For tests that pass what a signature forbids: the sentence that a user gets, who has no type checker."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
