"""A server that waits for a part of its cohort."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from fedlight.core.clock import Clock
from fedlight.core.schedule import Schedule
from fedlight.core.types import Job
from fedlight.errors import ConfigError
from fedlight.parts.schedule.late import Late, LateResults
from fedlight.parts.schedule.over_selection import rounded_up
from fedlight.parts.schedule.size import checked_count
from fedlight.parts.schedule.staleness import Staleness


@final
class FixedFraction(Schedule):
    """Send a cohort off and go on when ⌈q · |S|⌉ of those at work are back; q = 1 is :class:`Synchronous`.

    Args:
        clients_per_round: clients at work in a round; None: every client of the fleet.
        fraction: q in (0, 1].
        late: what becomes of the others: ``drop`` gives them up, ``keep`` lets them join a later round at the weight
            that ``staleness`` leaves and hold a place in its cohort until then, ``cache`` at full weight beside it.
        staleness: weight of kept results by the versions that they are old; None: 1/√(1 + τ).
    """

    def __init__(
        self,
        clients_per_round: int | None = None,
        fraction: float = 0.8,
        late: Late = "drop",
        staleness: Staleness | None = None,
    ) -> None:
        if not 0.0 < fraction <= 1.0:
            raise ConfigError(f"fraction={fraction} of FixedFraction is outside (0, 1]: it is what a round waits for")
        self.clients_per_round = clients_per_round
        self.fraction = fraction
        self._late = LateResults(late, staleness)
        self.sends_cohorts = late != "keep"
        self._count = clients_per_round or 0

    def check(self, num_clients: int) -> None:
        """Take the size of the fleet; raises ConfigError for a cohort that is empty or larger than the fleet."""
        self._count = checked_count("clients_per_round", self.clients_per_round, num_clients)

    def advance(self, clock: Clock, dispatch: Callable[[int], int]) -> list[Job]:
        """Dispatch a cohort, and return what is back when enough of it is."""
        beside = self._late.dispatch(clock, dispatch, self._count)
        missing = rounded_up(self.fraction * (len(clock) - len(beside)))
        finished: list[Job] = []
        while missing > 0 and (job := clock.next_return()) is not None:
            finished.append(job)
            missing -= job not in beside
        self._late.end(clock)
        return finished

    def discount(self, staleness: int) -> float:
        """Return the weight that a result keeps, τ versions old."""
        return self._late.discount(staleness)
