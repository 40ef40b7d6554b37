"""The strawman: what a client doesn't hold counts as 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.parts.aggregation.scaling import mean_, summed
from fedlight.parts.sums import CoveredSum
from fedlight.submodels.coverage import Coverage


@final
class ZeroFill(Aggregation):
    """Mean of the clients' weights with zeros where a client holds nothing: x' = Σ a m (x + Δ) / Σ a.

    As an update: U = Σ a m Δ / Σ a - x (1 - Σ a m / Σ a), so an entry that c of N equal clients hold shrinks to c/N of
    itself in every round, and to 0 at once if nobody holds it. This is what FedMP calls BSP and shows to fail (Jiang
    et al. 2022); it is here to be compared with. Float buffers that travel are merged by their coverage mean. At ratio
    0 everywhere this is FedAvg's mean.
    """

    def __init__(self) -> None:
        self._sum = CoveredSum()
        self._buffers = CoveredSum()
        self._like: Mapping[str, Tensor] = {}
        self._weight = 0.0

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._like = state.weights
        self._weight = 0.0
        self._sum.begin(state.weights, jobs)
        self._buffers.begin(state.weights, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        self._weight += weight
        self._sum.add(coverage, update.delta, weight)
        self._buffers.add(coverage, update.buffers, weight)

    @torch.no_grad()
    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights; empty if no process had an update."""
        (weight,) = summed([self._weight], self._like, reduce)
        merged: State = {}
        for name, total, count in self._sum.finish(reduce):
            like = self._like[name]
            # Exactly 0 where all clients count: Σ a m and Σ a are sums of the same numbers.
            absent = (weight - count).div_(weight)
            merged[name] = total.div_(weight).sub_(like * absent).to(like.dtype)
        for name, total, count in self._buffers.finish(reduce):
            merged[name] = mean_(total, count).to(self._like[name].dtype)
        return merged
