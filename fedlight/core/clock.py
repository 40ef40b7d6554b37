"""The virtual clock: a queue of jobs ordered by the simulated time at which the server hears of them."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

from fedlight.core.types import Job, Timing, Update, Work
from fedlight.errors import CheckpointError
from fedlight.submodels.coverage import coverage_from_state
from fedlight.submodels.structure import Structure


class Clock:
    """Discrete-event queue of the jobs in flight.

    An event is a result that is back, or the moment at which a client or its connection is gone. Ties in time are
    broken by the order of dispatch, so the same run gives the same order everywhere. An event costs O(log of the jobs
    in flight), and memory grows with those alone.

    Attributes:
        now_s: simulated seconds since the start of the run.
        next_up_s: from a time to the next at which a client that is down comes up, None if none does; the fleet's, once
            there is one. Ask it only where places are free: it may cost more than an event.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.next_up_s: Callable[[float], float | None] = lambda now_s: None
        self._queue: list[tuple[float, int, Job]] = []
        self._num_pushed = 0
        self._busy: Counter[int] = Counter()
        self._lost: list[Job] = []

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def busy(self) -> Collection[int]:
        """Clients at work."""
        return self._busy.keys()

    @property
    def next_event_s(self) -> float | None:
        """Simulated time of the next return or loss; None: nobody is at work."""
        return self._queue[0][0] if self._queue else None

    @property
    def num_lost(self) -> int:
        """Jobs lost since the last :meth:`take_lost`."""
        return len(self._lost)

    def push(self, job: Job) -> None:
        """Put a job in flight."""
        heapq.heappush(self._queue, (job.event_s, self._num_pushed, job))
        self._num_pushed += 1
        self._busy[job.client] += 1

    def next_return(self, until_s: float = math.inf) -> Job | None:
        """Let time run to the next result that is back, and return that job.

        Jobs that are lost on the way are taken out (:meth:`take_lost`). None if no result is back by ``until_s``, which
        is then the time, or if no job is left, with the time at the last loss.
        """
        while self._queue and self._queue[0][0] <= until_s:
            event_s, _, job = heapq.heappop(self._queue)
            self._free(job)
            self.now_s = max(self.now_s, event_s)
            if job.lost_s is None:
                return job
            self._lost.append(job)
        if self._queue:
            self.now_s = max(self.now_s, until_s)
        return None

    def wait_until(self, time_s: float) -> None:
        """Let time run with nobody at work."""
        self.now_s = max(self.now_s, time_s)

    def cancel(self, cause: str) -> None:
        """Give up all jobs in flight, now: they count as lost by this cause."""
        for job in self.jobs():
            self._lost.append(replace(job, lost_s=self.now_s, cause=cause, update=None))
        self._queue.clear()
        self._busy.clear()

    def take_lost(self) -> list[Job]:
        """Return the jobs lost since the last call, in the order of their loss."""
        lost, self._lost = self._lost, []
        return lost

    def jobs(self) -> list[Job]:
        """Return the jobs in flight, in the order in which the server will hear of them."""
        return [job for _, _, job in sorted(self._queue, key=lambda entry: entry[:2])]

    def state_dict(self) -> dict[str, Any]:
        """Return the time and the jobs in flight as tensors and plain values."""
        return {"now_s": self.now_s, "jobs": [_job_state(job) for job in self.jobs()]}

    def load_state_dict(self, state: Mapping[str, Any], structure: Structure) -> None:
        """Take back what :meth:`state_dict` returned; the index maps refer to ``structure``.

        Raises:
            CheckpointError: the jobs are of a format that this version doesn't read.
        """
        self.now_s = state["now_s"]
        self._queue, self._lost = [], []
        self._busy.clear()
        for saved in state["jobs"]:
            try:
                self.push(_job_from_state(saved, structure))
            except (KeyError, TypeError) as error:
                raise CheckpointError(
                    f"the checkpoint holds jobs in flight in a format of another version of fedlight ({error}); start "
                    "from its weights with model.init_weights"
                ) from error

    def _free(self, job: Job) -> None:
        self._busy[job.client] -= 1
        if not self._busy[job.client]:
            del self._busy[job.client]


def _job_state(job: Job) -> dict[str, Any]:
    return {
        **vars(job),
        "coverage": job.coverage.state_dict(),
        "work": asdict(job.work),
        "timing": asdict(job.timing),
        "update": None if job.update is None else vars(job.update),
    }


def _job_from_state(state: Mapping[str, Any], structure: Structure) -> Job:
    return Job(
        **{
            **state,
            "coverage": coverage_from_state(structure, state["coverage"]),
            "work": Work(**state["work"]),
            "timing": Timing(**state["timing"]),
            "update": None if state["update"] is None else Update(**state["update"]),
        }
    )
