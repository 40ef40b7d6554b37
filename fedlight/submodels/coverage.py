"""Coverage: which entries of the global model a submodel holds; the one seam through which updates come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from fedlight.errors import CheckpointError, DataError
from fedlight.submodels.axes import axis_classes
from fedlight.submodels.positions import Dims, Kept, Offsets, all_runs, runs
from fedlight.submodels.structure import Structure

State = Mapping[str, Tensor]


class Coverage(ABC):
    """Which entries of every tensor of the global model a client holds, and how its tensors map to them.

    ``state`` means a whole state dict of the model: the names and shapes of ``Structure.shapes``, no more and no less.
    Every method raises :class:`~fedlight.errors.CheckpointError` for a name or a shape that the model doesn't have.
    Integer buffers are tensors like any other here: no unit owns them, so they pass through as they are.

    Attributes:
        keep: bool[num_units], the units that the client's network has.
        masks: bool masks by tensor name, True = covered, where coverage is by weights; else None.
    """

    keep: Tensor
    masks: Mapping[str, Tensor] | None

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether every entry is covered."""

    @abstractmethod
    def slice(self, state: State) -> dict[str, Tensor]:
        """Copy what the client gets out of the global state; bit-exact."""

    @abstractmethod
    def regrow(self, thin: State, base: State) -> dict[str, Tensor]:
        """Copy ``base`` and put the client's entries where they came from; bit-exact, ``base`` elsewhere."""

    @abstractmethod
    def gather(self, name: str, full: Tensor) -> Tensor:
        """Copy the covered entries of one full tensor, in the client's shape."""

    @abstractmethod
    def scatter_add_(self, name: str, total: Tensor, value: Tensor, weight: float) -> None:
        """Add in place: ``total[covered] += weight * value``, in the precision of ``total``.

        Args:
            name: name of the tensor in the state dict.
            total: contiguous, full shape, float.
            value: client's shape.
            weight: weight of the client.
        """

    @abstractmethod
    def count_shape(self, name: str) -> tuple[int, ...]:
        """Shape of the counts of one tensor: broadcasts to its full shape, the same for every client."""

    @abstractmethod
    def count_add_(self, name: str, counts: Tensor, weight: float) -> None:
        """Add in place: ``counts[covered] += weight``, with contiguous ``counts`` of :meth:`count_shape`."""

    @abstractmethod
    def thin_shape(self, name: str) -> tuple[int, ...]:
        """Shape that the client has for one tensor."""

    @abstractmethod
    def layer_sparsity(self) -> dict[str, float]:
        """Fraction of each layer that is removed, in [0, 1), by layer; layers without an entry lose nothing."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which :func:`coverage_from_state` makes an equal coverage."""


