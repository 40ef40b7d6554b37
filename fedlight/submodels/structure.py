"""The data that a plan consists of: groups of units, and for every tensor the unit that owns each position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

Axes = tuple[Tensor | None, ...]
"""Per dim of a tensor: int64[size of the dim], the unit that owns each position (-1: always kept); or None."""


@dataclass(frozen=True)
class Group:
    """Units that are chosen together: they compete with each other for the places that a ratio leaves.

    Attributes:
        name: name of the layer that the group was found at, for example ``layer1.0.conv1``.
        kind: ``channels``, ``blocks`` (one channel of every convolution group), ``heads`` or ``hidden``.
        start: first unit; the group owns the units ``start .. start + size - 1``.
        size: number of units.
        partitions: the units fall into this many equal consecutive parts which must keep equally many
            (query heads of each key-value group); 1 for an ordinary group.
        tensors: the (tensor name, dim) pairs whose positions the group's units own.
        route: kinds of operations that the units pass through between layers, for messages.
    """

    name: str
    kind: str
    start: int
    size: int
    partitions: int
    tensors: tuple[tuple[str, int], ...]
    route: tuple[str, ...] = ()

    @property
    def units(self) -> slice:
        """The group's units as a slice of a per-unit vector."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class Structure:
    """What tracing finds: the groups, and the owner of every position of every tensor.

    Attributes:
        groups: in the order of their units; together they own ``0 .. num_units - 1``.
        axes: tensor name (parameters and buffers) to its :data:`Axes`; tensors without prunable dims are left out.
        shapes: shape of every tensor of the full model's state dict.
        unsaved: axes of what the state dict doesn't hold: buffers with ``persistent=False`` by their name, and the
            channels of norm layers without weights by the layer's name (one axis).
    """

    groups: tuple[Group, ...]
    axes: Mapping[str, Axes]
    shapes: Mapping[str, tuple[int, ...]]
    unsaved: Mapping[str, Axes] = field(default_factory=dict)

    @property
    def num_units(self) -> int:
        """Number of units in all groups."""
        return sum(group.size for group in self.groups)


@dataclass(frozen=True)
class Cost:
    """What one submodel costs.

    Attributes:
        parameters: number of parameters.
        macs: multiply-accumulates of one forward pass of one example (1 MAC = 2 FLOPs).
        num_bytes: bytes of its state dict (parameters and float buffers) as it is sent.
    """

    parameters: int
    macs: int
    num_bytes: int
