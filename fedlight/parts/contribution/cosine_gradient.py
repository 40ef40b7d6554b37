"""Contribution by the direction of updates: the cosine gradient Shapley value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch

from fedlight.core.slots import Contribution
from fedlight.core.types import Reduce, RoundState, State, Update
from fedlight.errors import ConfigError
from fedlight.parts.sums import TotalSum, norm
from fedlight.submodels.coverage import Coverage


@final
class CosineGradient(Contribution):
    """Weigh a client by how well its updates agree with everyone's, smoothed over rounds (CGSV).

    u_n = Δ_n / ‖Δ_n‖;  U = Σ_n r_n u_n (zero where a client covers nothing);  ψ_n = cos(u_n, U);
    r_n ← γ r_n + (1 - γ) ψ_n, floored, and normalised over the round's clients.

    X. Xu, L. Lyu, X. Ma, C. Miao, C. S. Foo, B. K. H. Low: Gradient Driven Rewards to Guarantee Fairness in
    Collaborative Machine Learning. NeurIPS 2021, §3 (ψ approximates the Shapley value of v(S) = cos(u_S, u_N)).

    r starts at the share of examples. In a round of some clients only, their r are normalised over these clients for
    the update above and scaled back to what they summed to before, so the others' shares stay what they were. Buffers
    don't enter u. Costs one accumulator in full shape; the round's updates are held, in submodel shape, until it ends.

    Args:
        support: ``covered``: the cosine on the client's own coordinates, cos(u_n, M_n U); ``full``: as published, where
            a client that was pruned hard can't score high, since ψ_n ≤ ‖M_n U‖ / ‖U‖.
        moving_average: γ in [0, 1).
        floor: smallest r before it is normalised, > 0.
    """

    needs_updates = True

    def __init__(
        self, support: Literal["covered", "full"] = "covered", moving_average: float = 0.95, floor: float = 1e-3
    ) -> None:
        if support not in ("covered", "full"):
            raise ConfigError(f"support={support!r} is unknown to CosineGradient: use 'covered' or 'full'")
        if not 0.0 <= moving_average < 1.0:
            raise ConfigError(
                f"moving_average={moving_average} is outside [0, 1): 0 forgets at once, 0.95 as published"
            )
        if floor <= 0.0:
            raise ConfigError(
                f"floor={floor} would let a weight reach 0: use a small number above it, for example 1e-3"
            )
        self.support = support
        self.moving_average = moving_average
        self.floor = floor
        self._shares: dict[int, float] = {}  # r of the clients seen; they and the others' sample shares sum to 1
        self._sum = TotalSum()
        self._direction: State = {}
        self._length = 0.0

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return r_n: learnt for clients seen, |D_n| / Σ |D| for the others."""
        total = float(state.num_examples.sum())
        return {client: self._shares.get(client, float(state.num_examples[client]) / total) for client in clients}

    def begin(self, state: RoundState) -> None:
        """Start a round."""
        self._sum.begin(state.weights)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Add r_n u_n to U."""
        length = norm(update.delta)
        if length > 0:
            self._sum.add(coverage, update.delta, weight / length)

    def finish(self, reduce: Reduce) -> None:
        """Close U over all processes."""
        self._direction = dict(self._sum.finish(reduce))
        self._length = norm(self._direction)

    def score(self, coverage: Coverage, update: Update) -> float:
        """Return ψ_n in [-1, 1]; 0 for an update of zeros."""
        product = covered = 0.0
        for name, value in update.delta.items():
            if name in self._direction:
                own = coverage.gather(name, self._direction[name])
                product += float((own * value).sum())
                covered += float(own.square().sum()) if self.support == "covered" else 0.0
        length = math.sqrt(covered) if self.support == "covered" else self._length
        scale = length * norm(update.delta)
        return max(-1.0, min(1.0, product / scale)) if scale > 0 else 0.0

    def observe(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Move the r of the round's clients towards their ψ."""
        if not scores:
            return
        shares = self.weights(state, list(scores))
        mass = sum(shares.values())
        moved = {
            client: max(
                self.floor, self.moving_average * shares[client] / mass + (1 - self.moving_average) * scores[client]
            )
            for client in sorted(scores)
        }
        scale = mass / sum(moved.values())
        self._shares.update({client: scale * share for client, share in moved.items()})

    def state_dict(self) -> dict[str, Any]:
        """Return r of the clients seen."""
        return {
            "clients": torch.tensor(list(self._shares), dtype=torch.int64),
            "shares": torch.tensor(list(self._shares.values()), dtype=torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._shares = dict(zip(state["clients"].tolist(), state["shares"].tolist(), strict=True))
