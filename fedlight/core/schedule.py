"""When the server moves: the slot."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable

from fedlight.core.clock import Clock
from fedlight.core.slots import Part
from fedlight.core.types import Job


class Schedule(Part):
    """When does the server move?"""

    sends_cohorts: bool = True
    """Whether clients are sent off together and train side by side. Where they aren't, parts that compare a client with
    its cohort compare it with all that have been seen."""

    @abstractmethod
    def check(self, num_clients: int) -> None:
        """Raise :class:`~fedlight.errors.ConfigError` if it can't run with so many clients."""

    def check_times(self, quickest_s: Iterable[float]) -> None:
        """Raise ConfigError if nobody can be back in time.

        ``quickest_s``: seconds that every client is expected to need for the least that it may be sent; empty where the
        fleet doesn't tell.
        """

    def at_work(self, num_clients: int) -> int | None:
        """Return how many clients are always at work where the server doesn't wait for them; None where it does."""
        return None

    @abstractmethod
    def advance(self, clock: Clock, dispatch: Callable[[int], int]) -> list[Job]:
        """Let simulated time run until the server should aggregate; return the finished jobs in order of return.

        ``dispatch(n)`` selects n clients that are up and not at work, sends them off at ``clock.now_s`` and returns how
        many it has sent. Where nobody is at work and nobody is up it first lets time run until somebody comes; if
        nobody ever does, it sends nobody, and the run ends after this round. A round may end with no job at all: then
        the global model stays as it is.
        """

    def discount(self, staleness: int) -> float:
        """Return the factor in (0, 1] on the weight of an update that is so many versions of the model old."""
        return 1.0
