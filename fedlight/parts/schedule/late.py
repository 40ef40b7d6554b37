"""What becomes of results that are back after the round has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

from fedlight.core.clock import Clock
from fedlight.core.types import Job
from fedlight.errors import ConfigError
from fedlight.parts.schedule.staleness import Polynomial, Staleness

Late = Literal["drop", "keep", "cache"]


@final
class LateResults:
    """The rule for late results.

    ``drop``: their jobs are given up when the round ends. ``keep``: clients stay at work, hold their places in the next
    cohort, and what they bring joins the round it falls in, at the weight that ``staleness`` leaves. ``cache``: clients
    stay at work beside the next cohort, which is sent in full; what they bring joins the round it falls in at full
    weight, without being waited for or counted (as SAFA's cache does, Wu et al. 2021).

    Args:
        late: the rule.
        staleness: weight of kept results by the versions that they are old; None: 1/√(1 + τ).
    """

    def __init__(self, late: Late, staleness: Staleness | None) -> None:
        if late not in ("drop", "keep", "cache"):
            raise ConfigError(f"late={late!r} is unknown: use 'drop', 'keep' or 'cache'")
        if staleness is not None and late != "keep":
            raise ConfigError(f"staleness weighs late results that are kept, and late={late!r}: leave one of them out")
        self.late = late
        self._staleness = staleness or Polynomial(0.5)

    def dispatch(self, clock: Clock, dispatch: Callable[[int], int], count: int) -> LateJobs:
        """Send the round's cohort off; return the jobs that aren't of it."""
        if self.late == "cache":
            beside = LateJobs(clock.jobs())
            dispatch(count)
            return beside
        dispatch(count - len(clock))
        return LateJobs([])

    def end(self, clock: Clock) -> None:
        """End the round."""
        if self.late == "drop":
            clock.cancel("late")

    def discount(self, staleness: int) -> float:
        """Return the weight that a result keeps, τ versions old."""
        return self._staleness.discount(staleness) if self.late == "keep" else 1.0


@final
class LateJobs:
    """Jobs of earlier rounds that run beside this round's cohort."""

    def __init__(self, jobs: list[Job]) -> None:
        self._keys = {job.key for job in jobs}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, job: Job) -> bool:
        return job.key in self._keys
