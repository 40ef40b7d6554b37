"""Who trains now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.slots import Selection
from fedlight.core.types import RoundState


@final
class UniformSelection(Selection):
    """Draw clients uniformly, without replacement (McMahan et al. 2017, algorithm 1: S_t).

    The draw depends on (seed, round) and on who is up alone, so two algorithms with the same seed train the same
    clients. Costs O(count), whatever the number of candidates. The calls of a round are counted, to draw anew in each;
    checkpoints lie between rounds, where the count starts again, so none of it needs to survive a restart.
    """

    def __init__(self) -> None:
        self._round_idx = -1
        self._num_calls = 0

    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return ``count`` different clients out of ``candidates``, in the order of the draw."""
        if state.round_idx != self._round_idx:
            self._round_idx, self._num_calls = state.round_idx, 0
        # A schedule that doesn't wait asks several times a round: each time is a draw of its own.
        purpose = "selection" if self._num_calls == 0 else f"selection/{self._num_calls}"
        self._num_calls += 1
        generator = numpy_generator(state.seed, state.round_idx, SERVER, purpose)
        chosen = generator.choice(len(candidates), size=min(count, len(candidates)), replace=False)
        return [int(candidates[index]) for index in chosen]
