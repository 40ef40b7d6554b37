"""A server that doesn't wait: it moves whenever so many results are in."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from fedlight.core.clock import Clock
from fedlight.core.schedule import Schedule
from fedlight.core.types import Job
from fedlight.errors import ConfigError
from fedlight.parts.schedule.size import checked_count
from fedlight.parts.schedule.staleness import Polynomial, Staleness

_LOSSES = 10  # per client at work


@final
class Buffered(Schedule):
    """Keep ``concurrency`` clients at work, and move on every ``buffer`` results (Nguyen et al. 2022, FedBuff).

    Whoever is back, or lost, is replaced at once by a client that starts from the newest model. Where fewer are up than
    there are places, the next to come up is sent off as it comes. What is back at one moment is taken in before anybody
    is sent off, so where all take equally long and the buffer is as large as the concurrency, this is
    :class:`~fedlight.parts.Synchronous`. With a buffer of 1 it is FedAsync's server (Xie et al. 2019). A round is one
    move of the server.

    Where jobs get lost one after another, ten times as many as clients are at work without a single result, the round
    ends with what is in.

    Args:
        buffer: K, results per move of the server, >= 1.
        concurrency: M, clients at work at any time; None: every client of the fleet.
        staleness: weight of an update by the versions that it is old; None: 1/√(1 + τ).
    """

    sends_cohorts = False

    def __init__(self, buffer: int = 10, concurrency: int | None = None, staleness: Staleness | None = None) -> None:
        if buffer < 1:
            raise ConfigError(f"buffer={buffer} never moves the server: use 1 or more")
        if concurrency is not None:
            checked_count("concurrency", concurrency, concurrency)
        self.buffer = buffer
        self.concurrency = concurrency
        self.staleness = staleness or Polynomial(0.5)
        self._concurrency = concurrency or 0

    def check(self, num_clients: int) -> None:
        """Take the size of the fleet; raises ConfigError for a concurrency that is 0 or larger than the fleet."""
        self._concurrency = checked_count("concurrency", self.concurrency, num_clients)

    def at_work(self, num_clients: int) -> int:
        """Return the concurrency."""
        return self.concurrency or num_clients

    def advance(self, clock: Clock, dispatch: Callable[[int], int]) -> list[Job]:
        """Keep everyone at work until the buffer is full; return what is in it in order of return."""
        finished: list[Job] = []
        lost_before = clock.num_lost
        while len(finished) < self.buffer and clock.num_lost - lost_before < _LOSSES * self._concurrency:
            job = clock.next_return(clock.now_s)
            if job is None:
                dispatch(self._concurrency - len(clock))
                next_s = clock.next_event_s
                if next_s is None:  # nobody is at work, and nobody went
                    break
                job = clock.next_return(self._next_s(clock, next_s))
            if job is not None:
                finished.append(job)
                lost_before = clock.num_lost
        return finished

    def _next_s(self, clock: Clock, event_s: float) -> float:
        """Return the time of the next event or, where places are free, of the next client's coming up before it."""
        if len(clock) >= self._concurrency:
            return event_s
        up_s = clock.next_up_s(clock.now_s)
        return event_s if up_s is None or up_s <= clock.now_s else min(event_s, up_s)

    def discount(self, staleness: int) -> float:
        """Return s(τ) of an update that is τ versions old."""
        return self.staleness.discount(staleness)
