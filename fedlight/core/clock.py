"""The virtual clock: a queue of jobs ordered by the simulated time at which they are back."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fedlight.core.types import Job, Timing, Update, Work
from fedlight.submodels.coverage import coverage_from_state
from fedlight.submodels.structure import Structure


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

    def state_dict(self) -> dict[str, Any]:
        """Return the time and the jobs in flight as tensors and plain values."""
        return {"now_s": self.now_s, "jobs": [_job_state(job) for job in self.jobs()]}

    def load_state_dict(self, state: Mapping[str, Any], structure: Structure) -> None:
        """Take back what :meth:`state_dict` returned; the index maps refer to ``structure``."""
        self.now_s = state["now_s"]
        self._queue = []
        for saved in state["jobs"]:
            self.push(_job_from_state(saved, structure))


def _job_state(job: Job) -> dict[str, Any]:
    return {
        "client": job.client,
        "round_idx": job.round_idx,
        "ratio": job.ratio,
        "coverage": job.coverage.state_dict(),
        "work": asdict(job.work),
        "timing": asdict(job.timing),
        "dispatched_s": job.dispatched_s,
        "update": None if job.update is None else vars(job.update),
        "share": job.share,
        "level": job.level,
    }


def _job_from_state(state: Mapping[str, Any], structure: Structure) -> Job:
    return Job(
        client=state["client"],
        round_idx=state["round_idx"],
        ratio=state["ratio"],
        coverage=coverage_from_state(structure, state["coverage"]),
        work=Work(**state["work"]),
        timing=Timing(**state["timing"]),
        dispatched_s=state["dispatched_s"],
        update=None if state["update"] is None else Update(**state["update"]),
        share=state["share"],
        level=state["level"],
    )
