"""A server that waits for everyone."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from fedlight.core.clock import Clock
from fedlight.core.schedule import Schedule
from fedlight.core.types import Job
from fedlight.errors import ConfigError
from fedlight.parts.schedule.size import checked_count


@final
class Synchronous(Schedule):
    """Send a cohort off and wait for all of it: a round lasts as long as its slowest client.

    Args:
        clients_per_round: size of the cohort; None: every client of the fleet.
    """

    def __init__(self, clients_per_round: int | None = None) -> None:
        self.clients_per_round = clients_per_round
        self._count = clients_per_round or 0

    def check(self, num_clients: int) -> None:
        """Take the size of the fleet; raises ConfigError for a cohort that is empty or larger than the fleet."""
        self._count = checked_count("clients_per_round", self.clients_per_round, num_clients)

    def advance(self, clock: Clock, dispatch: Callable[[int], int]) -> list[Job]:
        """Dispatch one cohort, run until nobody is at work, and return what is back in order of return."""
        dispatch(self._count - len(clock))
        return list(iter(clock.next_return, None))


def synchronous_or(schedule: Schedule | None, clients_per_round: int | None) -> Schedule:
    """Return the schedule, or where there is none a synchronous one with so many clients.

    Raises:
        ConfigError: both are given.
    """
    if schedule is None:
        return Synchronous(clients_per_round)
    if clients_per_round is not None:
        raise ConfigError("clients_per_round and schedule both say when the server moves: give one of them")
    return schedule