@final
class ChannelCoverage(Coverage):
    """Coverage by units: a client's tensors are physically smaller.

    Kept positions are found once per distinct owner vector, not per tensor. Where they are one contiguous run (prefix
    submodels), tensors are cut as views, 5 to 8 times faster than by index.

    Args:
        structure: units of the model, and their owners.
        keep: bool[num_units]; must leave at least one unit of each group.
    """

    def __init__(self, structure: Structure, keep: Tensor) -> None:
        if keep.shape != (structure.num_units,) or keep.dtype != torch.bool:
            raise DataError(
                f"keep is {keep.dtype}{list(keep.shape)}, but the model has {structure.num_units} units: "
                "pass bool[num_units] as SubmodelPlan.keep returns it"
            )
        self.keep = keep.detach().to("cpu", copy=True)
        self.masks = None
        for group in structure.groups:
            if not bool(self.keep[group.units].any()):
                raise DataError(f"keep leaves no unit of group {group.name!r}: keep at least one")
        self._structure = structure
        self._full = bool(self.keep.all())
        self._dims = {} if self._full else self._kept_dims()
        self._known: dict[tuple[torch.Size, Dims, torch.device], Offsets] = {}

    @property
    def is_full(self) -> bool:
        """Whether every unit is kept."""
        return self._full

    def slice(self, state: State) -> dict[str, Tensor]:
        """Cut the kept positions out of every tensor."""
        _check_names(self._structure.shapes, state, "state")
        return {name: self.gather(name, tensor) for name, tensor in state.items()}

    def regrow(self, thin: State, base: State) -> dict[str, Tensor]:
        """Copy ``base`` and put thin tensors at their positions."""
        _check_names(self._structure.shapes, thin, "thin state")
        _check_names(self._structure.shapes, base, "base")
        grown = {}
        for name, value in thin.items():
            _check_shape(name, base[name], self._structure.shapes[name])
            _check_shape(name, value, self.thin_shape(name))
            grown[name] = self._regrown(name, value, base[name])
        return grown

    def gather(self, name: str, full: Tensor) -> Tensor:
        """Cut the kept positions out of one tensor."""
        _check_shape(name, full, _shape(self._structure.shapes, name))
        dims = self._dims.get(name)
        if dims is None:
            return full.detach().clone()
        cut = full.detach()
        for dim, kept in enumerate(dims):  # views first: they leave less for the copies to read
            if kept is not None and kept.is_run:
                cut = cut.narrow(dim, kept.first, kept.count)
        for dim, kept in enumerate(dims):
            if kept is not None and not kept.is_run:
                cut = kept.select(cut, dim)
        return cut.clone(memory_format=torch.contiguous_format) if all_runs(dims) else cut

    def scatter_add_(self, name: str, total: Tensor, value: Tensor, weight: float) -> None:
        """Add ``weight * value`` at the kept positions of ``total``."""
        _check_shape(name, total, _shape(self._structure.shapes, name))
        _check_shape(name, value, self.thin_shape(name))
        dims = self._dims.get(name)
        if dims is None:
            total.add_(value, alpha=weight)
        elif all_runs(dims):
            runs(total, dims).add_(value, alpha=weight)
        else:
            self._offsets(total, dims).add_(total.view(-1), value.detach().reshape(-1), weight)

    def count_shape(self, name: str) -> tuple[int, ...]:
        """Shape of the counts: 1 on the dims that no unit owns, so a 3x3 convolution's are 9 times smaller."""
        shape = _shape(self._structure.shapes, name)
        classes = axis_classes(self._structure).of_dims.get(name, (-1,) * len(shape))
        return tuple(size if found >= 0 else 1 for size, found in zip(shape, classes, strict=True))

    def count_add_(self, name: str, counts: Tensor, weight: float) -> None:
        """Add ``weight`` at the kept positions of ``counts``."""
        _check_shape(name, counts, self.count_shape(name))
        dims = self._dims.get(name)
        if dims is None:
            counts.add_(weight)
        elif all_runs(dims):
            runs(counts, dims).add_(weight)
        else:
            self._offsets(counts, dims).add_constant_(counts.view(-1), weight)

    def thin_shape(self, name: str) -> tuple[int, ...]:
        """Full shape with the number of kept positions on every prunable dim."""
        shape = _shape(self._structure.shapes, name)
        dims = self._dims.get(name, (None,) * len(shape))
        return tuple(size if kept is None else kept.count for size, kept in zip(shape, dims, strict=True))

    def layer_sparsity(self) -> dict[str, float]:
        """Fraction of each group's units that is removed, by the group's name."""
        return {group.name: 1 - int(self.keep[group.units].sum()) / group.size for group in self._structure.groups}

    def state_dict(self) -> dict[str, Any]:
        """The keep set."""
        return {"kind": "channels", "keep": self.keep.clone()}

    def _offsets(self, tensor: Tensor, dims: Dims) -> Offsets:
        key = (tensor.shape, dims, tensor.device)
        if key not in self._known:
            self._known[key] = Offsets(tensor.shape, dims, tensor.device)
        return self._known[key]

    def _kept_dims(self) -> dict[str, Dims]:
        classes = axis_classes(self._structure)
        keep = torch.cat([self.keep, torch.ones(1, dtype=torch.bool)])  # owner -1 finds the last: always kept
        of_class = [Kept.of(keep, *found) for found in zip(classes.owners, classes.blocks, strict=True)]
        return {
            name: dims
            for name, found in classes.of_dims.items()
            if any(dims := tuple(None if index < 0 else of_class[index] for index in found))
        }

    def _regrown(self, name: str, value: Tensor, base: Tensor) -> Tensor:
        dims = self._dims.get(name)
        if dims is None:
            return value.detach().clone()
        grown = base.detach().clone(memory_format=torch.contiguous_format)
        if all_runs(dims):
            runs(grown, dims).copy_(value)
            return grown
        self._offsets(grown, dims).put_(grown.view(-1), value.detach().reshape(-1).to(grown.dtype))
        return grown


