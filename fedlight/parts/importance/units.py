"""From values per entry to one number per unit: sums over everything that a unit owns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor

from fedlight.submodels.structure import Group, Structure

Reduction = Literal["sum", "mean", "first"]
"""``sum`` or ``mean`` over all entries that a unit owns, or the sum over its rows of the group's first layer."""


@final
class UnitReduction:
    """Σ over the entries that a unit owns, for every unit: (tensor, dim, position) triples of the plan's axes.

    An entry of a weight between two groups is owned by a unit of each and counts for both.

    Args:
        structure: groups, axes and shapes of the plan.
        reduction: which entries count, and whether the sum is divided by their number.
    """

    def __init__(self, structure: Structure, reduction: Reduction) -> None:
        self.num_units = structure.num_units
        self._divide = reduction == "mean"
        first = {_first_layer(group, structure) for group in structure.groups} if reduction == "first" else None
        self._owned: dict[str, list[tuple[int, Tensor, Tensor]]] = {}
        for name, axes in structure.axes.items():
            for dim, axis in enumerate(axes):
                if axis is None or (first is not None and (name, dim) not in first):
                    continue
                positions = torch.nonzero(axis >= 0).flatten()
                self._owned.setdefault(name, []).append((dim, positions, axis[positions]))

    @property
    def names(self) -> list[str]:
        """Tensors that are read."""
        return list(self._owned)

    def __call__(self, value_of: Callable[[str], Tensor | None]) -> Tensor:
        """Reduce non-negative values to float64[num_units] on the CPU.

        Args:
            value_of: tensor name to its values in full shape, asked for one at a time; None: it counts nothing.
        """
        sums = torch.zeros(self.num_units, dtype=torch.float64)
        entries = torch.zeros(self.num_units, dtype=torch.float64)
        for name, owned in self._owned.items():
            value = value_of(name)
            if value is None:
                continue
            for dim, positions, units in owned:
                along = _sum_others(value, dim).to("cpu", torch.float64)
                sums.index_add_(0, units, along[positions])
                if self._divide:
                    share = torch.full((len(units),), value.numel() / value.shape[dim], dtype=torch.float64)
                    entries.index_add_(0, units, share)
        return sums / entries.clamp(min=1.0) if self._divide else sums


def _sum_others(value: Tensor, dim: int) -> Tensor:
    """Sum over all dims but one; leading dims go first, since rows of memory add up fastest."""
    before = value.flatten(0, dim - 1).sum(0) if dim > 0 else value
    return before.flatten(1).sum(1) if before.dim() > 1 else before


def _first_layer(group: Group, structure: Structure) -> tuple[str, int]:
    """Return the weight whose rows are the group's units: its first tensor of two dims or more that is cut in dim 0."""
    rows = [(name, dim) for name, dim in group.tensors if dim == 0 and len(structure.shapes[name]) > 1]
    return rows[0] if rows else group.tensors[0]


def normalized(scores: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Divide each group's scores by their mean, so that groups of unequal size compare; all-zero groups stay."""
    result = scores.clone()
    for group in groups:
        mean = float(scores[group.units].mean())
        if mean > 0:
            result[group.units] /= mean
    return result
