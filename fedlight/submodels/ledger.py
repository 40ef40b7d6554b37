"""The book of who owns what: collects the units that tracing finds, and refuses two owners of one position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fedlight.errors import UnsupportedModelError
from fedlight.submodels.advice import passed, way_out
from fedlight.submodels.layers import Place, head_places, num_channels, num_kv_heads
from fedlight.submodels.structure import Axes, Group, Structure

_FREE, _WHOLE = -2, -1


@dataclass
class _Found:
    """A group before the units of all groups are numbered in the order of the layers."""

    name: str
    kind: str
    size: int
    partitions: int
    start: int
    places: list[tuple[str, int]]
    route: tuple[str, ...]


class Ledger:
    """Owners of the positions of a model's tensors, while its groups are being found.

    Args:
        module: the full model.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._saved = {name: tuple(t.shape) for name, t in module.state_dict().items() if isinstance(t, Tensor)}
        self._shapes: dict[str, tuple[int, ...]] = dict(self._saved)
        for tensors in (module.named_parameters(), module.named_buffers()):
            self._shapes.update((name, tuple(tensor.shape)) for name, tensor in tensors)
        self._owners: dict[tuple[str, int], Tensor] = {}
        self._claimed: dict[str, Tensor] = {}
        self._groups: list[_Found] = []
        self._num_units = 0

    def layer(self, name: str) -> nn.Module:
        """The full model's layer of this name."""
        return self._module.get_submodule(name)

    def free_outputs(self, name: str, num_outputs: int) -> Tensor:
        """Output channels of a layer that no group has taken yet."""
        return (~self._claims(name, num_outputs)[:num_outputs]).nonzero().view(-1)

    def draft(self, name: str, channels: Tensor) -> Draft:
        """Open a group at a layer: these output channels are its roots."""
        return Draft(self, name, int(channels.max()) + 1, channels)

    def add_heads(self, name: str, attention: Any, whole: bool) -> None:
        """Add the heads of an attention as a group, unless there is no choice between any."""
        parts = num_kv_heads(attention)
        parts = 1 if parts == attention.num_heads else parts
        if whole or attention.num_heads // parts < 2:
            return
        width = torch.arange(attention.num_heads * attention.head_dim)
        heads = width // attention.head_dim
        entries = [(f"{name}.{p.tensor}" if name else p.tensor, p, width, heads) for p in head_places(attention)]
        self.add(name, "heads", attention.num_heads, parts, entries, ())

    def claim(self, name: str, channels: Tensor) -> None:
        """Note that a group has these output channels of a layer."""
        self._claims(name, int(channels.max()) + 1)[channels] = True

    def channels_of(self, tensor: str, dim: int) -> int:
        """Size of a dim; of a norm without tensors, whose name it is, the number of its channels."""
        return self._shapes[tensor][dim] if tensor in self._shapes else num_channels(self.layer(tensor))

    def add(
        self,
        name: str,
        kind: str,
        size: int,
        partitions: int,
        entries: Sequence[tuple[str, Place, Tensor, Tensor]],
        route: tuple[str, ...],
    ) -> None:
        """Write down a group: for every place the channels and the unit (from 0, -1 for none) that owns each."""
        places: list[tuple[str, int]] = []
        for tensor, place, channels, units in entries:
            owned = torch.where(units >= 0, units + self._num_units, _WHOLE)
            for offset in place.offsets:
                positions = (channels % place.period if place.wraps else channels) + offset
                self._write(name, route, tensor, place.dim, positions, owned)
            if bool((units >= 0).any()) and tensor in self._saved and (tensor, place.dim) not in places:
                places.append((tensor, place.dim))
        self._groups.append(_Found(name, kind, size, partitions, self._num_units, places, route))
        self._num_units += size

    def structure(self) -> Structure:
        """Number the groups' units in the order of the layers."""
        order = {name: index for index, (name, _) in enumerate(self._module.named_modules())}
        final = torch.full((self._num_units + 1,), -1)  # the last entry serves owner -1
        groups, start = [], 0
        for found in sorted(self._groups, key=lambda found: order[found.name]):
            final[found.start : found.start + found.size] = torch.arange(start, start + found.size)
            tensors = tuple(found.places)
            groups.append(Group(found.name, found.kind, start, found.size, found.partitions, tensors, found.route))
            start += found.size
        axes: dict[str, list[Tensor | None]] = {}
        for (tensor, dim), owners in self._owners.items():
            if bool((owners >= 0).any()):
                dims = len(self._shapes[tensor]) if tensor in self._shapes else 1
                axes.setdefault(tensor, [None] * dims)[dim] = final[owners.clamp(min=_WHOLE)]
        ordered = [name for name in (*self._shapes, *axes) if name in axes]
        whole: dict[str, Axes] = {name: tuple(axes[name]) for name in ordered}
        return Structure(
            groups=tuple(groups),
            axes={name: dims for name, dims in whole.items() if name in self._saved},
            shapes=self._saved,
            unsaved={name: dims for name, dims in whole.items() if name not in self._saved},
        )

    def _claims(self, name: str, num_outputs: int) -> Tensor:
        known = self._claimed.get(name, torch.zeros(0, dtype=torch.bool))
        if len(known) < num_outputs:
            known = torch.cat([known, torch.zeros(num_outputs - len(known), dtype=torch.bool)])
            self._claimed[name] = known
        return known

    def _write(
        self, group: str, route: tuple[str, ...], tensor: str, dim: int, positions: Tensor, units: Tensor
    ) -> None:
        size = self.channels_of(tensor, dim)
        owners = self._owners.setdefault((tensor, dim), torch.full((size,), _FREE))
        if len(positions) and not 0 <= int(positions.min()) <= int(positions.max()) < size:
            raise UnsupportedModelError(
                f"layer {group!r}: its channels reach position {int(positions.max())} of {tensor!r}, dim {dim}, which "
                f"has {size}{passed(route)}: {way_out(group, route)}"
            )
        before = owners[positions]
        owners[positions] = units
        clash = ((before != _FREE) & (before != units)) | (owners[positions] != units)
        if bool(clash.any()):
            raise UnsupportedModelError(
                f"layer {group!r}: two units own one position of {tensor!r}, dim {dim}, as channels are folded into "
                f"each other or read twice{passed(route)}: {way_out(group, route)}"
            )


