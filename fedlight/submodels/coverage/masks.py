"""Coverage by weight masks: full shapes with zeros."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from fedlight.errors import DataError
from fedlight.submodels.coverage.coverage import Coverage, State
from fedlight.submodels.coverage.shapes import check_names, check_shape, full_shape
from fedlight.submodels.structure import Structure


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
            check_shape(name, mask, full_shape(self._shapes, name))
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
        check_names(self._shapes, state, "state")
        return {name: self.gather(name, tensor) for name, tensor in state.items()}

    def regrow(self, thin: State, base: State) -> dict[str, Tensor]:
        """Copy ``base`` with the client's values at the covered entries."""
        check_names(self._shapes, thin, "thin state")
        check_names(self._shapes, base, "base")
        grown = {}
        for name, value in thin.items():
            check_shape(name, base[name], self._shapes[name])
            check_shape(name, value, self._shapes[name])
            mask, old = self.masks.get(name), base[name].detach()
            if mask is None:
                grown[name] = value.detach().clone()
            else:
                changed = _bits(old) ^ _bits(value.detach().to(old.dtype))
                grown[name] = (_bits(old) ^ (changed & _ones(mask, changed))).view(old.dtype)
        return grown

    def gather(self, name: str, full: Tensor) -> Tensor:
        """Copy one tensor, with zeros where it isn't covered."""
        check_shape(name, full, full_shape(self._shapes, name))
        mask, bits = self.masks.get(name), _bits(full.detach())
        return full.detach().clone() if mask is None else (bits & _ones(mask, bits)).view(full.dtype)

    def scatter_add_(self, name: str, total: Tensor, value: Tensor, weight: float) -> None:
        """Add ``weight * value`` at the covered entries of ``total``, whatever ``value`` holds elsewhere."""
        check_shape(name, total, full_shape(self._shapes, name))
        total.add_(self.gather(name, value), alpha=weight)

    def count_shape(self, name: str) -> tuple[int, ...]:
        """The full shape, also without a mask: another client may have one."""
        return full_shape(self._shapes, name)

    def count_add_(self, name: str, counts: Tensor, weight: float) -> None:
        """Add ``weight`` at the covered entries of ``counts``."""
        check_shape(name, counts, full_shape(self._shapes, name))
        mask = self.masks.get(name)
        if mask is None:
            counts.add_(weight)
        else:
            counts.add_(mask.to(counts.device, counts.dtype), alpha=weight)

    def thin_shape(self, name: str) -> tuple[int, ...]:
        """The full shape."""
        return full_shape(self._shapes, name)

    def layer_sparsity(self) -> dict[str, float]:
        """Share of False in each mask, by the name of the tensor without ``.weight``."""
        return {name.removesuffix(".weight"): 1 - int(mask.sum()) / mask.numel() for name, mask in self.masks.items()}

    def state_dict(self) -> dict[str, Any]:
        """The masks that leave something out."""
        return {"kind": "masks", "masks": {name: mask.clone() for name, mask in self.masks.items()}}


def _bits(tensor: Tensor) -> Tensor:
    """View the bits as integers: masking them is exact, also for NaN, and 4 times faster than torch.where."""
    return tensor.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def _ones(mask: Tensor, like: Tensor) -> Tensor:
    return mask.to(like.device, like.dtype).neg_()  # True is -1, all bits set
