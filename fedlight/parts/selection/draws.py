"""Draws of clients: a generator for every call, and weighted draws without replacement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.types import RoundState

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@final
class Draws:
    """A generator for every call of a selection, from (seed, round, number of the call within the round).

    A schedule that doesn't wait asks several times a round, and each time is a draw of its own. Checkpoints lie between
    rounds, where the count starts again, so none of it needs to survive a restart.

    Attributes:
        is_first: whether the last call was the first of its round.
    """

    def __init__(self) -> None:
        self.is_first = True
        self._round_idx = -1
        self._num_calls = 0

    def next(self, state: RoundState) -> np.random.Generator:
        """Return the generator of one more call."""
        self.is_first = state.round_idx != self._round_idx
        if self.is_first:
            self._round_idx, self._num_calls = state.round_idx, 0
        purpose = "selection" if self._num_calls == 0 else f"selection/{self._num_calls}"
        self._num_calls += 1
        return numpy_generator(state.seed, state.round_idx, SERVER, purpose)


def as_array(clients: Sequence[int]) -> Ints:
    """Return clients as int64[]."""
    if isinstance(clients, range):
        return np.arange(clients.start, clients.stop, clients.step, dtype=np.int64)
    return np.asarray(clients, dtype=np.int64)


def draw_by_weight(generator: np.random.Generator, clients: Ints, weights: Floats, count: int) -> Ints:
    """Return ``count`` different clients, each next one with odds in proportion to its weight among those left.

    The largest of log weight plus Gumbel noise are such a draw (Efraimidis and Spirakis 2006). Clients of weight 0 come
    last, at random. O(clients).

    Args:
        generator: what to draw from; takes one number for each client.
        clients: whom to draw from.
        weights: one each, >= 0.
        count: how many, at most as many as there are.
    """
    noise = generator.gumbel(size=len(clients))
    with np.errstate(divide="ignore"):
        keys = np.log(weights) + noise
    order = np.lexsort((-noise, -keys))
    return clients[order[:count]]
