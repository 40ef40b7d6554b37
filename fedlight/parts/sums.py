"""Sums over submodels in full shape, the same whatever the number of processes.

Every term is rounded to float32 and added in float64, which has 29 bits more: sums of terms that don't differ by more
than that are exact, so it makes no difference in which order, and in which process, they are added. A run on two
processes is the run on one, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from fedlight.core.types import Job, Reduce, State
from fedlight.submodels.coverage import Coverage

_PIECE = 1 << 17  # entries


@final
class TotalSum:
    """Running sum Σ a m v in full shape and float64.

    Memory is 8 bytes per entry of the tensors that were ever added, whatever the number of updates; nothing is
    allocated before the first :meth:`add`, and the buffers serve again in the next round.
    """

    def __init__(self) -> None:
        self._like: Mapping[str, Tensor] = {}
        self._totals: State = {}
        self._fresh: set[str] = set()

    def begin(self, like: Mapping[str, Tensor]) -> None:
        """Start anew, for tensors of the shapes and devices of ``like``."""
        self._like = like
        self._fresh = set()

    def add(self, coverage: Coverage, values: Mapping[str, Tensor], weight: float) -> None:
        """Add ``weight`` times the values of one submodel."""
        for name, value in values.items():
            if coverage.is_full:
                _add_(self._open(name), value, weight)
            else:
                coverage.scatter_add_(name, self._open(name), value * weight, 1.0)

    def add_full(self, name: str, value: Tensor, weight: float) -> None:
        """Add ``weight`` times one tensor of full shape."""
        _add_(self._open(name), value, weight)

    def finish(self, reduce: Reduce) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, Σ a m v) over all processes; the tensors are reused in the next round, so take a copy.

        Processes may hold different tensors, since one may have had no client at all: they agree on the names first.
        """
        names = sorted(self._like)
        if not names:
            return
        present = torch.tensor([float(name in self._fresh) for name in names], dtype=torch.float64)
        present = present.to(self._like[names[0]].device)
        reduce(present)
        for name, num_holders in zip(names, present.tolist(), strict=True):
            if num_holders > 0:
                total = self._open(name)
                reduce(total)
                yield name, total

    def _open(self, name: str) -> Tensor:
        if name not in self._fresh:
            like = self._like[name]
            self._totals[name] = zeros(self._totals.get(name), like.shape, like.device)
            self._fresh.add(name)
        return self._totals[name]


