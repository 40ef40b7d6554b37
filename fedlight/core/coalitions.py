"""What a round would have become with some of its clients only."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from fedlight.core.desk import merged
from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, RoundState, State, Update


@dataclass(frozen=True)
class Member:
    """One update of a round with all that it is merged by.

    Attributes:
        job: what was asked for; its coverage says which entries the update holds.
        update: what came back.
        weight: its weight in the aggregate, > 0, not normalised.
        with_buffers: whether the round merged its float buffers, as the norm policy says.
    """

    job: Job
    update: Update
    weight: float
    with_buffers: bool = True


@final
class Coalitions:
    """The round's members, and what any part of them makes of the global model.

    A coalition S merges as the round did: by a copy of the algorithm's own aggregation, with the same weights, the same
    divisor and the float buffers of the same updates, so the coalition of all is the round itself, θ_S = θ + U_S. The
    server optimizer isn't replayed: with another than SGD at lr 1 the next global model differs from θ_N. A player is a
    client: if it came back twice in a round, both updates come with it.

    Args:
        state: the round.
        members: the updates that count, in the order of their return; the same on every process.
        aggregate: U of all of them.
        aggregation: a copy of the algorithm's, to merge coalitions by.

    Attributes:
        members: as given.
        aggregate: as given.
        clients: who the players are, ascending.
    """

    def __init__(
        self, state: RoundState, members: Sequence[Member], aggregate: State, aggregation: Aggregation
    ) -> None:
        self.members = members
        self.aggregate = aggregate
        self.clients = sorted({member.update.client for member in members})
        self._state = state
        self._aggregation = aggregation
        self._memory = copy.deepcopy(aggregation.state_dict())

    def merge(self, clients: Collection[int]) -> State:
        """Return U_S for some of the clients; empty for none. The tensors hold until the next call."""
        chosen = [member for member in self.members if member.update.client in clients]
        self._aggregation.load_state_dict(copy.deepcopy(self._memory))
        self._aggregation.begin(self._state, [member.job for member in chosen])
        for member in chosen:
            update = member.update if member.with_buffers else replace(member.update, buffers={})
            self._aggregation.add(member.job.coverage, update, member.weight)
        return self._aggregation.finish(_alone)

    def weights(self, clients: Collection[int]) -> State:
        """Return θ_S = θ + U_S as a whole state dict; θ for nobody."""
        with torch.no_grad():
            return merged(self._state.weights, self.merge(clients))


def _alone(tensor: Tensor) -> None:
    """Sum over one process: every process merges all members itself."""
