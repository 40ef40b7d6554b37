"""The virtual clock: a queue of jobs ordered by the simulated time at which they are back."""

from __future__ import annotations

import heapq

from fedlight.core.types import Job


class Clock:
    """Discrete-event queue of the jobs in flight.

    Ties in time are broken by the order of dispatch, so the same run gives the same order everywhere.

    Attributes:
        now_s: simulated seconds since the start of the run.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._queue: list[tuple[float, int, Job]] = []
        self._num_pushed = 0

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, job: Job) -> None:
        """Put a job in flight."""
        heapq.heappush(self._queue, (job.finish_s, self._num_pushed, job))
        self._num_pushed += 1

    def pop(self) -> Job:
        """Let time run to the next return and return that job; raises IndexError when none is in flight."""
        finish_s, _, job = heapq.heappop(self._queue)
        self.now_s = max(self.now_s, finish_s)
        return job

    def jobs(self) -> list[Job]:
        """Return the jobs in flight, in the order in which they will be back."""
        return [job for _, _, job in sorted(self._queue, key=lambda entry: entry[:2])]
