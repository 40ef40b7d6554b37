"""An update as one vector of the entries that a client trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from fedlight.core.types import ClientTask, State, Update
from fedlight.submodels.structure import Cost

_FLOAT_BYTES = 4


@final
class UpdateVector:
    """Takes tensors of an update's shapes apart into one vector and puts them together again.

    The vector holds the entries that the client's submodel covers, tensor by tensor; buffers aren't in it.

    Args:
        update: for names and shapes.
        task: for the masks.
    """

    def __init__(self, update: Update, task: ClientTask) -> None:
        self._like = update.delta
        self._masks = {name: mask for name, mask in (task.masks or {}).items() if name in update.delta}

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return the covered entries of ``state``, a tensor for every one of the update."""
        parts = [
            state[name][self._masks[name].to(like.device)] if name in self._masks else state[name].reshape(-1)
            for name, like in self._like.items()
        ]
        return torch.cat(parts) if parts else torch.zeros(0)

    def unflatten(self, vector: Tensor) -> State:
        """Return tensors of the update's shapes, 0 where the submodel covers nothing."""
        state: State = {}
        start = 0
        for name, like in self._like.items():
            mask = self._masks.get(name)
            count = like.numel() if mask is None else int(mask.sum())
            part = vector[start : start + count].to(like.dtype)
            start += count
            if mask is None:
                state[name] = part.reshape(like.shape)
            else:
                state[name] = torch.zeros_like(like)
                state[name][mask.to(like.device)] = part
        return state


def other_bytes(cost: Cost) -> int:
    """Return the bytes of a submodel besides its parameters: float buffers (and positions, for weight masks)."""
    return max(0, cost.num_bytes - _FLOAT_BYTES * cost.parameters)


def buffer_bytes(update: Update) -> int:
    """Return the bytes of the buffers that travel, which are sent as they are."""
    return sum(value.nbytes for value in update.buffers.values())


def in_buckets(vector: Tensor, size: int) -> Tensor:
    """Return the vector in rows of ``size``, filled up with zeros: [⌈n/size⌉, size]."""
    rows = math.ceil(vector.numel() / size)
    return torch.nn.functional.pad(vector, (0, rows * size - vector.numel())).view(rows, size)
