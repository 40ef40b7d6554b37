"""Importance from how far the global weights have moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import RoundState, State
from fedlight.errors import ConfigError
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.units import BUFFERS, UnitSums, normalized
from fedlight.submodels.structure import Structure


@final
class AbsoluteChange(Importance):
    """How far the weights that a unit owns have moved: s_u = Σ |θ^t_i - θ^ref_i| over its entries i.

    θ^ref is θ^0, the global weights of the first round that it sees, or with ``every`` those of the last pruning round.
    While nothing has moved, scores are those of :class:`Magnitude`. A unit that nobody trains doesn't move and so
    doesn't come back: some clients should train the whole model. Costs a float32 copy of the weights, which
    checkpoints hold too.

    Args:
        every: rounds between two prunings (ΔT of the extraction), for the change since the last one, t ≡ 0 mod every;
            None: the change since the start.
        normalizer: ``mean`` divides by the group's mean, so that groups compare under a global scope; None leaves it.
    """

    def __init__(self, every: int | None = None, normalizer: Literal["mean"] | None = "mean") -> None:
        if every is not None and every < 1:
            raise ConfigError(f"every={every} is no number of rounds between prunings: use 1 or more, or leave it out")
        self.every = every
        self.normalizer = normalizer
        self._fallback = Magnitude(normalizer=normalizer)
        self._reference: State = {}
        self._round_idx = -1
        self._scores = torch.zeros(0)

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        if not self._reference:
            return self._fallback.scores(state, client)
        if state.round_idx != self._round_idx:
            self._round_idx, self._scores = state.round_idx, self._of(state)
        return self._scores if bool(self._scores.any()) else self._fallback.scores(state, client)

    def begin(self, state: RoundState) -> None:
        """Take the weights for reference, before the server's step and after this round's maps are drawn."""
        if not self._reference or (self.every is not None and state.round_idx % self.every == 0):
            self._reference = {
                name: state.weights[name].detach().to(torch.float32, copy=True) for name in _owned(state.plan.structure)
            }

    def state_dict(self) -> dict[str, Any]:
        """Return θ^ref."""
        return {"reference": {name: value.clone() for name, value in self._reference.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._reference = {name: value.clone() for name, value in state["reference"].items()}
        self._round_idx = -1

    @torch.no_grad()
    def _of(self, state: RoundState) -> Tensor:
        def change(name: str) -> Tensor:
            now = state.weights[name]
            return (now.float() - self._reference[name].to(now.device)).abs()

        scores = UnitSums(state.plan.structure)(change)
        return normalized(scores, state.plan.groups) if self.normalizer == "mean" else scores


def _owned(structure: Structure) -> list[str]:
    """Return the tensors that :class:`UnitSums` asks for."""
    owned = ((name, axes) for name, axes in structure.axes.items() if not name.endswith(BUFFERS))
    return [name for name, axes in owned if any(axis is not None for axis in axes)]
