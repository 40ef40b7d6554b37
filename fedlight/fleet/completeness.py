"""Partial work: clients that do less than they were asked to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from fedlight.core.fleet import Departure
from fedlight.core.seeds import numpy_generator
from fedlight.errors import ConfigError


class Completeness(ABC):
    """How much of its work does a client do? A pure function of the run's seed and the departure."""

    @abstractmethod
    def setup(self, num_clients: int, seed: int) -> None:
        """Get to know the run; called once, before any question."""

    @abstractmethod
    def share(self, departure: Departure) -> float:
        """Return the fraction in (0, 1] of the local work asked for that is done."""


@final
class PartialWork(Completeness):
    """Some jobs end early: share = 1, or with a probability U(low, high), anew for every job.

    The work is a share of the client's epochs or steps, so the time shrinks with it, and the server is told.

    Args:
        probability: of a job that ends early, in [0, 1].
        low: smallest share done then, in (0, high].
        high: largest share done then, in [low, 1].
    """

    def __init__(self, probability: float = 0.2, low: float = 0.2, high: float = 1.0) -> None:
        if not 0.0 <= probability <= 1.0:
            raise ConfigError(f"probability={probability} is outside [0, 1]")
        if not 0.0 < low <= high <= 1.0:
            raise ConfigError(f"low={low} and high={high} are no shares: they need 0 < low <= high <= 1")
        self.probability = probability
        self.low = low
        self.high = high
        self._seed = 0

    def setup(self, num_clients: int, seed: int) -> None:
        """Remember the seed."""
        self._seed = seed

    def share(self, departure: Departure) -> float:
        """Return the share of this job."""
        purpose = f"fleet/share/{departure.repeat}"
        rng = numpy_generator(self._seed, departure.round_idx, departure.client, purpose)
        whether, how_much = rng.random(2)
        return float(self.low + (self.high - self.low) * how_much) if whether < self.probability else 1.0
