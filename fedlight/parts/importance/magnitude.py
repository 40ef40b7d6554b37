"""Importance from the global weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import RoundState, State
from fedlight.errors import ConfigError
from fedlight.parts.importance.units import Normalizer, Reducer, Reduction
from fedlight.submodels import SubmodelPlan


@final
class Magnitude(Importance):
    """Size of the weights that a unit owns: s_u = (Σ |θ_i|^p)^(1/p) over its entries i, in all layers it reaches.

    With ``p=1, reduction="first"`` this is the filter L1 norm (Li et al. 2017, Pruning Filters for Efficient ConvNets,
    §3.1) that FedMP prunes by. Computed once a round, since the global weights don't change within it. A single weight
    scores |θ_i|.

    Args:
        p: 1 (absolute values) or 2 (squares).
        reduction: ``sum`` over all entries, their ``mean`` (of |θ|^p, before the root), or only the rows of the
            group's ``first`` layer.
        normalizer: ``mean``, ``max`` or ``sum``: what a group's scores are divided by, so that groups compare under a
            global scope; None leaves them.
    """

    def __init__(
        self, p: Literal[1, 2] = 2, reduction: Reduction = "sum", normalizer: Normalizer | None = "mean"
    ) -> None:
        if p not in (1, 2):
            raise ConfigError(f"p={p} is not a norm of Magnitude: use 1 or 2")
        self.p = p
        self.reduction = reduction
        self.normalizer = normalizer
        self._reducer = Reducer(reduction, normalizer)
        self._plan: SubmodelPlan | None = None
        self._round_idx = -1
        self._scores = torch.zeros(0)

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        if state.plan is not self._plan:
            self._plan, self._round_idx = state.plan, -1
        if state.round_idx != self._round_idx:
            self._round_idx, self._scores = state.round_idx, self._of(state.weights, state.plan)
        return self._scores

    def entries(self, state: RoundState, client: int) -> State:
        """Return |θ|."""
        return {name: value.detach().abs() for name, value in state.weights.items() if value.dim() > 1}

    @torch.no_grad()
    def _of(self, weights: Mapping[str, Tensor], plan: SubmodelPlan) -> Tensor:
        scores = self._reducer.reduce(
            plan.structure, lambda name: weights[name].abs() if self.p == 1 else weights[name].square()
        )
        return self._reducer.normalize(scores if self.p == 1 else scores.sqrt(), plan.groups)
