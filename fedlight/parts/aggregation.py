"""How updates merge: sums over the entries that each update covers, in one full-shape accumulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.submodels.coverage import Coverage


@final
class CoveredSum:
    """Running sums Σ a m v (full shape) and Σ a m (full only along pruned dims), in float64.

    Memory is 8 bytes per entry of the tensors that were ever added, whatever the number of updates; nothing is
    allocated before the first :meth:`add`, and the buffers serve again in the next round. In float64 the order of
    clients and processes changes the sums by about 1e-16 of their size.
    """

    def __init__(self) -> None:
        self._like: Mapping[str, Tensor] = {}
        self._layout: Coverage | None = None
        self._totals: State = {}
        self._counts: State = {}
        self._fresh: set[str] = set()

    def begin(self, like: Mapping[str, Tensor], jobs: Sequence[Job]) -> None:
        """Start anew, for tensors of the shapes and devices of ``like`` and the round's jobs of all processes."""
        self._like = like
        self._layout = jobs[0].coverage if jobs else None
        self._fresh = set()

    def add(self, coverage: Coverage, values: Mapping[str, Tensor], weight: float) -> None:
        """Add ``weight`` times the values of one submodel."""
        for name, value in values.items():
            if name not in self._fresh:
                self._open(name, coverage)
            coverage.scatter_add_(name, self._totals[name], value, weight)
            coverage.count_add_(name, self._counts[name], weight)

    def finish(self, reduce: Reduce) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield (name, Σ a m v, Σ a m) over all processes; the tensors are reused later, so take a copy.

        Processes may hold different tensors, since one may have had no client at all: they agree on the names first.
        """
        if self._layout is None:
            return
        names = sorted(self._like)
        present = torch.tensor([float(name in self._fresh) for name in names], dtype=torch.float64)
        present = present.to(self._like[names[0]].device)
        reduce(present)
        for name, num_holders in zip(names, present.tolist(), strict=True):
            if num_holders == 0:
                continue
            if name not in self._fresh:
                self._open(name, self._layout)
            reduce(self._totals[name])
            reduce(self._counts[name])
            yield name, self._totals[name], self._counts[name]

    def _open(self, name: str, coverage: Coverage) -> None:
        like = self._like[name]
        self._totals[name] = _zeros(self._totals.get(name), like.shape, like.device)
        self._counts[name] = _zeros(self._counts.get(name), coverage.count_shape(name), like.device)
        self._fresh.add(name)


def _zeros(old: Tensor | None, shape: Sequence[int], device: torch.device) -> Tensor:
    if old is not None and tuple(old.shape) == tuple(shape) and old.device == device:
        return old.zero_()
    return torch.zeros(tuple(shape), dtype=torch.float64, device=device)


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """Divide where something was counted; the total is 0 everywhere else."""
    return total.div_(torch.where(count > 0, count, 1.0))


@final
class CoverageMean(Aggregation):
    """Mean over the clients that cover an entry: U = Σ a m Δ / Σ a m where Σ a m > 0, and 0 elsewhere.

    m is 1 on the entries that a client's submodel holds, a its weight (Diao et al. 2021, HeteroFL, §3). Float
    buffers that travel (running statistics of normalisation layers) are merged in the same way. At ratio 0
    everywhere this is FedAvg's mean.
    """

    def __init__(self) -> None:
        self._sum = CoveredSum()
        self._like: Mapping[str, Tensor] = {}

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._like = state.weights
        self._sum.begin(state.weights, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        self._sum.add(coverage, update.delta, weight)
        self._sum.add(coverage, update.buffers, weight)

    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights; empty if no process had an update."""
        return {name: _mean(total, count).to(self._like[name].dtype) for name, total, count in self._sum.finish(reduce)}


@final
class ResidualRecovery(Aggregation):
    """Mean over all clients, an uncovered entry counting as unchanged: U = Σ a m Δ / Σ a.

    This is FedMP's R2SP (Jiang et al. 2022) in the form of updates: an entry that c of N equal clients trained moves
    by c/N of their mean update. Float buffers that travel are merged by their coverage mean, since a running
    statistic that nobody saw has no residual to recover. At ratio 0 everywhere this is FedAvg's mean.
    """

    def __init__(self) -> None:
        self._parameters = CoveredSum()
        self._buffers = CoveredSum()
        self._like: Mapping[str, Tensor] = {}
        self._weight = 0.0

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._like = state.weights
        self._weight = 0.0
        self._parameters.begin(state.weights, jobs)
        self._buffers.begin(state.weights, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        self._weight += weight
        self._parameters.add(coverage, update.delta, weight)
        self._buffers.add(coverage, update.buffers, weight)

    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights; empty if no process had an update."""
        device = next((value.device for value in self._like.values()), None)
        weight = torch.tensor(self._weight, dtype=torch.float64, device=device)
        reduce(weight)
        merged = {
            name: total.div_(weight).to(self._like[name].dtype) for name, total, _ in self._parameters.finish(reduce)
        }
        for name, total, count in self._buffers.finish(reduce):
            merged[name] = _mean(total, count).to(self._like[name].dtype)
        return merged
