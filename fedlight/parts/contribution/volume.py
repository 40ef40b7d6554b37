"""Contribution by the volume of a client's features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from fedlight.core.slots import Contribution
from fedlight.core.types import ClientData, RoundState, Summarise, Update
from fedlight.errors import ConfigError
from fedlight.parts.contribution.features import projected_inputs
from fedlight.parts.contribution.plain import sample_counts
from fedlight.submodels.coverage import Coverage

_RIDGE = 1e-9  # keeps the logarithm finite where rows don't span all dims; each missing one costs ½ log of it


@final
class RobustVolume(Contribution):
    """Score a client by the logarithm of the robust volume of its inputs.

    RV(X; ω) = √det(X̃ᵀX̃) Π_c ρ_c: one averaged row in X̃ per occupied cube of side ω, ρ_c = Σ_{p=0..φ_c} a^p for a cube
    of φ_c rows, a = 1 / (10 · cubes). Copies of rows raise ρ alone, which is bounded by 1 / (1 - a).

    X. Xu, Z. Wu, C. S. Foo, B. K. H. Low: Validation Free and Replication Robust Volume-based Data Valuation. NeurIPS
    2021. Of each client alone, not the Shapley value over unions of rows, which would need the rows.

    Privacy: each client sends one number more, once: the log volume of its inputs, projected to ``num_dims`` dims by a
    matrix that all share. The rows stay where they are; the number is not differentially private. Volume grows with
    scale, and nothing pooled exists to standardise by: all clients' inputs must be on one scale, as a data set that is
    normalised by constants is. Costs each client O(n · inputs) once; the server nothing. Needs no server data. Weighs
    by examples; put it in :class:`~fedlight.parts.Scored` to weigh by it.

    Args:
        side: ω > 0, in units of the projected inputs.
        num_dims: dims that inputs are projected to, 1 to 10: cubes are empty in more.
    """

    needs: Literal["own"] = "own"

    def __init__(self, side: float = 0.1, num_dims: int = 5) -> None:
        if not side > 0.0:
            raise ConfigError(f"side={side} is no length: use a number above 0, 0.1 as published")
        if not 1 <= num_dims <= 10:
            raise ConfigError(f"num_dims={num_dims} is outside 1 to 10: in more dims every row has a cube of its own")
        self.side = side
        self.num_dims = num_dims
        self._volumes: dict[int, float] = {}
        self._told: dict[int, float] = {}

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)

    def summary(self, client: int) -> Summarise | None:
        """Ask a client for its log volume, once."""
        return None if client in self._volumes else self._measure

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in what a client told."""
        if update.summary is not None and bool(torch.isfinite(update.summary).all()):
            self._told[update.client] = float(update.summary)

    def score(self, coverage: Coverage, update: Update) -> float | None:
        """Return log RV; None if the client told no finite number."""
        return self._told.get(update.client, self._volumes.get(update.client))

    def observe(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Remember what all processes heard."""
        self._volumes.update(scores)
        self._told = {}

    def forget(self, clients: Sequence[int]) -> None:
        """Ask these clients again, should they return."""
        for client in clients:
            self._volumes.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """Return the log volumes by client."""
        return {
            "clients": torch.tensor(list(self._volumes), dtype=torch.int64),
            "volumes": torch.tensor(list(self._volumes.values()), dtype=torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._volumes = dict(zip(state["clients"].tolist(), state["volumes"].tolist(), strict=True))

    def _measure(self, module: nn.Module, data: ClientData, seed: int) -> Tensor:
        return log_robust_volume(projected_inputs(module, data, seed, self.num_dims), self.side)


def log_volume(rows: Tensor) -> Tensor:
    """Return log √det(XᵀX + 10⁻⁹ I) of float64 rows X [n, d]."""
    gram = rows.T @ rows + _RIDGE * torch.eye(rows.shape[1], dtype=rows.dtype)
    logarithm: Tensor = torch.linalg.slogdet(gram).logabsdet
    return 0.5 * logarithm


def log_robust_volume(rows: Tensor, side: float) -> Tensor:
    """Return log RV(X; ω), a scalar, of float64 rows X [n, d]."""
    cubes = ((rows - rows.min(dim=0).values) / side).floor().long()
    _, cube, counts = torch.unique(cubes, dim=0, return_inverse=True, return_counts=True)
    means = torch.zeros(len(counts), rows.shape[1], dtype=rows.dtype).index_add_(0, cube, rows) / counts[:, None]
    share = 1 / (10 * len(counts))
    copies: Tensor = (1 - share ** (counts.double() + 1)).log() - math.log1p(-share)
    return log_volume(means) + copies.sum()
