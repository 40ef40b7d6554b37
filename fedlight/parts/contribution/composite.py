"""Contribution by plain statistics of a client's features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from fedlight.core.slots import Contribution
from fedlight.core.types import ClientData, Reduce, RoundState, Summarise, Update
from fedlight.errors import ConfigError
from fedlight.parts.contribution.features import projected_inputs
from fedlight.parts.contribution.plain import sample_counts
from fedlight.submodels.coverage import Coverage


@final
class CompositeStatistics(Contribution):
    """Score a client by how much data it has and how typical they are, from means and variances of its inputs.

    s_n = (|D_n| / Σ |D|) exp(-½ d_n²);  d_n² = (1/k) Σ_j [(μ_nj - μ_j)² + (σ_nj - σ_j)²] / σ_j², with μ, σ² of the
    round's clients pooled: a Wasserstein distance of diagonal Gaussians in pooled units. fedlight's own formula.
    Clients of the same statistics score their share of examples.

    Privacy: each client sends 2k numbers more in every round: mean and variance of its inputs, projected to k dims by a
    matrix that all share. Of a client with few examples they tell much; they are not differentially private. Costs
    each client O(n · inputs) a round; the server O(N k). Needs no server data. Weighs by examples; put it in
    :class:`~fedlight.parts.Scored` to weigh by it.

    Args:
        num_dims: k >= 1, dims that inputs are projected to.
    """

    needs: Literal["own"] = "own"

    def __init__(self, num_dims: int = 10) -> None:
        if num_dims < 1:
            raise ConfigError(f"num_dims={num_dims} leaves nothing to measure: use 1 or more")
        self.num_dims = num_dims
        self._sums = torch.zeros(1 + 2 * num_dims, dtype=torch.float64)

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)

    def summary(self, client: int) -> Summarise | None:
        """Ask every client for mean and variance."""
        return self._measure

    def begin(self, state: RoundState) -> None:
        """Start a round."""
        self._sums = torch.zeros_like(self._sums, device=next(iter(state.weights.values())).device)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Pool what a client told."""
        told = _told(update)
        if told is not None:
            mean, variance = told
            one = torch.ones(1, dtype=torch.float64)
            pooled = update.num_examples * torch.cat([one, mean, variance + mean.square()])  # these add up over clients
            self._sums += pooled.to(self._sums.device, torch.float32)  # exact in float64, whatever the order

    def finish(self, reduce: Reduce) -> None:
        """Close the pool over all processes."""
        reduce(self._sums)
        self._sums = self._sums.cpu()

    def score(self, coverage: Coverage, update: Update) -> float | None:
        """Return s_n in (0, 1]; None if the client told nothing finite."""
        told = _told(update)
        if told is None:
            return None
        total, means, squares = self._sums[0], *self._sums[1:].chunk(2)
        mean = means / total
        variance = (squares / total - mean.square()).clamp(min=1e-12)
        own_mean, own_variance = told
        apart = (own_mean - mean).square() + (own_variance.clamp(min=0.0).sqrt() - variance.sqrt()).square()
        return update.num_examples / float(total) * math.exp(-0.5 * float((apart / variance).mean()))

    def _measure(self, module: nn.Module, data: ClientData, seed: int) -> Tensor:
        rows = projected_inputs(module, data, seed, self.num_dims)
        return torch.stack([rows.mean(dim=0), rows.var(dim=0, correction=0)])


def _told(update: Update) -> tuple[Tensor, Tensor] | None:
    """Return the mean and the variance that a client told; None if it told nothing finite."""
    if update.summary is None or not bool(torch.isfinite(update.summary).all()):
        return None
    mean, variance = update.summary.cpu()
    return mean, variance
