"""A server that sends more clients off than it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

from fedlight.core.clock import Clock
from fedlight.core.schedule import Schedule
from fedlight.core.types import Job
from fedlight.errors import ConfigError
from fedlight.parts.schedule.size import checked_count


@final
class OverSelection(Schedule):
    """Send ⌈factor · K⌉ clients off, go on with the first K results and give the others up.

    Bonawitz et al. 2019 (Towards Federated Learning at Scale, section 2.2); FedScale's and Oort's simulations do the
    same with 1.3 and 1.1. Clients that are slow, or hold much, are heard less often. Those given up count as lost, with
    cause ``late``. No more are sent than the fleet has.

    Args:
        clients_per_round: K.
        factor: >= 1.
    """

    def __init__(self, clients_per_round: int = 10, factor: float = 1.3) -> None:
        if not 1.0 <= factor < math.inf:
            raise ConfigError(f"factor={factor} of OverSelection is below 1: 1.3 sends 13 clients off for 10 results")
        self.clients_per_round = clients_per_round
        self.factor = factor
        self._num_sent = 0

    def check(self, num_clients: int) -> None:
        """Take the size of the fleet; raises ConfigError for a cohort that is empty or larger than the fleet."""
        count = checked_count("clients_per_round", self.clients_per_round, num_clients)
        self._num_sent = min(num_clients, rounded_up(self.factor * count))

    def advance(self, clock: Clock, dispatch: Callable[[int], int]) -> list[Job]:
        """Dispatch more than K, and return the first K that are back (fewer where more are lost)."""
        dispatch(self._num_sent - len(clock))
        finished: list[Job] = []
        while len(finished) < self.clients_per_round and (job := clock.next_return()) is not None:
            finished.append(job)
        clock.cancel("late")
        return finished


def rounded_up(value: float) -> int:
    """Return ⌈value⌉, forgiving the last bits."""
    return math.ceil(round(value, 9))
