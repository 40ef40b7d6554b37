"""Example inputs: a tensor, a tuple or a dict, made into the arguments of one forward call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedlight.errors import UnsupportedModelError

ExampleInputs = Tensor | Sequence[Any] | Mapping[str, Any]
"""A tensor, a tuple of positional arguments, or a dict of keyword arguments."""


@dataclass(frozen=True)
class Call:
    """The arguments of one forward call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, example_inputs: ExampleInputs) -> Call:
        """Sort example inputs into positional and keyword arguments, with all tensors on the CPU."""
        if isinstance(example_inputs, Mapping):
            call = cls((), dict(example_inputs))
        elif isinstance(example_inputs, Tensor) or not isinstance(example_inputs, Sequence):
            call = cls((example_inputs,), {})
        else:
            call = cls(tuple(example_inputs), {})
        return call.map(lambda tensor: tensor.detach().cpu())

    def map(self, change: Callable[[Tensor], Tensor]) -> Call:
        """Change every tensor, also those in nested lists, tuples and dicts."""
        return Call(_map(self.args, change), _map(self.kwargs, change))

    def floats(self, dtype: torch.dtype) -> Call:
        """Cast the floating-point tensors."""
        return self.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def run(self, module: nn.Module) -> Any:
        """Call the module with copies: a forward may change its inputs in place."""
        copied = self.map(torch.clone)
        return module(*copied.args, **copied.kwargs)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples, dicts and objects with attributes (packed sequences are tuples)."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from tensors_in(getattr(value, name))


def run_or_refuse(module: nn.Module, call: Call) -> Any:
    """Run a forward pass; an error in it becomes one that names the module.

    Raises:
        UnsupportedModelError: the forward fails on the example inputs.
    """
    try:
        return call.run(module)
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(module).__name__}.forward fails on the example inputs ({first_line(error)}): "
            "give inputs that it accepts (in a LightningModule: self.example_input_array), as a tensor, a tuple of "
            "arguments or a dict of keyword arguments"
        ) from error


def first_line(error: BaseException) -> str:
    """The error's class and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _map(item, change) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map(item, change) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_map(item, change) for item in value)
    return value
