"""Contribution by the exact Shapley value of the round on the server's own examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from fedlight.core.coalitions import Coalitions
from fedlight.core.slots import Contribution
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.contribution import games
from fedlight.parts.contribution.judge import CoalitionValue, Judge
from fedlight.parts.contribution.plain import sample_counts

MAX_EXACT = 10
"""Clients of a round that the exact value is worked out for: 1024 passes over the server's examples."""


@final
class ShapleyExact(Contribution):
    """Score a client by its Shapley value in the round: φ_n = Σ_S |S|! (m - |S| - 1)! / m! [v(S ∪ n) - v(S)].

    v(S) is the utility of θ_S = θ + U_S, merged from the round's updates as the round merges them; nothing is trained
    again. Efficient (Σ φ = v(N) - v(∅)), symmetric, additive over rounds, and 0 for who changes nothing. A client that
    isn't in the round gets no score. T. Song, Y. Tong, S. Wei: Profit Allocation for Federated Learning, IEEE BigData
    2019 (MR), by round.

    Costs 2^m passes over the server's examples for m clients, and the round's updates, held by every process. Needs
    server data. Weighs by examples; put it in :class:`~fedlight.parts.Scored` to weigh by it.

    Args:
        judge: by what; None: minus ``val/loss`` on all of the server's examples.

    Raises:
        ConfigError: more than 10 clients return in a round.
    """

    needs: Literal["all"] = "all"
    needs_server_data = True

    def __init__(self, judge: Judge | None = None) -> None:
        self.judge = judge or Judge()

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client; refuses too many."""
        if len(clients) > MAX_EXACT:
            raise ConfigError(
                f"ShapleyExact judges 2^{len(clients)} coalitions for a round of {len(clients)} clients: set "
                f"clients_per_round to {MAX_EXACT} or fewer, or use GTGShapley"
            )
        return sample_counts(state, clients)

    def score_cohort(self, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
        """Return φ by client."""
        return games.exact(coalitions.clients, CoalitionValue(self.judge, state, coalitions))
