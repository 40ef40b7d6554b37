"""Contribution by what the round loses without a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from fedlight.core.coalitions import Coalitions
from fedlight.core.slots import Contribution
from fedlight.core.types import RoundState
from fedlight.parts.contribution.judge import CoalitionValue, Judge
from fedlight.parts.contribution.plain import sample_counts


@final
class LeaveOneOut(Contribution):
    """Score a client by what the round's model loses without it: v(N) - v(N - n).

    θ_S = θ + U_S merges as the round does. Of two clients with the same data neither is missed: both score about 0.
    Costs m + 1 passes over the server's examples for m clients, and the round's updates, held by every process. Needs
    server data. Weighs by examples; put it in :class:`~fedlight.parts.Scored` to weigh by it.

    Args:
        judge: by what; None: minus ``val/loss`` on all of the server's examples.
    """

    needs: Literal["all"] = "all"
    needs_server_data = True

    def __init__(self, judge: Judge | None = None) -> None:
        self.judge = judge or Judge()

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)

    def score_cohort(self, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
        """Return v(N) - v(N - n) by client."""
        value = CoalitionValue(self.judge, state, coalitions)
        everyone = frozenset(coalitions.clients)
        return {client: value(everyone) - value(everyone - {client}) for client in coalitions.clients}
