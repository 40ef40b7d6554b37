"""From values per entry to one number per unit: sums over everything that a unit owns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor

from fedlight.submodels.structure import Group, Structure

Reduction = Literal["sum", "mean", "first"]
"""``sum`` or ``mean`` over all entries that a unit owns, or the sum over its rows of the group's first layer."""

BUFFERS = ("running_mean", "running_var")
"""Last parts of the names of float buffers that units own: running statistics aren't weights of theirs."""


@final
class UnitSums:
    """Σ over the entries that a unit owns, for every unit: (tensor, dim, position) triples of the plan's axes.

    An entry of a weight between two groups is owned by a unit of each and counts for both.

    Args:
        structure: groups, axes and shapes of the plan.
        first_only: count only each unit's rows of its group's first layer.
    """

    def __init__(self, structure: Structure, first_only: bool = False) -> None:
        self.num_units = structure.num_units
        first = {_first_layer(group, structure) for group in structure.groups}
        self._axes: list[tuple[str, int, Tensor]] = [
            (name, dim, axis)
            for name, axes in structure.axes.items()
            for dim, axis in enumerate(axes)
            if axis is not None and not name.endswith(BUFFERS) and (not first_only or (name, dim) in first)
        ]

    def __call__(self, value_of: Callable[[str], Tensor | None], keep: Tensor | None = None) -> Tensor:
        """Sum values to float64[num_units] on the CPU.

        Args:
            value_of: tensor name to its values; asked for one tensor at a time; None: it counts nothing.
            keep: bool[num_units] if the values have the shape of the submodel that keeps these units.
        """
        sums = torch.zeros(self.num_units, dtype=torch.float64)
        last_name, value = "", None
        for name, dim, axis in self._axes:
            if name != last_name:
                last_name, value = name, value_of(name)
            if value is None:
                continue
            units = axis if keep is None else axis[(axis < 0) | keep[axis]]  # keep[-1] is read but not used
            owned = units >= 0
            sums.index_add_(0, units[owned], _sum_others(value, dim).cpu()[owned])
        return sums


def _sum_others(value: Tensor, dim: int) -> Tensor:
    """Sum over all dims but one, in float64; leading dims go first, since rows of memory add up fastest."""
    before = value.flatten(0, dim - 1).sum(0, dtype=torch.float64) if dim > 0 else value
    return before.flatten(1).sum(1, dtype=torch.float64) if before.dim() > 1 else before.to(torch.float64)


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
