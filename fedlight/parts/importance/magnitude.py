"""Importance from the global weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.importance.units import Reduction, UnitSums, normalized
from fedlight.submodels import SubmodelPlan


@final
class Magnitude(Importance):
    """Size of the weights that a unit owns: s_u = (Σ |θ_i|^p)^(1/p) over its entries i, in all layers it reaches.

    With ``p=1, reduction="first"`` this is the filter L1 norm (Li et al. 2017, Pruning Filters for Efficient ConvNets,
    §3.1) that FedMP prunes by. Computed once a round, since the global weights don't change within it.

    Args:
        p: 1 (absolute values) or 2 (squares).
        reduction: ``sum`` over all entries, their ``mean`` (of |θ|^p, before the root), or only the rows of the
            group's ``first`` layer.
        normalizer: ``mean`` divides by the group's mean, so that groups compare under a global scope; None leaves it.
    """

    def __init__(
        self, p: Literal[1, 2] = 2, reduction: Reduction = "sum", normalizer: Literal["mean"] | None = "mean"
    ) -> None:
        if p not in (1, 2):
            raise ConfigError(f"p={p} is not a norm of Magnitude: use 1 or 2")
        if reduction not in ("sum", "mean", "first"):
            raise ConfigError(f"reduction={reduction!r} is unknown to Magnitude: use 'sum', 'mean' or 'first'")
        self.p = p
        self.reduction = reduction
        self.normalizer = normalizer
        self._plan: SubmodelPlan | None = None
        self._round_idx = -1
        self._scores = torch.zeros(0)

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        if state.plan is not self._plan:
            self._plan, self._round_idx = state.plan, -1
            self._sums = UnitSums(state.plan.structure, first_only=self.reduction == "first")
            self._entries = self._sums(lambda name: torch.ones(()).expand(state.plan.structure.shapes[name]))
        if state.round_idx != self._round_idx:
            self._round_idx, self._scores = state.round_idx, self._of(state.weights, state.plan)
        return self._scores

    @torch.no_grad()
    def _of(self, weights: Mapping[str, Tensor], plan: SubmodelPlan) -> Tensor:
        scores = self._sums(lambda name: weights[name].abs() if self.p == 1 else weights[name].square())
        if self.reduction == "mean":
            scores = scores / self._entries.clamp(min=1.0)
        scores = scores if self.p == 1 else scores.sqrt()
        return normalized(scores, plan.groups) if self.normalizer == "mean" else scores
