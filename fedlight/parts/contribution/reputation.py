"""Contribution by reputation, which can be lost for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch

from fedlight.core.slots import Contribution
from fedlight.core.types import Reduce, RoundState, Update
from fedlight.errors import ConfigError
from fedlight.parts.contribution.direction import MeanDirection, Support, checked_support
from fedlight.submodels.coverage import Coverage


@final
class Reputation(Contribution):
    """Weigh by reputation, and remove for good who has too little of it (RFFL).

    ψ_n = cos(u_n, U) as in :class:`~fedlight.parts.CosineGradient`; r_n ← γ r_n + (1 - γ) ψ_n, floored, normalised to
    sum 1 over the reputable set R; from round ``patience`` on, a client with r_n < threshold / |R| leaves R and has
    weight 0 ever after: it may be drawn, but its updates are left out of everything.

    X. Xu, L. Lyu: A Reputation Mechanism Is All You Need: Collaborative Fairness and Adversarial Robustness in
    Federated Learning. FL-ICML 2021; constants as in its published code.

    r starts equal. Among the clients of a round r is moved as a whole: what they sum to stays. The best of all clients
    is never removed. Costs O(N D), an accumulator in full shape and two numbers per client. Needs no server data, and
    trusts the majority.

    Args:
        support: where the cosine is taken, ``covered`` or ``full``.
        moving_average: γ in [0, 1).
        threshold: fraction of the equal share below which a client is removed, in [0, 1); 0 removes nobody.
        patience: rounds before anyone is removed, >= 0.
        floor: smallest r before it is normalised, > 0.
    """

    needs: Literal["own"] = "own"

    def __init__(
        self,
        support: Support = "covered",
        moving_average: float = 0.95,
        threshold: float = 1 / 3,
        patience: int = 10,
        floor: float = 1e-3,
    ) -> None:
        if not 0.0 <= moving_average < 1.0:
            raise ConfigError(
                f"moving_average={moving_average} is outside [0, 1): 0 forgets at once, 0.95 as published"
            )
        if not 0.0 <= threshold < 1.0:
            raise ConfigError(f"threshold={threshold} is outside [0, 1): 0 removes nobody, 1/3 as published")
        if patience < 0:
            raise ConfigError(f"patience={patience} is no number of rounds: use 0 or more, 10 as published")
        if not 0.0 < floor < 1.0:
            raise ConfigError(f"floor={floor} is outside (0, 1): 0 would remove a client at once; use 1e-3, say")
        self.support = checked_support(support, "Reputation")
        self.moving_average = moving_average
        self.threshold = threshold
        self.patience = patience
        self.floor = floor
        self._reputation = torch.zeros(0, dtype=torch.float64)
        self._direction = MeanDirection()

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return r_n; 0 for clients that were removed."""
        self._start(state)
        return {client: float(self._reputation[client]) for client in clients}

    def begin(self, state: RoundState) -> None:
        """Start a round."""
        self._direction.begin(state.weights)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Add r_n u_n to U."""
        self._direction.add(coverage, update.delta, weight)

    def finish(self, reduce: Reduce) -> None:
        """Close U over all processes."""
        self._direction.finish(reduce)

    def score(self, coverage: Coverage, update: Update) -> float:
        """Return ψ_n in [-1, 1]; 0 for an update of zeros."""
        return self._direction.cosine(coverage, update.delta, self.support)

    def observe(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Move the reputation of the round's clients, then remove those that have too little."""
        self._start(state)
        clients = [client for client in sorted(scores) if self._reputation[client] > 0]
        if clients:
            held = self._reputation[clients]
            cosines = torch.tensor([scores[client] for client in clients], dtype=torch.float64)
            gamma = self.moving_average
            moved = (gamma * held / held.sum() + (1 - gamma) * cosines).clamp(min=self.floor)
            self._reputation[clients] = held.sum() * moved / moved.sum()
        if state.round_idx >= self.patience:
            best = int(self._reputation.argmax())
            num_reputable = int((self._reputation > 0).sum())
            lost = self._reputation < self.threshold / num_reputable
            lost[best] = False
            self._reputation[lost] = 0.0
            self._reputation /= self._reputation.sum()

    def forget(self, clients: Sequence[int]) -> None:
        """Give these clients the mean reputation, as to someone new; who was removed stays so."""
        for client in clients:
            if len(self._reputation) and self._reputation[client] > 0:
                self._reputation[client] = 0.0
                held = self._reputation[self._reputation > 0]
                self._reputation[client] = held.mean() if len(held) else 1.0
                self._reputation /= self._reputation.sum()

    def metrics(self) -> dict[str, float]:
        """Return how many clients were removed."""
        return {"contribution/removed_clients": float((self._reputation == 0).sum())}

    def state_dict(self) -> dict[str, Any]:
        """Return r of all clients; 0: removed."""
        return {"reputation": self._reputation.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._reputation = state["reputation"].clone()

    def _start(self, state: RoundState) -> None:
        num_clients = len(state.num_examples)
        if not len(self._reputation):
            self._reputation = torch.full((num_clients,), 1 / num_clients, dtype=torch.float64)
