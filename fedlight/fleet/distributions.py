"""Distributions that speeds, bandwidths and memories are drawn from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.fleet.draws import Floats


class Distribution(ABC):
    """What values do devices have? Positive numbers, one per client."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Return float64[count], all above 0."""


@final
class Constant(Distribution):
    """The same for all.

    Args:
        value: > 0.
    """

    def __init__(self, value: float) -> None:
        self.value = _positive(value, "value")

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Return the value, ``count`` times."""
        return np.full(count, self.value)


@final
class Uniform(Distribution):
    """Any value between two, equally likely.

    Args:
        low: smallest, > 0.
        high: largest, >= low.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = _positive(low, "low"), _positive(high, "high")
        if low > high:
            raise ConfigError(f"low={low} is above high={high}: give the lower one first")

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Return U(low, high)."""
        return rng.uniform(self.low, self.high, count)


@final
class LogNormal(Distribution):
    """median · exp(σ z), z ~ N(0, 1): factors from the median are as likely up as down.

    Args:
        median: > 0.
        sigma: standard deviation of the logarithm, >= 0; 0.6 spans a factor of 10 from the 3rd to the 97th percentile.
        low: values below are raised to it; None: none are.
        high: values above are lowered to it; None: none are.
    """

    def __init__(self, median: float, sigma: float, low: float | None = None, high: float | None = None) -> None:
        if not 0 <= sigma < math.inf:
            raise ConfigError(f"sigma={sigma} is no standard deviation: give a number, at least 0")
        self.median = _positive(median, "median")
        self.sigma = sigma
        self.low = None if low is None else _positive(low, "low")
        self.high = None if high is None else _positive(high, "high")
        if low is not None and high is not None and low > high:
            raise ConfigError(f"low={low} is above high={high}: give the lower one first")

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Return the values, clipped."""
        values: Floats = self.median * np.exp(self.sigma * rng.standard_normal(count))
        return np.clip(values, self.low or 0.0, self.high or np.inf)


@final
class Pareto(Distribution):
    """P(value > x) = (minimum / x)^shape: many small ones, a few very large.

    Args:
        minimum: smallest, > 0.
        shape: > 0; the mean is minimum · shape / (shape - 1) above 1, and infinite below.
        high: values above are lowered to it; None: none are.
    """

    def __init__(self, minimum: float, shape: float, high: float | None = None) -> None:
        self.minimum = _positive(minimum, "minimum")
        self.shape = _positive(shape, "shape")
        self.high = None if high is None else _positive(high, "high")
        if high is not None and high < minimum:
            raise ConfigError(f"high={high} is below minimum={minimum}: give a larger one, or null")

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Return the values, clipped."""
        return np.minimum(self.minimum * (1.0 + rng.pareto(self.shape, count)), self.high or np.inf)


@final
class Zipf(Distribution):
    """The k-th largest of all is largest / k^exponent; who is which is drawn (Zipf's rank-size rule).

    Args:
        largest: value of the first, > 0.
        exponent: > 0; 1 makes the second half as large, the third a third.
        low: values below are raised to it; None: none are.
    """

    def __init__(self, largest: float, exponent: float = 1.0, low: float | None = None) -> None:
        self.largest = _positive(largest, "largest")
        self.exponent = _positive(exponent, "exponent")
        self.low = None if low is None else _positive(low, "low")
        if low is not None and low > largest:
            raise ConfigError(f"low={low} is above largest={largest}: give a smaller one, or null")

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Return the values in an order that is drawn."""
        values: Floats = self.largest / np.arange(1.0, count + 1.0) ** self.exponent
        drawn: Floats = np.maximum(rng.permutation(values), self.low or 0.0)
        return drawn


def _positive(value: float, key: str) -> float:
    if not 0 < value < math.inf:
        raise ConfigError(f"{key}={value} is not above 0")
    return float(value)
