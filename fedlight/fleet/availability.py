"""Who is up when: the interface, and what is made of several answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.fleet.draws import Bools, Floats, Ints


class Availability(ABC):
    """When are clients there? A pure function of the run's seed, the client and simulated time."""

    @abstractmethod
    def setup(self, num_clients: int, seed: int) -> None:
        """Get to know the run; called once, before any question."""

    @abstractmethod
    def status(self, clients: Ints, times_s: Floats) -> tuple[Bools, Floats]:
        """Return who is up, and until when that is sure to stay so.

        Args:
            clients: int64[n], numbers of clients.
            times_s: float64[n], one time for each, >= 0.

        Returns:
            bool[n], and float64[n]: the client's status doesn't change in [time, until); until > time, infinity where
            it never changes. It may be the same after it.
        """


@final
class AlwaysUp(Availability):
    """Everybody, always."""

    def setup(self, num_clients: int, seed: int) -> None:
        """Nothing to learn."""

    def status(self, clients: Ints, times_s: Floats) -> tuple[Bools, Floats]:
        """Return up, for ever."""
        return np.ones(len(clients), dtype=np.bool_), np.full(len(clients), np.inf)


@final
class AllOf(Availability):
    """Up are those that are up by every one of several answers: present in the fleet, and awake, say.

    Args:
        parts: the answers, at least one.
    """

    def __init__(self, parts: Sequence[Availability]) -> None:
        if not parts:
            raise ConfigError("parts is empty: give at least one availability")
        self.parts = list(parts)

    def setup(self, num_clients: int, seed: int) -> None:
        """Tell all of them."""
        for part in self.parts:
            part.setup(num_clients, seed)

    def status(self, clients: Ints, times_s: Floats) -> tuple[Bools, Floats]:
        """Return who is up by all; who is down stays down as long as the part that stays down longest."""
        answers = [part.status(clients, times_s) for part in self.parts]
        up: Bools = np.logical_and.reduce([one for one, _ in answers])
        first: Floats = np.minimum.reduce([until for _, until in answers])
        last_down: Floats = np.maximum.reduce([np.where(one, -np.inf, until) for one, until in answers])
        until_s: Floats = np.where(up, first, last_down)
        return up, until_s
