"""Importance from the global weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.importance.units import Reduction, UnitReduction, normalized
from fedlight.submodels import SubmodelPlan

_BUFFERS = ("running_mean", "running_var")  # a unit's running statistics aren't weights of it


@final
class Magnitude(Importance):
    """Size of the weights that a unit owns: s_u = (Σ |θ_i|^p)^(1/p) over its entries i, in all layers it reaches.

    With ``p=1, reduction="first"`` this is the filter L1 norm of Li et al. 2017 that FedMP prunes by (Jiang et al.
    2022, §IV). Computed once a round, since the global weights don't change within it.

    Args:
        p: 1 (absolute values) or 2 (squares).
        reduction: ``sum`` over all entries, their ``mean`` (|θ|^p averaged before the root), or only the rows of the
            group's ``first`` layer.
        normalizer: ``mean`` divides by the group's mean, so that groups compare under a global scope; None leaves it.
    """

    def __init__(
        self, p: Literal[1, 2] = 2, reduction: Reduction = "sum", normalizer: Literal["mean"] | None = "mean"
    ) -> None:
        if p not in (1, 2):
            raise ConfigError(f"p={p} is not a norm of Magnitude: use 1 or 2")
        if reduction not in ("sum", "mean", "first"):
            raise ConfigError(f"reduction={reduction!r} is not one of 'sum', 'mean', 'first'")
        self.p = p
        self.reduction: Reduction = reduction
        self.normalizer = normalizer
        self._plan: SubmodelPlan | None = None
        self._reduce: UnitReduction | None = None
        self._round_idx = -1
        self._scores: Tensor | None = None

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        if self._scores is None or state.round_idx != self._round_idx or state.plan is not self._plan:
            if self._reduce is None or state.plan is not self._plan:
                self._plan, self._reduce = state.plan, UnitReduction(state.plan.structure, self.reduction)
            self._round_idx, self._scores = state.round_idx, self._of(state.weights, self._reduce, state.plan)
        return self._scores

    def _of(self, weights: Mapping[str, Tensor], reduce: UnitReduction, plan: SubmodelPlan) -> Tensor:
        def power(name: str) -> Tensor | None:
            if name.endswith(_BUFFERS):
                return None
            value = weights[name].detach()
            return value.abs() if self.p == 1 else value.square()

        scores = reduce(power)
        scores = scores if self.p == 1 else scores.sqrt()
        return normalized(scores, plan.groups) if self.normalizer == "mean" else scores
