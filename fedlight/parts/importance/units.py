"""From values per entry to one number per unit: sums over everything that a unit owns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, final

import torch
from torch import Tensor

from fedlight.errors import ConfigError
from fedlight.submodels.structure import Group, Structure

Reduction = Literal["sum", "mean", "first"]
"""``sum`` or ``mean`` over all entries that a unit owns, or the sum over its rows of the group's first layer."""

Normalizer = Literal["mean", "max", "sum"]
"""What a group's scores are divided by, so that groups compare under a global scope."""

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


@final
class Reducer:
    """From a value per entry to a score per unit: reduction over what a unit owns, then a normaliser by group.

    Args:
        reduction: ``sum``, ``mean`` or ``first``.
        normalizer: what each group's scores are divided by; None: nothing.

    Raises:
        ConfigError: an unknown reduction or normaliser.
    """

    def __init__(self, reduction: Reduction, normalizer: Normalizer | None) -> None:
        if reduction not in ("sum", "mean", "first"):
            raise ConfigError(f"reduction={reduction!r} is unknown: use 'sum', 'mean' or 'first'")
        if normalizer not in (None, "mean", "max", "sum"):
            raise ConfigError(f"normalizer={normalizer!r} is unknown: use 'mean', 'max', 'sum', or leave it out (null)")
        self.reduction: Reduction = reduction
        self.normalizer = normalizer
        self._structure: Structure | None = None

    def over(self, structure: Structure) -> UnitSums:
        """Return the sums over the entries that count."""
        if structure is not self._structure:
            self._structure = structure
            self._sums = UnitSums(structure, first_only=self.reduction == "first")
            self._sizes = self._sums(lambda name: torch.ones(()).expand(structure.shapes[name])).clamp(min=1.0)
        return self._sums

    def reduce(self, structure: Structure, value_of: Callable[[str], Tensor | None]) -> Tensor:
        """Return float64[num_units], not normalised."""
        sums = self.over(structure)(value_of)
        return sums / self._sizes if self.reduction == "mean" else sums

    def of_means(self, structure: Structure, means: Tensor) -> Tensor:
        """Return what :meth:`reduce` would for entries that all had their unit's mean."""
        self.over(structure)
        return means if self.reduction == "mean" else means * self._sizes

    def normalize(self, scores: Tensor, groups: Sequence[Group]) -> Tensor:
        """Divide each group's scores by their mean, maximum or sum; all-zero groups stay."""
        return scores if self.normalizer is None else normalized(scores, groups, self.normalizer)


def normalized(scores: Tensor, groups: Sequence[Group], by: Normalizer = "mean") -> Tensor:
    """Divide each group's scores by their mean (or maximum, or sum); all-zero groups stay."""
    result = scores.clone()
    for group in groups:
        of_group = scores[group.units]
        scale = float(of_group.max()) if by == "max" else float(of_group.sum())
        scale /= group.size if by == "mean" else 1
        if scale > 0:
            result[group.units] /= scale
    return result
