"""What clients keep from round to round: in reality on the client, here in one place for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from fedlight.core.processes import Processes
from fedlight.core.types import Job, State, Update
from fedlight.submodels.coverage import Coverage


class ClientMemory:
    """One full-shape memory per client that has any, read and written through the coverage of its submodel.

    Entries that a submodel doesn't hold wait untouched for one that does, so a client's memory keeps its meaning
    whatever it is given next. Memories lie on the CPU: 4 bytes per entry of the model and client.
    """

    def __init__(self) -> None:
        self._of: dict[int, State] = {}
        self._written: dict[int, State] = {}

    def __len__(self) -> int:
        """Number of clients that have a memory."""
        return len(self._of)

    def get(self, client: int, coverage: Coverage) -> State:
        """Return a client's memory in the shape of its submodel; empty while it has none."""
        return {name: coverage.gather(name, value) for name, value in self._of.get(client, {}).items()}

    def put(self, job: Job, update: Update) -> None:
        """Store what a client keeps: ``update.memory`` where its submodel covers, what was there elsewhere."""
        if not update.memory:
            return
        before = self._of.get(job.client, {})
        self._of[job.client] = {
            name: _written(job.coverage, name, value.detach().cpu(), before.get(name))
            for name, value in update.memory.items()
        }
        self._written[job.client] = self._of[job.client]

    def forget(self, clients: Iterable[int]) -> None:
        """Drop what these clients kept."""
        for client in clients:
            self._of.pop(client, None)

    def share(self, processes: Processes) -> None:
        """Tell all processes what each has stored since the last time."""
        self._of.update(processes.gather(self._written))
        self._written = {}

    def state_dict(self) -> dict[str, Any]:
        """Return every client's memory."""
        return {"clients": {client: dict(memory) for client, memory in self._of.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._of = {client: dict(memory) for client, memory in state["clients"].items()}


def _written(coverage: Coverage, name: str, value: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
    if coverage.is_full:
        return value.clone()
    counts = torch.zeros(coverage.count_shape(name))
    coverage.count_add_(name, counts, 1.0)
    # Counts have size 1 along dims that nothing prunes: there the client's size is the full one.
    shape = tuple(max(sizes) for sizes in zip(counts.shape, value.shape, strict=True))
    written = torch.zeros(shape, dtype=value.dtype) if before is None else before.masked_fill(counts > 0, 0)
    coverage.scatter_add_(name, written, value, 1.0)
    return written
