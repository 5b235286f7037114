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

    weight: Float[Tensor, "2 G"]
    mean: Float[Tensor, "2 G"]
    variance: Float[Tensor, "2 G"]

    def log_joint(self, value: Float[Tensor, "G n"]) -> Float[Tensor, "2 G n"]:
        """log(weight * density) of every value in each component; the `logaddexp` of both is its log-likelihood."""
        offset = value - self.mean[..., None]
        top = self.weight.log() - (2 * math.pi * self.variance).log() / 2
        return top[..., None] - offset * offset / (2 * self.variance)[..., None]


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
    mean = torch.stack((low, high)).masked_fill(count == 0, 0)
    mixture = Mixture(torch.full_like(mean, 0.5), mean, torch.ones_like(mean))
    before, moving = torch.full_like(low, -math.inf), count > 0
    for _ in range(MAX_ITERATIONS):
        if not bool(moving.any()):
            break
        joint = mixture.log_joint(value)
        total = torch.logaddexp(*joint)
        likelihood = (total * valid).sum(dim=1) / count.clamp(min=1)
        better = _maximised(value, (joint - total).exp() * valid)
        names = ("weight", "mean", "variance")
        mixture = Mixture(*(torch.where(moving, getattr(better, name), getattr(mixture, name)) for name in names))
        moving = moving & ((likelihood - before).abs() >= TOLERANCE)
        before = likelihood
    return mixture


def _maximised(value: Float[Tensor, "G n"], share: Float[Tensor, "2 G n"]) -> Mixture:
    """The components whose members are the values, by their shares."""
    mass = share.sum(dim=-1) + 10 * torch.finfo(value.dtype).eps
    mean = (share * value).sum(dim=-1) / mass
    offset = value - mean[..., None]
    variance = (share * offset * offset).sum(dim=-1) / mass + REGULAR
    return Mixture(mass / mass.sum(dim=0), mean, variance)
