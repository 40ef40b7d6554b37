"""What a submodel costs, in closed form: measured once on the full model, then priced from kept counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from fedlight.errors import DataError
from fedlight.submodels.axes import axis_classes
from fedlight.submodels.inputs import tensors_in
from fedlight.submodels.structure import Cost, Group, Structure

Floats = npt.NDArray[np.float64]

_WEIGHT_IS_SECOND = {
    torch.nn.functional.linear,
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
}
_RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}


@final
class CostTable:
    """Prices submodels of one model: parameters, MACs of one example, bytes.

    A tensor's kept size is the product over its dims of ``fixed + sum_g positions_per_unit[g] * kept[g]``. Parameters
    and bytes sum those sizes; a weight's MACs are proportional to its size, by the factor measured on the full model;
    an attention's score products are proportional to its kept heads.

    Made by :meth:`measure`.

    Attributes:
        macs_per_entry: tensor name to the MACs of one example that one of its entries takes part in.
    """

    def __init__(self, structure: Structure, tensors: Sequence[str], rates: Floats, heads: Mapping[int, float]) -> None:
        """Lay out the table.

        Args:
            structure: units and their owners.
            tensors: names of the tensors that count.
            rates: float[3, num_tensors]: parameters, MACs and bytes per entry of each tensor.
            heads: index of a group to MACs per kept unit, -1 to MACs that no unit changes.
        """
        classes = axis_classes(structure)
        self._num_units = structure.num_units
        self._sizes = np.array([group.size for group in structure.groups], dtype=np.int64)
        # Axes: one per class, one per group (its kept units themselves, for score products), and a last of size 1.
        owners = [owner.numpy() for owner in classes.owners]
        owners += [np.arange(group.start, group.start + group.size) for group in structure.groups]
        owners += [np.array([-1])]
        self._owner = np.concatenate(owners)
        self._first = np.cumsum([0] + [len(owner) for owner in owners[:-1]])
        one = len(owners) - 1

        dims, constants = [], []
        for name in tensors:
            shape = structure.shapes[name]
            found = classes.of_dims.get(name, (-1,) * len(shape))
            dims.append([index for index in found if index >= 0])
            constants.append(float(math.prod(size for size, at in zip(shape, found, strict=True) if at < 0)))
        products = list(heads.items())
        dims += [[one if group < 0 else len(classes.owners) + group] for group, _ in products]
        constants += [1.0] * len(products)
        width = max([1, *(len(row) for row in dims)])
        self._dims = np.array([row + [one] * (width - len(row)) for row in dims], dtype=np.int64).reshape(-1, width).T
        extra = np.array([[0.0, macs, 0.0] for _, macs in products]).reshape(-1, 3).T
        self._rates = np.concatenate([rates, extra], axis=1) * np.array(constants)
        self.macs_per_entry = dict(zip(tensors, rates[1].tolist(), strict=True))
        self._fixed, self._per_unit = _linear(owners, structure.groups)

    @classmethod
    def measure(cls, module: nn.Module, example_inputs: Any, structure: Structure) -> CostTable:
        """Measure the full model by one forward pass in evaluation mode; the module is left as it was.

        MACs are counted where the multiplications happen, so a reused layer counts twice, a weight that is used by a
        function counts, and layers that aren't reached count 0. Matrix products without a weight are an attention's
        scores when they happen inside a module with int attributes ``num_heads`` and ``head_dim`` that owns a group
        of heads: they scale with its kept heads; all others are taken as constant. Elementwise work and lookups are 0.

        Args:
            module: the full model.
            example_inputs: a tensor, a tuple of positional or a mapping of keyword arguments, batch first.
            structure: the structure traced on this model.

        Raises:
            DataError: example inputs without a tensor, so there is no batch size to divide by.
        """
        macs, products = _count(module, example_inputs, structure)
        parameters = {name for name, _ in module.named_parameters()}
        rows = [
            (name, float(name in parameters), macs.get(name, 0.0), float(tensor.element_size()))
            for name, tensor in [*module.named_parameters(), *module.named_buffers()]
            if name in structure.shapes and (tensor.is_floating_point() or tensor.is_complex() or name in parameters)
        ]
        rates = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 3).T
        return cls(structure, [row[0] for row in rows], rates, products)

    def cost(self, keep: Tensor) -> Cost:
        """Price one keep set, exactly.

        Args:
            keep: bool[num_units].

        Raises:
            DataError: ``keep`` has another length.
        """
        if keep.shape != (self._num_units,):
            raise DataError(f"keep has shape {tuple(keep.shape)}, but the model has {self._num_units} units")
        kept = np.append(keep.detach().to("cpu", torch.bool).numpy(), True).astype(np.int64)
        return self._price(np.add.reduceat(kept[self._owner], self._first).astype(np.float64))

    def cost_of_counts(self, counts: npt.ArrayLike) -> Cost:
        """Price kept counts, whichever units they are (:func:`~fedlight.submodels.keep.kept_counts`).

        Exact where the units of a group own equally many positions of every dim, as they do in all usual layers;
        elsewhere the expected cost to first order.

        Args:
            counts: int[num_groups], each from 0 to the group's size.

        Raises:
            DataError: another number of counts than groups.
        """
        kept = np.asarray(counts, dtype=np.float64)
        if kept.shape != self._sizes.shape:
            raise DataError(f"counts have shape {kept.shape}, but the model has {len(self._sizes)} groups: one each")
        return self._price(self._fixed + self._per_unit @ kept)

    def _price(self, axes: Floats) -> Cost:
        sizes = axes[self._dims[0]]
        for row in self._dims[1:]:
            sizes = sizes * axes[row]
        parameters, macs, num_bytes = (self._rates @ sizes).tolist()  # float64 is exact up to 2^53
        return Cost(parameters=round(parameters), macs=round(macs), num_bytes=round(num_bytes))


def _linear(owners: Sequence[npt.NDArray[np.int64]], groups: Sequence[Group]) -> tuple[Floats, Floats]:
    """Size of each axis as ``fixed + per_unit @ kept counts``."""
    group_of = np.repeat(np.arange(len(groups)), [group.size for group in groups])
    group_of = np.append(group_of, len(groups))  # owner -1 finds the last: always kept
    positions = np.stack([np.bincount(group_of[owner], minlength=len(groups) + 1) for owner in owners])
    sizes = np.array([group.size for group in groups], dtype=np.float64)
    return positions[:, -1].astype(np.float64), positions[:, :-1] / sizes


def _count(module: nn.Module, example_inputs: Any, structure: Structure) -> tuple[dict[str, float], dict[int, float]]:
    """MACs of one example: per entry of each weight, and per unit of each group (-1: constant)."""
    args, kwargs = _arguments(example_inputs)
    batch = next((tensor.shape[0] for tensor in tensors_in([args, kwargs]) if tensor.dim()), 0)
    if not batch:
        raise DataError("example inputs hold no tensor with a batch dim: pass a tuple of tensors, batch first")
    training = {child: child.training for child in module.modules()}
    stack: list[int] = []  # groups of heads of the attention modules that are running
    hooks = []
    for name, child in module.named_modules():
        group = _heads_group(name, child, structure.groups)
        if group is not None:
            hooks.append(child.register_forward_pre_hook(_pusher(stack, group)))
            hooks.append(child.register_forward_hook(_popper(stack), always_call=True))
    counter = FlopCounterMode(display=False)
    meter = _Meter(module, counter, stack)
    try:
        module.eval()
        with torch.no_grad(), counter, meter:
            module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
        for child, mode in training.items():
            child.training = mode
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    rates = {name: macs / batch / sizes[name] for name, macs in meter.of_weights.items()}
    units = {
        group: macs / batch / (1 if group < 0 else structure.groups[group].size)
        for group, macs in meter.of_groups.items()
    }
    return rates, units


def _pusher(stack: list[int], group: int) -> Callable[..., None]:
    return lambda *_: stack.append(group)


def _popper(stack: list[int]) -> Callable[..., None]:
    def pop(*_: Any) -> None:
        stack.pop()

    return pop


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    return tuple(example_inputs), {}


def _heads_group(name: str, module: nn.Module, groups: Sequence[Group]) -> int | None:
    """The group of heads that an attention module's tensors belong to."""
    if not (isinstance(getattr(module, "num_heads", None), int) and isinstance(getattr(module, "head_dim", None), int)):
        return None
    prefix = f"{name}." if name else ""
    for index, group in enumerate(groups):
        if group.kind == "heads" and any(tensor.startswith(prefix) for tensor, _ in group.tensors):
            return index
    return None


