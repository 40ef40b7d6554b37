"""Importance from the scales of normalisation layers."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import RoundState
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.units import Normalizer, Reducer, Reduction
from fedlight.submodels.structure import Structure


@final
class NormScale(Importance):
    """Scale of a unit in the normalisation layers behind it: s_u = Σ |γ_u| over the layers that it passes.

    Z. Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming (network slimming), there
    with an L1 penalty on γ; Sub-FedAvg (Hy) prunes by it. Scales are the one-dimensional ``weight`` tensors that a
    unit owns beside a ``bias`` or a ``running_var``. All γ start at 1, so the first choice goes by index. In a group
    without such a layer :class:`Magnitude` decides.

    Args:
        normalizer: ``mean``, ``max`` or ``sum``: what a group's scores are divided by, so that groups compare under a
            global scope; None leaves them (then groups without normalisation don't compare).
        reduction: ``sum`` over the layers, their ``mean``, or the ``first`` one's.
    """

    def __init__(self, normalizer: Normalizer | None = "mean", reduction: Reduction = "mean") -> None:
        self.normalizer = normalizer
        self.reduction = reduction
        self._reducer = Reducer(reduction, normalizer)
        self._fallback = Magnitude(normalizer=normalizer)

    @torch.no_grad()
    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        structure = state.plan.structure
        sums = torch.zeros(2, structure.num_units, dtype=torch.float64)  # of scales, of layers
        for name in _scales(structure):
            (owner,) = structure.axes[name]
            if owner is None:
                continue
            fresh = (sums[1] == 0) if self.reduction == "first" else torch.ones(structure.num_units, dtype=torch.bool)
            counted = (owner >= 0) & fresh[owner]
            values = state.weights[name].detach().abs().to("cpu", torch.float64)
            sums[0].index_add_(0, owner[counted], values[counted])
            sums[1].index_add_(0, owner[counted], torch.ones(int(counted.sum()), dtype=torch.float64))
        scores = sums[0] / sums[1].clamp(min=1.0) if self.reduction == "mean" else sums[0]
        scores = self._reducer.normalize(scores, state.plan.groups)
        for group in state.plan.groups:
            if not bool(sums[1][group.units].any()):
                scores[group.units] = self._fallback.scores(state, client)[group.units]
        return scores


def _scales(structure: Structure) -> list[str]:
    shapes = structure.shapes
    return [
        name
        for name, axes in structure.axes.items()
        if len(axes) == 1
        and name.rpartition(".")[2] == "weight"
        and any(f"{name.removesuffix('weight')}{other}" in shapes for other in ("bias", "running_var"))
    ]
