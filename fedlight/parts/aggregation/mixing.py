"""The server's weights mixed with a client's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.errors import ConfigError
from fedlight.parts.aggregation.scaling import mean_
from fedlight.parts.sums import CoveredSum
from fedlight.submodels.coverage import Coverage


@final
class Mixing(Aggregation):
    """FedAsync's step W ← (1 - α_t) W + α_t w_n on the entries that a client holds, with α_t = α s(τ).

    As an update: U = α_t (w_n - W), w_n being the client's weights and W the server's *present* ones, from which it
    need not have started; s is the schedule's discount (Xie et al. 2019, FedAsync, algorithm 1). Where several updates
    come in one round it is their mean by coverage, U = Σ c m α_t (w_n - W) / Σ c m, c being weights without discount.
    Float buffers that travel are mixed in the same way. With α = 1 and nobody late this is CoverageMean.

    Args:
        alpha: α in (0, 1].
    """

    needs_start = True

    def __init__(self, alpha: float = 0.6) -> None:
        if not 0.0 < alpha <= 1.0:
            raise ConfigError(f"alpha={alpha} is outside (0, 1]: it is a client's share in the mix, 0.6 in FedAsync")
        self.alpha = float(alpha)
        self._sum = CoveredSum()
        self._like: Mapping[str, Tensor] = {}

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._like = state.weights
        self._sum.begin(state.weights, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        start = update.start or {}
        away = {
            name: value
            + (start[name] - (self._like[name] if coverage.is_full else coverage.gather(name, self._like[name])))
            for name, value in (*update.delta.items(), *update.buffers.items())
        }
        self._sum.add(coverage, away, weight / update.discount, self.alpha * update.discount)

    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights; empty if no process had an update."""
        return {name: mean_(total, count).to(self._like[name].dtype) for name, total, count in self._sum.finish(reduce)}