@final
class _Meter(TorchFunctionMode):
    """Attributes the products of every torch function to the weight that it used, or to the running attention."""

    def __init__(self, module: nn.Module, counter: FlopCounterMode, stack: list[int]) -> None:
        super().__init__()
        self.of_weights: dict[str, float] = {}
        self.of_groups: dict[int, float] = {}
        self._counter = counter
        self._stack = stack
        # By storage, so that a view (weight.T, weight[0]) is recognised as the weight that it shows.
        self._names = {
            parameter.untyped_storage().data_ptr(): name
            for name, parameter in module.named_parameters()
            if parameter.dim() >= 2
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = self._counter.get_total_flops()
        result = func(*args, **(kwargs or {}))
        if func in _RECURRENT:
            self._add_recurrent(args)
        elif (flops := self._counter.get_total_flops() - before) > 0:
            self._add(func, args, kwargs or {}, flops / 2)
        return result

    def _add(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], macs: float) -> None:
        if func in _WEIGHT_IS_SECOND:
            weights = self._weights([kwargs.get("weight", args[1] if len(args) > 1 else None)])
        else:
            weights = self._weights([*args, *kwargs.values()])
        if len(weights) == 1:
            self.of_weights[weights[0]] = self.of_weights.get(weights[0], 0.0) + macs
        else:
            group = self._stack[-1] if self._stack and not weights else -1
            self.of_groups[group] = self.of_groups.get(group, 0.0) + macs

    def _add_recurrent(self, args: tuple[Any, ...]) -> None:
        """Every weight is used once per time step: the flop counter doesn't see into recurrent kernels."""
        steps = args[0].shape[0] * args[0].shape[1] if args[0].dim() == 3 else args[0].shape[0]
        for value in args:
            for weight in value if isinstance(value, list | tuple) else ():
                for name in self._weights([weight]):
                    self.of_weights[name] = self.of_weights.get(name, 0.0) + weight.numel() * steps

    def _weights(self, values: Iterable[Any]) -> list[str]:
        flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
        found = [self._names.get(item.untyped_storage().data_ptr()) for item in flat if isinstance(item, Tensor)]
        return [name for name in found if name is not None]
