"""How much a late update still counts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

from fedlight.errors import ConfigError


class Staleness(ABC):
    """The factor on an update's weight by the number of versions that the model has moved on since it was sent."""

    @abstractmethod
    def discount(self, staleness: int) -> float:
        """Return s(τ) in (0, 1] for τ >= 0 versions; s(0) = 1."""


@final
class Constant(Staleness):
    """s(τ) = 1: late or not, an update counts (Xie et al. 2019, FedAsync, section 5.2)."""

    def discount(self, staleness: int) -> float:
        """Return 1."""
        return 1.0


@final
class Polynomial(Staleness):
    """s(τ) = (1 + τ)^-a (Xie et al. 2019, FedAsync, section 5.2; with a = ½ FedBuff's 1/√(1 + τ)).

    Args:
        a: exponent, >= 0.
    """

    def __init__(self, a: float = 0.5) -> None:
        self.a = _checked("a", a)

    def discount(self, staleness: int) -> float:
        """Return (1 + τ)^-a."""
        return math.pow(1.0 + staleness, -self.a)


@final
class Hinge(Staleness):
    """s(τ) = 1 for τ <= b, and 1 / (a (τ - b) + 1) beyond (Xie et al. 2019, FedAsync, section 5.2).

    Args:
        a: slope beyond b, >= 0.
        b: versions that cost nothing, >= 0.
    """

    def __init__(self, a: float = 10.0, b: float = 4.0) -> None:
        self.a = _checked("a", a)
        self.b = _checked("b", b)

    def discount(self, staleness: int) -> float:
        """Return 1 up to b, and 1 / (a (τ - b) + 1) beyond."""
        return 1.0 if staleness <= self.b else 1.0 / (self.a * (staleness - self.b) + 1.0)


def _checked(key: str, value: float) -> float:
    if not 0.0 <= value < float("inf"):
        raise ConfigError(f"{key}={value} of a staleness weight must be 0 or more: older updates count less")
    return float(value)