@final
class CoveredSum:
    """Running sums Σ a m v (:class:`TotalSum`) and Σ a m (full only along pruned dims).

    Clients that cover everything are counted by one number per tensor.
    """

    def __init__(self) -> None:
        self._sum = TotalSum()
        self._like: Mapping[str, Tensor] = {}
        self._layout: Coverage | None = None
        self._counts: State = {}
        self._fresh: set[str] = set()
        self._full: dict[str, float] = {}

    def begin(self, like: Mapping[str, Tensor], jobs: Sequence[Job]) -> None:
        """Start anew, for tensors of the shapes and devices of ``like`` and the round's jobs of all processes."""
        self._sum.begin(like)
        self._like = like
        partial = (job.coverage for job in jobs if not job.coverage.is_full)
        self._layout = next(partial, None)  # None: one number per tensor is all that any process counts
        self._fresh = set()
        self._full = {}

    def add(self, coverage: Coverage, values: Mapping[str, Tensor], weight: float, scale: float = 1.0) -> None:
        """Add ``weight`` times ``scale`` times the values of one submodel, counted by ``weight``."""
        self._sum.add(coverage, values, weight * scale)
        for name in values:
            if coverage.is_full:
                self._full[name] = self._full.get(name, 0.0) + weight
            else:
                coverage.count_add_(name, self._open(name, coverage), weight)

    def finish(self, reduce: Reduce) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield (name, Σ a m v, Σ a m) over all processes; see :meth:`TotalSum.finish`."""
        for name, total in self._sum.finish(reduce):
            if self._layout is None:
                count = torch.zeros((), dtype=torch.float64, device=total.device)
            else:
                count = self._open(name, self._layout)
            count += self._full.get(name, 0.0)
            reduce(count)
            yield name, total, count

    def _open(self, name: str, coverage: Coverage) -> Tensor:
        if name not in self._fresh:
            self._counts[name] = zeros(self._counts.get(name), coverage.count_shape(name), self._like[name].device)
            self._fresh.add(name)
        return self._counts[name]


@final
class RowSum:
    """Running sums Σ a m v (:class:`TotalSum`) and Σ a m where m is 1 on the client's rows of its covered entries.

    For tensors of one row per output of the model, which no submodel drops. Counts are full along dim 0 and along
    pruned dims, also where every client covers everything.
    """

    def __init__(self) -> None:
        self._sum = TotalSum()
        self._like: Mapping[str, Tensor] = {}
        self._layout: Coverage | None = None
        self._counts: State = {}
        self._fresh: set[str] = set()

    def begin(self, like: Mapping[str, Tensor], jobs: Sequence[Job]) -> None:
        """Start anew, for tensors of the shapes and devices of ``like`` and the round's jobs of all processes."""
        self._sum.begin(like)
        self._like = like
        self._layout = jobs[0].coverage if jobs else None
        self._fresh = set()

    def add(
        self, coverage: Coverage, values: Mapping[str, Tensor], weight: float, scale: float, rows: Tensor | None
    ) -> None:
        """Add ``weight`` times ``scale`` times the values in ``rows`` (bool[num_outputs]; None: all of them)."""
        for name, value in values.items():
            held = torch.zeros(coverage.count_shape(name), dtype=torch.float64, device=value.device)
            coverage.count_add_(name, held, weight)
            if rows is not None:
                mask = rows.to(value.device).view(-1, *[1] * (value.ndim - 1))
                held, value = held * mask, value * mask
            self._sum.add(coverage, {name: value}, weight * scale)
            self._open(name, coverage).add_(held)

    def finish(self, reduce: Reduce) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield (name, Σ a m v, Σ a m) over all processes; see :meth:`TotalSum.finish`."""
        for name, total in self._sum.finish(reduce):
            if self._layout is not None:  # without a job there is no total either
                count = self._open(name, self._layout)
                reduce(count)
                yield name, total, count

    def _open(self, name: str, coverage: Coverage) -> Tensor:
        if name not in self._fresh:
            like = self._like[name]
            shape = (len(like), *coverage.count_shape(name)[1:])
            self._counts[name] = zeros(self._counts.get(name), shape, like.device)
            self._fresh.add(name)
        return self._counts[name]


def _add_(total: Tensor, value: Tensor, weight: float) -> None:
    """Add in place, float32 to float64: by pieces that stay in the cache that takes half the time."""
    into, rows = total.view(-1), value.detach().reshape(-1)
    for start in range(0, len(rows), _PIECE):
        into[start : start + _PIECE].add_((rows[start : start + _PIECE] * weight).to(total.dtype))


def in_float32(value: float) -> float:
    """Return the nearest float32: numbers to be summed in float64 in any order."""
    return float(torch.tensor(value, dtype=torch.float32))


def norm(values: Mapping[str, Tensor]) -> float:
    """Return the L2 norm over all tensors together."""
    return math.sqrt(sum(float(torch.linalg.vector_norm(value, dtype=torch.float64)) ** 2 for value in values.values()))


def zeros(old: Tensor | None, shape: Sequence[int], device: torch.device) -> Tensor:
    """Return float64 zeros, in the memory of ``old`` if it fits."""
    if old is not None and tuple(old.shape) == tuple(shape) and old.device == device:
        return old.zero_()
    return torch.zeros(tuple(shape), dtype=torch.float64, device=device)