@final
class MaskCoverage(Coverage):
    """Coverage by weight masks: a client's tensors have the full shape, with zeros where they aren't covered.

    Args:
        structure: units of the model, all of which stay, and shapes of its tensors.
        masks: tensor name to bool mask of the tensor's shape, True = covered; other tensors are fully covered.
    """

    def __init__(self, structure: Structure, masks: Mapping[str, Tensor]) -> None:
        self._shapes = structure.shapes
        self.keep = torch.ones(structure.num_units, dtype=torch.bool)
        self.masks: dict[str, Tensor] = {}
        for name, mask in masks.items():
            _check_shape(name, mask, _shape(self._shapes, name))
            if mask.dtype != torch.bool:
                raise DataError(f"mask of {name!r} is {mask.dtype}: pass bool, True where the entry is covered")
            if not bool(mask.all()):
                self.masks[name] = mask.detach().clone()

    @property
    def is_full(self) -> bool:
        """Whether no mask leaves anything out."""
        return not self.masks

    def slice(self, state: State) -> dict[str, Tensor]:
        """Copy every tensor, with zeros where it isn't covered."""
        _check_names(self._shapes, state, "state")
        return {name: self.gather(name, tensor) for name, tensor in state.items()}

    def regrow(self, thin: State, base: State) -> dict[str, Tensor]:
        """Copy ``base`` with the client's values at the covered entries."""
        _check_names(self._shapes, thin, "thin state")
        _check_names(self._shapes, base, "base")
        grown = {}
        for name, value in thin.items():
            _check_shape(name, base[name], self._shapes[name])
            _check_shape(name, value, self._shapes[name])
            mask, old = self.masks.get(name), base[name].detach()
            if mask is None:
                grown[name] = value.detach().clone()
            else:
                changed = _bits(old) ^ _bits(value.detach().to(old.dtype))
                grown[name] = (_bits(old) ^ (changed & _ones(mask, changed))).view(old.dtype)
        return grown

    def gather(self, name: str, full: Tensor) -> Tensor:
        """Copy one tensor, with zeros where it isn't covered."""
        _check_shape(name, full, _shape(self._shapes, name))
        mask, bits = self.masks.get(name), _bits(full.detach())
        return full.detach().clone() if mask is None else (bits & _ones(mask, bits)).view(full.dtype)

    def scatter_add_(self, name: str, total: Tensor, value: Tensor, weight: float) -> None:
        """Add ``weight * value`` at the covered entries of ``total``, whatever ``value`` holds elsewhere."""
        _check_shape(name, total, _shape(self._shapes, name))
        total.add_(self.gather(name, value), alpha=weight)

    def count_shape(self, name: str) -> tuple[int, ...]:
        """The full shape, also without a mask: another client may have one."""
        return _shape(self._shapes, name)

    def count_add_(self, name: str, counts: Tensor, weight: float) -> None:
        """Add ``weight`` at the covered entries of ``counts``."""
        _check_shape(name, counts, _shape(self._shapes, name))
        mask = self.masks.get(name)
        if mask is None:
            counts.add_(weight)
        else:
            counts.add_(mask.to(counts.device, counts.dtype), alpha=weight)

    def thin_shape(self, name: str) -> tuple[int, ...]:
        """The full shape."""
        return _shape(self._shapes, name)

    def layer_sparsity(self) -> dict[str, float]:
        """Share of False in each mask, by the name of the tensor without ``.weight``."""
        return {name.removesuffix(".weight"): 1 - int(mask.sum()) / mask.numel() for name, mask in self.masks.items()}

    def state_dict(self) -> dict[str, Any]:
        """The masks that leave something out."""
        return {"kind": "masks", "masks": {name: mask.clone() for name, mask in self.masks.items()}}


def coverage_from_state(structure: Structure, state: Mapping[str, Any]) -> Coverage:
    """Make the coverage that :meth:`Coverage.state_dict` described.

    Raises:
        CheckpointError: a kind of coverage that isn't known.
        DataError: a keep set or a mask that doesn't fit the model.
    """
    if state.get("kind") == "channels":
        return ChannelCoverage(structure, state["keep"])
    if state.get("kind") == "masks":
        return MaskCoverage(structure, state["masks"])
    raise CheckpointError(f"coverage of kind {state.get('kind')!r}: this version knows 'channels' and 'masks'")


def _bits(tensor: Tensor) -> Tensor:
    """View the bits as integers: masking them is exact, also for NaN, and 4 times faster than torch.where."""
    return tensor.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def _ones(mask: Tensor, like: Tensor) -> Tensor:
    return mask.to(like.device, like.dtype).neg_()  # True is -1, all bits set


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    if name not in shapes:
        raise CheckpointError(f"tensor {name!r} is not in the model that the plan was traced on: trace this model")
    return tuple(shapes[name])


def _check_names(shapes: Mapping[str, tuple[int, ...]], state: State, what: str) -> None:
    if state.keys() != shapes.keys():
        missing, extra = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
        raise CheckpointError(
            f"{what} has other tensors than the model that the plan was traced on (missing {missing[:3]}, "
            f"unknown {extra[:3]}): pass a whole state dict of that model"
        )


def _check_shape(name: str, tensor: Tensor, expected: Sequence[int]) -> None:
    if tuple(tensor.shape) != tuple(expected):
        raise CheckpointError(
            f"tensor {name!r} has shape {tuple(tensor.shape)}, expected {tuple(expected)}: "
            "it comes from another model or another keep set"
        )