@dataclass
class Draft:
    """A group being collected: its roots (output channels of one layer), what belongs to each, and who goes together.

    Attributes:
        route: operations that its channels pass through.
    """

    ledger: Ledger
    name: str
    num_roots: int
    channels: Tensor
    route: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._label = torch.arange(self.num_roots)  # roots with one label go together
        self._whole = torch.zeros(self.num_roots, dtype=torch.bool)
        self._entries: list[tuple[str, Place, Tensor, Tensor]] = []
        self._hidden = False

    def own(self, prefix: str, places: Sequence[Place], channels: Tensor, roots: Tensor) -> None:
        """Note that channel ``channels[i]`` of a layer belongs to root ``roots[i]``."""
        for place in places:
            tensor = ".".join(part for part in (prefix, place.tensor) if part)
            self._entries.append((tensor, place, channels, roots))
            if place.period:
                self._tie(channels % place.period, roots)
            self._hidden |= place.tensor.startswith("weight_hh")

    def keep_whole(self, roots: Tensor) -> None:
        """Note that these roots can't be dropped."""
        self._whole[roots] = True

    def close(self) -> None:
        """Make units of the roots, and write them down."""
        self._whole |= torch.zeros_like(self._whole).index_fill_(0, self._label[self._whole], True)[self._label]
        droppable = torch.zeros(self.num_roots, dtype=torch.bool)
        droppable[self.channels] = True
        labels = torch.unique(self._label[droppable & ~self._whole])
        size = len(labels) if len(labels) > 1 else 0  # a group is never emptied, so a single unit has to stay
        units = torch.full((self.num_roots,), -1)
        if size:
            unit_of_label = torch.full((self.num_roots,), -1)
            unit_of_label[labels] = torch.arange(size)
            units = torch.where(self._whole, -1, unit_of_label[self._label])
        tied = len(labels) < int((droppable & ~self._whole).sum())
        kind = "hidden" if self._hidden else "blocks" if tied else "channels"
        entries = [(tensor, place, channels, units[roots]) for tensor, place, channels, roots in self._entries]
        if size:
            self.ledger.add(self.name, kind, size, 1, entries, tuple(dict.fromkeys(self.route)))

    def _tie(self, remainders: Tensor, roots: Tensor) -> None:
        """Give one label to all roots of equal remainder, and to those that already share one with them."""
        while True:
            lowest = torch.full((int(remainders.max()) + 1,), self.num_roots)
            lowest.scatter_reduce_(0, remainders, self._label[roots], "amin")
            target = self._label.clone()
            target.scatter_reduce_(0, self._label[roots], lowest[remainders], "amin")
            if bool((target[self._label] == self._label).all()):
                return
            self._label = target[self._label]
