"""Merging the float buffers of a round: running statistics come from some of its updates only."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, Reduce, RoundState, State, Update


class BufferSum:
    """Merges the buffers of the accepted updates of the lowest rank, while they stream past.

    Who is of the lowest rank is known only at the end, since an update may be refused: whenever one of a lower rank
    comes than all before, the sum starts anew. Holds one accumulator of the buffers, whatever the size of the cohort.

    Args:
        aggregation: the algorithm's, before its first round; a copy of it merges the buffers.
        parameters: names of what isn't a buffer.
    """

    def __init__(self, aggregation: Aggregation, parameters: Collection[str]) -> None:
        self._aggregation = copy.deepcopy(aggregation)
        self._parameters = parameters
        self._lowest = math.inf

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are all that all processes will add."""
        self._state, self._jobs = state, jobs
        self._start(math.inf)

    def add(self, job: Job, update: Update, weight: float, rank: float) -> None:
        """Take in one accepted update with its weight (> 0, not normalised)."""
        if not update.buffers:
            return
        if rank < self._lowest:
            self._start(rank)
        if rank == self._lowest:
            self._aggregation.add(job.coverage, replace(update, delta={}, statistics={}), weight)

    def finish(self, reduce: Reduce, lowest: float) -> State:
        """Return the aggregate of the buffers of rank ``lowest``, the least that any process has added."""
        if self._lowest != lowest:
            self._start(lowest)
        merged = self._aggregation.finish(reduce)
        return {name: value for name, value in merged.items() if name not in self._parameters}

    def _start(self, rank: float) -> None:
        self._lowest = rank
        self._aggregation.begin(self._state, self._jobs)
