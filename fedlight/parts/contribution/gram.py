"""Contribution by diversity: what a client's update adds to the volume that all span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from fedlight.core.coalitions import Coalitions
from fedlight.core.slots import Contribution
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.contribution.plain import sample_counts


@final
class GramLeaveOneOut(Contribution):
    """Score a client by what the diversity of the round's updates loses without it.

    v(S) = log det A_S, A = I + G / s², G = Ũ Ũᵀ with rows Δ_n / ‖Δ_n‖ in full shape (zero where uncovered); then
    v(N) - v(N - n) = -log (A⁻¹)_nn, which is >= 0, needs one inverse for all clients, and no data. After the volume of
    X. Xu, Z. Wu, C. S. Foo, B. K. H. Low: Validation Free and Replication Robust Volume-based Data Valuation, NeurIPS
    2021, put on updates instead of features.

    Rewards noise and attackers too, who are diverse: pair it with a measure of agreement. Submodels that share few
    entries count as diverse. Costs O(N² D + N³) and the round's updates, held by every process; N times the largest
    tensor while it is worked out. Needs no server data. Weighs by examples; put it in
    :class:`~fedlight.parts.Scored` to weigh by it.

    Args:
        noise: s > 0: how far updates must differ to count as different; small: any difference does.
    """

    needs: Literal["all"] = "all"

    def __init__(self, noise: float = 1.0) -> None:
        if not noise > 0.0:
            raise ConfigError(f"noise={noise} is no scale: use a number above 0, 1 to begin with")
        self.noise = noise

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)

    def score_cohort(self, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
        """Return -log (A⁻¹)_nn by client; 0 for an update of zeros."""
        clients = coalitions.clients
        if not clients:
            return {}
        marginals = leave_one_out(_gram(state, coalitions), self.noise)
        return dict(zip(clients, marginals.tolist(), strict=True))


def leave_one_out(gram: Tensor, noise: float) -> Tensor:
    """Return log det A - log det A without row and column n, for every n; A = I + G / s², G float64[N, N]."""
    size = len(gram)
    inverse: Tensor = torch.linalg.inv(torch.eye(size, dtype=gram.dtype, device=gram.device) + gram / noise**2)
    return -inverse.diagonal().log()


def _gram(state: RoundState, coalitions: Coalitions) -> Tensor:
    """Return the cosines of all clients' updates, tensor by tensor, so that no update is held in full shape."""
    of_client = {client: row for row, client in enumerate(coalitions.clients)}
    device = next(iter(state.weights.values())).device
    products = torch.zeros(len(of_client), len(of_client), dtype=torch.float64, device=device)
    for name in sorted({name for member in coalitions.members for name in member.update.delta}):
        rows = torch.zeros(len(of_client), *state.weights[name].shape, dtype=torch.float64, device=device)
        for member in coalitions.members:
            if name in member.update.delta:
                row = rows[of_client[member.update.client]]
                member.job.coverage.scatter_add_(name, row, member.update.delta[name], 1.0)
        rows = rows.view(len(of_client), -1)
        products += rows @ rows.T
    lengths = products.diagonal().sqrt()
    scale = lengths[:, None] * lengths
    return torch.where(scale > 0, products / scale.clamp(min=1e-300), 0.0)
