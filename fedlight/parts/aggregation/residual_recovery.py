"""The mean over all clients, what a client doesn't hold counting as unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.errors import ConfigError
from fedlight.parts.aggregation.scaling import checked_norm, mean_, scale_to, summed
from fedlight.parts.sums import CoveredSum, TotalSum
from fedlight.submodels.coverage import Coverage


@final
class ResidualRecovery(Aggregation):
    """Mean over all clients, an uncovered entry counting as unchanged: U = Σ a m Δ / Σ a.

    This is FedMP's R2SP (Jiang et al. 2022) in the form of updates: an entry that c of N equal clients trained moves
    by c/N of their mean update. Float buffers that travel are merged by their coverage mean, since a running
    statistic that nobody saw has no residual to recover. At ratio 0 everywhere this is FedAvg's mean.

    With ``bits`` the server keeps each client's residual (the entries that the client doesn't hold) in so many bits, as
    FedMP may to save memory: recovered entries are off by the error q of that, so U = Σ a (m Δ + (1 - m) q) / Σ a. The
    error is drawn anew from the exact weights in every round and doesn't add up by itself. Per tensor, affine: with
    b bits, s = (max - min) / (2^b - 1) over the residual, Q(r) = min + s · round((r - min) / s). It takes one pass over
    the full model per client.

    Args:
        update_norm: scale every client's Δ to this L2 norm first (Γ of Xu et al. 2021, CGSV); None: as it comes back.
        bits: bits per entry of a stored residual, 1 to 16; None: residuals are exact, and none is stored.
    """

    def __init__(self, update_norm: float | None = None, bits: int | None = None) -> None:
        if bits is not None and not 1 <= bits <= 16:
            raise ConfigError(f"bits={bits} of ResidualRecovery is outside 1 .. 16: leave it out for exact residuals")
        self.update_norm = checked_norm(update_norm)
        self.bits = bits
        self._parameters = TotalSum()
        self._buffers = CoveredSum()
        self._like: Mapping[str, Tensor] = {}
        self._weight = 0.0

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._like = state.weights
        self._weight = 0.0
        self._parameters.begin(state.weights)
        self._buffers.begin(state.weights, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        self._weight += weight
        self._parameters.add(coverage, update.delta, weight * scale_to(update, self.update_norm))
        self._buffers.add(coverage, update.buffers, weight)
        if self.bits is not None and not coverage.is_full:
            for name in update.delta:
                self._parameters.add_full(name, self._error(coverage, name, self.bits), weight)

    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights; empty if no process had an update."""
        (weight,) = summed([self._weight], self._like, reduce)
        merged = {
            name: total.div_(weight).to(self._like[name].dtype) for name, total in self._parameters.finish(reduce)
        }
        for name, total, count in self._buffers.finish(reduce):
            merged[name] = mean_(total, count).to(self._like[name].dtype)
        return merged

    @torch.no_grad()
    def _error(self, coverage: Coverage, name: str, bits: int) -> Tensor:
        """Return (1 - m) q of one tensor in full shape: by how much its stored residual is off."""
        value = self._like[name].to(torch.float64)
        held = torch.zeros_like(value, memory_format=torch.contiguous_format)
        coverage.scatter_add_(name, held, torch.ones(coverage.thin_shape(name), device=value.device), 1.0)
        residual = held == 0
        if not residual.any():
            return torch.zeros_like(value)
        low, high = value[residual].min(), value[residual].max()
        step = ((high - low) / (2**bits - 1)).clamp(min=torch.finfo(torch.float64).tiny)
        stored = low + step * torch.round((value - low) / step)
        return torch.where(residual, stored - value, 0.0)
