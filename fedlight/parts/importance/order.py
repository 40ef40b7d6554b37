"""Importance that doesn't look at the model: fixed, rolling and random orders."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from fedlight.core.seeds import torch_generator
from fedlight.core.slots import Importance
from fedlight.core.types import RoundState, State
from fedlight.errors import ConfigError


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

    One order per coupled group, so residual networks stay aligned. Single weights are drawn likewise.
    """

    personal = True

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return float64[num_units] from (seed, round, client)."""
        generator = torch_generator(state.seed, state.round_idx, client, "importance")
        return torch.rand(state.plan.num_units, generator=generator, dtype=torch.float64)

    def entries(self, state: RoundState, client: int) -> State:
        """Return scores from (seed, round, client)."""
        generator = torch_generator(state.seed, state.round_idx, client, "importance")
        return {
            name: torch.rand(value.shape, generator=generator).to(value.device)
            for name, value in state.weights.items()
            if value.dim() > 1
        }


@final
class RollingOrder(Importance):
    """A window that moves through every group: in round t it starts at unit o = t · step mod size (FedRolex).

    s_u = 1 - ((position - o) mod size) / size, so the units o, o + 1, ... are kept and the window wraps around; larger
    submodels hold smaller ones, and all clients of a round share the start. Groups of unequal size wrap at different
    rounds. S. Alam et al., NeurIPS 2022, FedRolex, eq. 4; their code moves the window the other way, which is the same
    by symmetry.

    Args:
        step: units that the window moves by per round; 0: prefix order.
    """

    def __init__(self, step: int = 1) -> None:
        if step < 0:
            raise ConfigError(f"step={step} moves the window backwards: use 0 or more units per round")
        self.step = step

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        offset = state.round_idx * self.step
        return torch.cat(
            [
                1.0 - ((torch.arange(group.size, dtype=torch.float64) - offset) % group.size) / group.size
                for group in state.plan.groups
            ]
            or [torch.zeros(0, dtype=torch.float64)]
        )
