"""The mean by the number of updates: old ones count less, and nobody counts more for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.errors import ConfigError
from fedlight.parts.aggregation.scaling import mean_, summed
from fedlight.parts.sums import CoveredSum, in_float32
from fedlight.submodels.coverage import Coverage


@final
class CountMean(Aggregation):
    """FedBuff's sum: U = Σ c s m Δ / Σ c, with s the schedule's discount and c the weight without it.

    With equal weights c the divisor is the number of updates K (Nguyen et al. 2022, FedBuff, algorithm 1), so a round
    of old updates moves the model less; :class:`~fedlight.parts.CoverageMean` divides by Σ c s m. Under submodels
    an entry that few clients hold moves less than the others, which bends the direction: ``max_gain`` g makes up for
    that, up to a limit, by the factor min(g, Σ c s / Σ c s m) on every entry. 1 is the plain sum. Float buffers that
    travel are merged by their coverage mean. At ratio 0 everywhere, with nobody late, this is FedAvg's mean.

    Args:
        max_gain: g >= 1; ``inf`` for no limit.
    """

    def __init__(self, max_gain: float = 1.0) -> None:
        if not max_gain >= 1.0:
            raise ConfigError(f"max_gain={max_gain} of CountMean is below 1: 1 is the plain sum, 2 at most doubles")
        self.max_gain = float(max_gain)
        self._sum = CoveredSum()
        self._buffers = CoveredSum()
        self._like: Mapping[str, Tensor] = {}
        self._weights = [0.0, 0.0]  # Σ c, Σ c s

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._like = state.weights
        self._weights = [0.0, 0.0]
        self._sum.begin(state.weights, jobs)
        self._buffers.begin(state.weights, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        self._weights = [self._weights[0] + in_float32(weight / update.discount), self._weights[1] + weight]
        self._sum.add(coverage, update.delta, weight)
        self._buffers.add(coverage, update.buffers, weight)

    @torch.no_grad()
    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights; empty if no process had an update."""
        plain, discounted = summed(self._weights, self._like, reduce)
        merged: State = {}
        for name, total, count in self._sum.finish(reduce):
            # Where nobody covers an entry the gain is without bound, and the total 0.
            gain = mean_(torch.full_like(count, discounted), count).clamp_(max=min(self.max_gain, 1e12))
            merged[name] = total.mul_(gain).div_(plain).to(self._like[name].dtype)
        for name, total, count in self._buffers.finish(reduce):
            merged[name] = mean_(total, count).to(self._like[name].dtype)
        return merged
