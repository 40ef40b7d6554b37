"""Importance from how far the global weights have moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import Job, RoundState, State
from fedlight.errors import ConfigError
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.units import BUFFERS, Normalizer, Reducer, Reduction
from fedlight.submodels.structure import Structure


@final
class AbsoluteChange(Importance):
    """How far the weights that a unit owns have moved: s_u = Σ |θ^t_i - θ^ref_i| over its entries i.

    θ^ref is θ^0, the global weights of the first round that it sees, or with ``every`` those of the last pruning round.
    While nothing has moved, scores are those of :class:`Magnitude`. A unit that nobody trains doesn't move and so
    doesn't come back: some clients should train the whole model. Costs a float32 copy of the weights, which
    checkpoints hold too. A single weight scores |θ^t_i - θ^ref_i|.

    Args:
        every: rounds between two prunings (ΔT of the extraction), for the change since the last one, t ≡ 0 mod every;
            None: the change since the start.
        normalizer: ``mean``, ``max`` or ``sum``: what a group's scores are divided by, so that groups compare under a
            global scope; None leaves them.
        reduction: ``sum`` or ``mean`` over a unit's entries, or the sum over its rows of the group's ``first`` layer.
    """

    def __init__(
        self, every: int | None = None, normalizer: Normalizer | None = "mean", reduction: Reduction = "sum"
    ) -> None:
        if every is not None and every < 1:
            raise ConfigError(f"every={every} is no number of rounds between prunings: use 1 or more, or leave it out")
        self.every = every
        self.normalizer = normalizer
        self.reduction = reduction
        self._reducer = Reducer(reduction, normalizer)
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

    @torch.no_grad()
    def entries(self, state: RoundState, client: int) -> State:
        """Return |θ^t - θ^ref|, or |θ^t| while nothing has moved."""
        names = [name for name in self._reference if state.weights[name].dim() > 1]
        moved = {name: self._change(state, name) for name in names}
        return moved if any(bool(value.any()) for value in moved.values()) else self._fallback.entries(state, client)

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Take the weights for reference, before the server's step and after this round's maps are drawn."""
        if not self._reference or (self.every is not None and state.round_idx % self.every == 0):
            self._reference = {
                name: state.weights[name].detach().to(torch.float32, copy=True) for name in _watched(state)
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
        scores = self._reducer.reduce(state.plan.structure, lambda name: self._change(state, name))
        return self._reducer.normalize(scores, state.plan.groups)

    def _change(self, state: RoundState, name: str) -> Tensor:
        now = state.weights[name].detach()
        return (now.float() - self._reference[name].to(now.device)).abs()


def _watched(state: RoundState) -> list[str]:
    """Return the tensors that units own or that masks may cut."""
    owned = _owned(state.plan.structure)
    return [name for name, value in state.weights.items() if name in owned or value.dim() > 1]


def _owned(structure: Structure) -> set[str]:
    owned = ((name, axes) for name, axes in structure.axes.items() if not name.endswith(BUFFERS))
    return {name for name, axes in owned if any(axis is not None for axis in axes)}
