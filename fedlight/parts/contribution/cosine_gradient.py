"""Contribution by the direction of updates: the cosine gradient Shapley value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

from fedlight.core.slots import Contribution
from fedlight.core.types import Reduce, RoundState, Update
from fedlight.errors import ConfigError
from fedlight.parts.contribution.direction import MeanDirection, Support, checked_support
from fedlight.parts.contribution.shares import Shares, positive_shares
from fedlight.submodels.coverage import Coverage


@final
class CosineGradient(Contribution):
    """Weigh a client by how well its updates agree with everyone's, smoothed over rounds (CGSV).

    u_n = Δ_n / ‖Δ_n‖;  U = Σ_n r_n u_n (zero where a client covers nothing);  ψ_n = cos(u_n, U);
    r_n ← γ r_n + (1 - γ) ψ_n, floored, and normalised over the round's clients.

    X. Xu, L. Lyu, X. Ma, C. Miao, C. S. Foo, B. K. H. Low: Gradient Driven Rewards to Guarantee Fairness in
    Collaborative Machine Learning. NeurIPS 2021, §3 (ψ approximates the Shapley value of v(S) = cos(u_S, u_N)).

    r starts at the share of examples; :class:`~fedlight.parts.contribution.shares.Shares` says what happens in a round
    of some clients only. Buffers don't enter u. Costs O(N D) and one accumulator in full shape; each process holds the
    round's updates that it trained, in submodel shape, until the round ends. Needs no server data. Trusts the majority:
    a lone honest client among clients that agree on something else scores low, and who sends back the last round's
    aggregate scores high.

    Args:
        support: ``covered``: the cosine on the client's own coordinates, cos(u_n, M_n U); ``full``: as published, where
            a client that was pruned hard can't score high, since ψ_n ≤ ‖M_n U‖ / ‖U‖.
        moving_average: γ in [0, 1).
        floor: smallest r before it is normalised, > 0.
        convention: ``official``: ψ enters r as it is, as in the published code, so that what is new weighs
            (1 - γ) Σψ / (γ + (1 - γ) Σψ), which grows with the number of clients; ``normalised``: ψ⁺ / Σψ⁺ enters,
            and what is new weighs 1 - γ.
        start: ``samples``: a client's first ψ is averaged with its share of examples; ``nothing``: with 0, as in the
            published code, where r after the first round is ψ / Σψ.
    """

    needs: Literal["own"] = "own"

    def __init__(
        self,
        support: Support = "covered",
        moving_average: float = 0.95,
        floor: float = 1e-3,
        convention: Literal["official", "normalised"] = "official",
        start: Literal["samples", "nothing"] = "samples",
    ) -> None:
        if convention not in ("official", "normalised"):
            raise ConfigError(f"convention={convention!r} is unknown to CosineGradient: use 'official' or 'normalised'")
        self.support = checked_support(support, "CosineGradient")
        self.convention = convention
        self._shares = Shares(moving_average, floor, start)
        self._direction = MeanDirection()

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return r_n: learnt for clients seen, |D_n| / Σ |D| for the others."""
        return self._shares.weights(state, clients)

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
        """Move the r of the round's clients towards their ψ."""
        self._shares.move(state, scores if self.convention == "official" else positive_shares(scores))

    def forget(self, clients: Sequence[int]) -> None:
        """Let these clients have their share of examples again."""
        self._shares.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return r of the clients seen."""
        return self._shares.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._shares.load_state_dict(state)
