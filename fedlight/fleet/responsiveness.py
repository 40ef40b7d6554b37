"""How fast a client is by the time: the interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Slowdown:
    """By what a client's times are multiplied.

    Attributes:
        compute: factor on the seconds of computing, > 0; 4 is four times slower.
        transfer: factor on the seconds of download and upload, > 0.
    """

    compute: float = 1.0
    transfer: float = 1.0

    def __mul__(self, other: Slowdown) -> Slowdown:
        return Slowdown(self.compute * other.compute, self.transfer * other.transfer)


class Responsiveness(ABC):
    """How much slower than its device is a client now? A pure function of the run's seed, the client and time."""

    @abstractmethod
    def setup(self, num_clients: int, seed: int) -> None:
        """Get to know the run; called once, before any question."""

    @abstractmethod
    def slowdown(self, client: int, now_s: float) -> Slowdown:
        """Return the factors at this simulated time, >= 0."""
