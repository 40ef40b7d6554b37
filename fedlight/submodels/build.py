"""Building: a physically smaller module of the same class, around thin tensors."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from fedlight.errors import CheckpointError
from fedlight.submodels.coverage import ChannelCoverage
from fedlight.submodels.layers import is_attention, num_channels, rule_of
from fedlight.submodels.structure import Axes, Structure

Module = TypeVar("Module", bound=nn.Module)


class Builder:
    """Builds submodels of one architecture.

    Args:
        module: the full model, or another instance of it.
        structure: its structure.
    """

    def __init__(self, module: nn.Module, structure: Structure) -> None:
        self._structure = structure
        owners = {name.rpartition(".")[0] for name in structure.axes} | set(structure.unsaved)
        # An attention is listed behind its layers, whose widths tell how many heads are left.
        resized = [
            name
            for name, layer in module.named_modules()
            if name in owners or (is_attention(layer) and any(owner.startswith(f"{name}.") for owner in owners))
        ]
        self._resized = [name for name in resized if rule_of(module.get_submodule(name)) is not None]

    def build(self, module: Module, keep: Tensor) -> Module:
        """Copy ``module`` with the kept positions of its tensors alone, and set the attributes of its layers.

        Everything else comes along as :func:`copy.deepcopy` has it; parameters that don't require gradients still
        don't, and those in channels-last memory format are so again.

        Args:
            module: an instance of the architecture; it stays as it is.
            keep: bool[num_units].

        Raises:
            CheckpointError: a module of another architecture.
            DataError: a keep set of another length, or one that empties a group.
        """
        coverage = ChannelCoverage(self._structure, keep)
        memo: dict[int, object] = {}
        widths: dict[str, int] = {}
        for name, parameter in module.named_parameters():
            cut = self._cut(coverage, name, parameter)
            memo[id(parameter)] = nn.Parameter(cut, requires_grad=parameter.requires_grad)
        for name, buffer in module.named_buffers():
            memo[id(buffer)] = self._cut(coverage, name, buffer)
        for name, axes in self._structure.unsaved.items():
            widths[name] = _kept(axes, keep)[0][1].numel()
        # Tensors that are already in the memo are taken from there instead of being copied.
        thin = copy.deepcopy(module, memo)
        for name in self._resized:
            layer = thin.get_submodule(name)
            rule = rule_of(layer)
            assert rule is not None  # noqa: S101 - chosen for having one
            tensors = [*layer.parameters(recurse=False), *(b for b in layer.buffers(recurse=False) if b.dim())]
            rule.resize(layer, widths[name] if name in widths else len(tensors[0]) if tensors else num_channels(layer))
        return thin

    def _cut(self, coverage: ChannelCoverage, name: str, tensor: Tensor) -> Tensor:
        if name in self._structure.shapes:
            return coverage.gather(name, tensor).contiguous(memory_format=_memory_format(tensor))
        if name in self._structure.unsaved:
            cut = tensor.detach()
            for dim, kept in _kept(self._structure.unsaved[name], coverage.keep):
                cut = cut.index_select(dim, kept.to(cut.device))
            return cut
        if isinstance(tensor, nn.Parameter):
            raise CheckpointError(
                f"parameter {name!r} is not in the model that the plan was traced on: trace this model"
            )
        return tensor.detach().clone()


def _memory_format(tensor: Tensor) -> torch.memory_format:
    """Channels-last convolutions stay so: on a CPU that matters most for narrow ones."""
    for num_dims, memory_format in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if (
            tensor.dim() == num_dims
            and not tensor.is_contiguous()
            and tensor.is_contiguous(memory_format=memory_format)
        ):
            return memory_format
    return torch.contiguous_format


def _kept(axes: Axes, keep: Tensor) -> list[tuple[int, Tensor]]:
    kept_or_fixed = torch.cat([keep.cpu(), torch.ones(1, dtype=torch.bool)])  # owner -1 finds the last
    return [(dim, kept_or_fixed[axis].nonzero().view(-1)) for dim, axis in enumerate(axes) if axis is not None]
