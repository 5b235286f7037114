"""Mixtures of two normal distributions on a line, fitted by expectation and maximisation: many of them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_ITERATIONS = 100
TOLERANCE = 1e-3  # of the mean log-likelihood of the values
REGULAR = 1e-6  # added to every variance: values that have collapsed to a point keep a width


@dataclass(frozen=True, eq=False)
class Mixture:
    """G mixtures: the weight, the mean and the variance of their two components."""

    weight: Float[Tensor, "G 2"]
    mean: Float[Tensor, "G 2"]
    variance: Float[Tensor, "G 2"]

    def log_joint(self, value: Float[Tensor, "G n"]) -> Float[Tensor, "G n 2"]:
        """log(weight * density) of every value in each component; `logsumexp` over the last is the log-likelihood."""
        weight, mean, variance = self.weight[:, None], self.mean[:, None], self.variance[:, None]
        offset = value[..., None] - mean
        return weight.log() - ((2 * math.pi * variance).log() + offset * offset / variance) / 2


def fit(value: Float[Tensor, "G n"], valid: Bool[Tensor, "G n"]) -> Mixture:
    """A mixture for the valid values of every row, as scikit-learn's `GaussianMixture` finds it from this start:

    means at the least and the largest value, weights 1/2, precisions 1; then expectation and maximisation in turn until
    the mean log-likelihood changes by less than 1e-3, 100 times at most; every variance + 1e-6. A row that has arrived
    stands still while others go on. Values in float64 for its digits; one value or none is no error.
    """
    count = valid.sum(dim=1)
    value = value.masked_fill(~valid, 0)
    # The value nearest to an end, and 0 in a row without values.
    low = torch.where(valid, value, math.inf).amin(dim=1)
    high = torch.where(valid, value, -math.inf).amax(dim=1)
    mean = torch.stack((low, high), dim=1).masked_fill((count == 0)[:, None], 0)
    mixture = Mixture(torch.full_like(mean, 0.5), mean, torch.ones_like(mean))
    before, moving = torch.full_like(low, -math.inf), count > 0
    for _ in range(MAX_ITERATIONS):
        if not bool(moving.any()):
            break
        joint = mixture.log_joint(value)
        total = joint.logsumexp(dim=-1)
        likelihood = (total * valid).sum(dim=1) / count.clamp(min=1)
        share = (joint - total[..., None]).exp() * valid[..., None]
        better = _maximised(value, share)
        names = ("weight", "mean", "variance")
        mixture = Mixture(
            *(torch.where(moving[:, None], getattr(better, name), getattr(mixture, name)) for name in names)
        )
        moving = moving & ((likelihood - before).abs() >= TOLERANCE)
        before = likelihood
    return mixture


def _maximised(value: Float[Tensor, "G n"], share: Float[Tensor, "G n 2"]) -> Mixture:
    """The components whose members are the values, by their shares."""
    mass = share.sum(dim=1) + 10 * torch.finfo(value.dtype).eps
    mean = (share * value[..., None]).sum(dim=1) / mass
    offset = value[..., None] - mean[:, None]
    variance = (share * offset * offset).sum(dim=1) / mass + REGULAR
    return Mixture(mass / mass.sum(dim=1, keepdim=True), mean, variance)
