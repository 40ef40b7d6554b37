"""Importance that doesn't look at the model: fixed and random orders."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from fedlight.core.seeds import torch_generator
from fedlight.core.slots import Importance
from fedlight.core.types import RoundState


@final
class PrefixOrder(Importance):
    """The leading units of every group matter most (HeteroFL, FjORD): s_u = (size - position) / size, in (0, 1]."""

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        return torch.cat(
            [torch.arange(group.size, 0, -1, dtype=torch.float64) / group.size for group in state.plan.groups]
        )


@final
class RandomOrder(Importance):
    """A control: scores drawn anew, uniformly in [0, 1), for every client and round (Federated Dropout's choice).

    One order per coupled group, so residual networks stay aligned.
    """

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return float64[num_units] from (seed, round, client)."""
        generator = torch_generator(state.seed, state.round_idx, client, "importance")
        return torch.rand(state.plan.num_units, generator=generator, dtype=torch.float64)
