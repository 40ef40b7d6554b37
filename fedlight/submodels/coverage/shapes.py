"""Checks of names and shapes against the model that a plan was traced on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fedlight.errors import CheckpointError


def full_shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    """Return the full shape of a tensor of the model; CheckpointError if it has none of that name."""
    if name not in shapes:
        raise CheckpointError(f"tensor {name!r} is not in the model that the plan was traced on: trace this model")
    return tuple(shapes[name])


def check_names(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], what: str) -> None:
    """Raise CheckpointError unless a state has the names of the model's tensors."""
    if state.keys() != shapes.keys():
        missing, extra = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
        raise CheckpointError(
            f"{what} has other tensors than the model that the plan was traced on (missing {missing[:3]}, "
            f"unknown {extra[:3]}): pass a whole state dict of that model"
        )


def check_shape(name: str, tensor: Tensor, expected: Sequence[int]) -> None:
    """Raise CheckpointError unless a tensor has this shape."""
    if tuple(tensor.shape) != tuple(expected):
        raise CheckpointError(
            f"tensor {name!r} has shape {tuple(tensor.shape)}, expected {tuple(expected)}: "
            "it comes from another model or another keep set"
        )
