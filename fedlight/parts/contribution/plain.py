"""Weights that nothing is learnt for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from fedlight.core.slots import Contribution
from fedlight.core.types import RoundState


@final
class SampleCount(Contribution):
    """Weigh by the number of examples: a_n = |D_n| (McMahan et al. 2017, algorithm 1). Free; needs no server data."""

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)


@final
class Uniform(Contribution):
    """Weigh every client alike: a_n = 1 (as HeteroFL and FedMP do). Free; needs no server data."""

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return 1 for every client."""
        return dict.fromkeys(clients, 1.0)


def sample_counts(state: RoundState, clients: Sequence[int]) -> dict[int, float]:
    """Return |D_n| for every client."""
    return {client: float(state.num_examples[client]) for client in clients}
