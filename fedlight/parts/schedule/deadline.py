"""A server that waits until a given time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

from fedlight.core.clock import Clock
from fedlight.core.schedule import Schedule
from fedlight.core.types import Job
from fedlight.errors import ConfigError
from fedlight.parts.schedule.late import Late, LateResults
from fedlight.parts.schedule.over_selection import rounded_up
from fedlight.parts.schedule.size import checked_count
from fedlight.parts.schedule.staleness import Staleness

_KEY = "model.algorithm.schedule"
"""Where a config gives it: no algorithm brings one of its own."""


@final
class Deadline(Schedule):
    """Send a cohort off and go on after T seconds with what is back, or earlier if all are.

    A round in which fewer than ``min_count`` are back is extended to 2 T, 4 T, ..., up to 2^``max_doublings`` T; then
    it ends with what there is. With nothing at all the model stays as it is (``train/empty_round``). T = ∞ is
    :class:`~fedlight.parts.Synchronous`.

    With a ``percentile`` p, T becomes before every round the shortest time in which a share p of the last ``window``
    jobs was back, and doubles where a smaller share was; ``deadline_s`` is then the first one. A deadline that only
    moved with those that met it would shrink for ever: late jobs count as longer than any.

    Args:
        deadline_s: T in simulated seconds, > 0; None: infinite.
        clients_per_round: clients at work in a round; None: every client of the fleet.
        percentile: p in (0, 1], where T adapts; None: T stays.
        min_count: results that a round waits for beyond T, >= 1.
        max_doublings: how often T is doubled at most for that, >= 0.
        late: what becomes of the others, see :class:`~fedlight.parts.FixedFraction`.
        staleness: weight of kept results by the versions that they are old; None: 1/√(1 + τ).
        window: jobs that an adapting T looks back on, >= 1.
    """

    def __init__(
        self,
        deadline_s: float | None = None,
        clients_per_round: int | None = None,
        percentile: float | None = None,
        min_count: int = 1,
        max_doublings: int = 10,
        late: Late = "drop",
        staleness: Staleness | None = None,
        window: int = 100,
    ) -> None:
        self.deadline_s = math.inf if deadline_s is None else float(deadline_s)
        if not self.deadline_s > 0.0:
            raise ConfigError(f"deadline_s={deadline_s} leaves no time: use simulated seconds above 0")
        if percentile is not None and not 0.0 < percentile <= 1.0:
            raise ConfigError(f"percentile={percentile} is outside (0, 1]: 0.8 gives four of five clients the time")
        for key, value, least in (
            ("min_count", min_count, 1),
            ("max_doublings", max_doublings, 0),
            ("window", window, 1),
        ):
            if value < least:
                raise ConfigError(f"{key}={value} of Deadline is below {least}: use {least} or more")
        self.clients_per_round = clients_per_round
        self.percentile = percentile
        self.min_count = min_count
        self.max_doublings = max_doublings
        self._late = LateResults(late, staleness)
        self.sends_cohorts = late != "keep"
        self._count = clients_per_round or 0
        self._now_s = self.deadline_s  # T, where it adapts
        self._took_s: deque[float] = deque(maxlen=window)  # ∞: longer than its round
        self._num_extended = 0

    def check(self, num_clients: int) -> None:
        """Take the size of the fleet; raises ConfigError for a cohort or a min_count larger than there are clients."""
        self._count = checked_count("clients_per_round", self.clients_per_round, num_clients)
        if self.min_count > self._count:
            raise ConfigError(
                f"{_KEY}.min_count: {self.min_count} is larger than the cohort of {self._count}, so no round could "
                f"reach it: lower it to {self._count} or less, or raise clients_per_round"
            )

    def check_times(self, quickest_s: Iterable[float]) -> None:
        """Raise ConfigError if T, however often doubled, is over before any client is expected back."""
        longest_s, least_s = self.deadline_s * 2.0 ** min(self.max_doublings, 1000), math.inf
        if self.percentile is not None or math.isinf(longest_s):
            return
        for seconds in quickest_s:
            if seconds <= longest_s:
                return
            least_s = min(least_s, seconds)
        if math.isfinite(least_s):
            doubled = f" (with max_doublings={self.max_doublings}: {longest_s:.3g} s)" if self.max_doublings else ""
            way_out = "" if self.max_doublings else ", or let max_doublings extend the round"
            raise ConfigError(
                f"{_KEY}.deadline_s: nobody can meet {self.deadline_s:g} s{doubled}: the quickest client is expected "
                f"to need {least_s:.3g} s for the least that an algorithm could send, and longer for a full model; "
                f"raise deadline_s{way_out}"
            )

    def advance(self, clock: Clock, dispatch: Callable[[int], int]) -> list[Job]:
        """Dispatch a cohort, and return what is back at the deadline."""
        beside = self._late.dispatch(clock, dispatch, self._count)
        start_s, missing = clock.now_s, self.min_count
        finished: list[Job] = []
        for doublings in range(self.max_doublings + 1):
            until_s = start_s + self._now_s * 2.0**doublings
            while (job := clock.next_return(until_s)) is not None:
                finished.append(job)
                missing -= job not in beside
            if missing <= 0 or not len(clock):
                break
        self._num_extended += doublings > 0
        self._adapt(start_s, finished, clock.jobs())
        self._late.end(clock)
        return finished

    def discount(self, staleness: int) -> float:
        """Return the weight that a result keeps, τ versions old."""
        return self._late.discount(staleness)

    def metrics(self) -> dict[str, float]:
        """Return the next round's T, and how many rounds were extended."""
        extended = {"schedule/extended_rounds": float(self._num_extended)}
        return extended if math.isinf(self._now_s) else {**extended, "schedule/deadline_s": self._now_s}

    def state_dict(self) -> dict[str, Any]:
        """Return T, what it adapts to, and how many rounds were extended."""
        return {"now_s": self._now_s, "took_s": list(self._took_s), "num_extended": self._num_extended}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._now_s = state["now_s"]
        self._took_s = deque(state["took_s"], maxlen=self._took_s.maxlen)
        self._num_extended = state["num_extended"]

    def _adapt(self, start_s: float, finished: Sequence[Job], late: Sequence[Job]) -> None:
        if self.percentile is None:
            return
        self._took_s.extend(job.timing.total_s for job in finished if job.dispatched_s >= start_s)
        self._took_s.extend(math.inf for job in late if job.dispatched_s >= start_s)
        if self._took_s:
            in_time_s = sorted(self._took_s)[max(1, rounded_up(self.percentile * len(self._took_s))) - 1]
            self._now_s = in_time_s if math.isfinite(in_time_s) else 2.0 * self._now_s
