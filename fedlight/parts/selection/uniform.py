"""Clients drawn by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from fedlight.core.slots import Selection
from fedlight.core.types import RoundState
from fedlight.parts.selection.draws import Draws


@final
class UniformSelection(Selection):
    """Draw clients uniformly, without replacement (McMahan et al. 2017, algorithm 1: S_t).

    The draw depends on (seed, round) and on who is up alone, so two algorithms with the same seed train the same
    clients. Costs O(count), whatever the number of candidates.
    """

    def __init__(self) -> None:
        self._draws = Draws()

    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return ``count`` different clients out of ``candidates``, in the order of the draw."""
        generator = self._draws.next(state)
        chosen = generator.choice(len(candidates), size=min(count, len(candidates)), replace=False)
        return [int(candidates[index]) for index in chosen]
