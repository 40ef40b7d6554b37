"""Sending the largest entries, and remembering the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from fedlight.core.slots import Compression, Part
from fedlight.core.types import ClientTask, Report, RoundState, Update
from fedlight.errors import ConfigError
from fedlight.parts.compression.level import TimeMatchedLevel
from fedlight.parts.compression.vector import UpdateVector, buffer_bytes, other_bytes
from fedlight.parts.encoding import encoded_bytes
from fedlight.submodels.structure import Cost


@final
class TopK(Compression):
    """Sends the k = ⌈γ·n⌉ largest of a client's n entries by |value|; what stays behind is added to its next update.

    g = Δ + β·e, s = top_k(g), e ← g - s (Stich et al. 2018, Sparsified SGD with Memory, algorithm 1, on updates
    instead of gradients), so s + e is g exactly. The k entries are the largest of the whole model, not of each tensor.
    e is a client's own, survives rounds in which it isn't asked, and follows its submodel: entries that it wasn't given
    wait. With γ = 1 everything is sent and e is 0. Float buffers are sent whole and have no memory.

    Bytes are those of the cheapest of dense, bitmap and coordinates for one vector of n entries; for weight masks the
    price also has the positions of the mask.

    Args:
        level: γ in (0, 1], or how each client's is found.
        decay: β in [0, 1]: old memory misleads where clients are seldom asked; 0: no memory.

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(self, level: float | TimeMatchedLevel = 0.1, decay: float = 1.0) -> None:
        if not isinstance(level, TimeMatchedLevel) and not 0.0 < level <= 1.0:
            raise ConfigError(f"level={level} of TopK is outside (0, 1]: it is the share of entries that is sent")
        if not 0.0 <= decay <= 1.0:
            raise ConfigError(f"decay={decay} of TopK is outside [0, 1]: 1 keeps all memory, 0 none")
        self.level = level
        self.decay = decay
        self._mean_level = 1.0

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Let levels learn whom a client is compared with."""
        if isinstance(self.level, TimeMatchedLevel):
            self.level.meet(parts)

    def levels(
        self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float], shares: Mapping[int, float]
    ) -> dict[int, float]:
        """Return γ for every client."""
        if isinstance(self.level, TimeMatchedLevel):
            return self.level.levels(state, cohort, ratios, shares)
        return dict.fromkeys(cohort, self.level)

    def upload_bytes(self, cost: Cost, level: float = 1.0) -> int:
        """Return the bytes of the entries that are sent, with their positions, and of the float buffers."""
        return encoded_bytes((cost.parameters,), num_sent(cost.parameters, level)) + other_bytes(cost)

    def encode(self, update: Update, task: ClientTask) -> Update:
        """Return the update with zeros where nothing is sent, and with the client's new memory."""
        vector = UpdateVector(update, task)
        wanted = vector.flatten(update.delta)
        if task.memory and self.decay:
            wanted = wanted + self.decay * vector.flatten(_at(task.memory, wanted.device))
        count = num_sent(wanted.numel(), task.level)
        num_bytes = encoded_bytes((wanted.numel(),), count, wanted.element_size()) + buffer_bytes(update)
        if count == wanted.numel() and not task.memory:
            return replace(update, upload_bytes=num_bytes)
        largest = torch.topk(wanted.abs(), count, sorted=False).indices
        sent = torch.zeros_like(wanted).index_copy_(0, largest, wanted[largest])
        memory = vector.unflatten(wanted.index_fill(0, largest, 0.0)) if self.decay else {}
        return replace(update, delta=vector.unflatten(sent), memory=memory, upload_bytes=num_bytes)

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn how long clients take, where levels depend on it."""
        if isinstance(self.level, TimeMatchedLevel):
            self.level.observe(reports)
        if reports:
            self._mean_level = math.fsum(report.level for report in reports) / len(reports)

    def forget(self, clients: Sequence[int]) -> None:
        """Drop times, where levels depend on them."""
        if isinstance(self.level, TimeMatchedLevel):
            self.level.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return what the levels depend on."""
        return self.level.state_dict() if isinstance(self.level, TimeMatchedLevel) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        if isinstance(self.level, TimeMatchedLevel):
            self.level.load_state_dict(state)

    def metrics(self) -> dict[str, float]:
        """Return the round's mean level."""
        return {"compression/level": self._mean_level}


def num_sent(size: int, level: float) -> int:
    """Return ⌈level · size⌉, forgiving the last bits of level; at least 1 where there is anything."""
    return min(size, max(1, math.ceil(level * size * (1 - 1e-12))))


def _at(state: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in state.items()}
