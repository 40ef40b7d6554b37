"""The processes that share a cohort: who trains which job, and how their sums come together."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fedlight.core.types import Job

Value = TypeVar("Value")


class Processes:
    """One process, or the ranks of Lightning's process group.

    Every process takes the same decisions from the same seeds; only the training of clients is shared out.
    """

    @property
    def rank(self) -> int:
        """This process, from 0."""
        return dist.get_rank() if self._connected() else 0

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return dist.get_world_size() if self._connected() else 1

    def share(self, jobs: Sequence[Job]) -> list[Job]:
        """Return this process's jobs, in the order given.

        Balanced by predicted cost (MACs x examples): the next largest job goes to the least loaded process (longest
        processing time first, at most 4/3 of the best possible makespan; Graham 1969). Jobs whose update is already
        known cost nothing, and jobs of one client stay together: the second needs what the first left in its memory.
        """
        if self.world_size == 1:
            return list(jobs)
        costs = [0.0 if job.update is not None else job.work.macs for job in jobs]
        loads = [(0.0, rank) for rank in range(self.world_size)]
        mine = set()
        ranks: dict[int, int] = {}
        for number in sorted(range(len(jobs)), key=lambda n: (-costs[n], n)):
            client = jobs[number].client
            if client not in ranks:
                load, rank = heapq.heappop(loads)
                heapq.heappush(loads, (load + costs[number], rank))
                ranks[client] = rank
            if ranks[client] == self.rank:
                mine.add(number)
        return [job for number, job in enumerate(jobs) if number in mine]

    def reduce(self, tensor: Tensor) -> None:
        """Sum ``tensor`` in place over the processes."""
        if self.world_size > 1:
            dist.all_reduce(tensor)

    def gather(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Return the union of every process's ``values``; keys don't overlap."""
        if self.world_size == 1:
            return values
        gathered: list[dict[Any, Any]] = [{} for _ in range(self.world_size)]
        dist.all_gather_object(gathered, values)
        return {key: value for part in gathered for key, value in part.items()}

    def from_first(self, value: Value) -> Value:
        """Return what the first process has, on every process: plain values, for which all must ask.

        What each process works out for itself on its own accelerator may differ in the last bits, and from those on in
        everything.
        """
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def tensors_from_first(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the first process's tensors on every process; all must ask, for the same names and shapes."""
        if self.world_size == 1:
            return dict(state)
        copies = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
        for name in sorted(copies):
            dist.broadcast(copies[name], src=0)
        return copies

    @staticmethod
    def _connected() -> bool:
        return dist.is_available() and dist.is_initialized()
