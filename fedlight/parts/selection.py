"""Who trains now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.slots import Selection
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError


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


@final
class ByContribution(Selection):
    """Draw clients by their last contribution score, with a share of the draws left to chance.

    Without replacement, with odds exp(z_n / temperature), z_n the score standardised over the candidates that have one;
    a client without a score yet has the odds of the best, so that everyone is tried. Each of the ``count`` draws is
    uniform instead with probability ``epsilon``. Costs O(candidates). The algorithm's contribution must score clients;
    until it does, draws are uniform.

    Args:
        temperature: > 0, in standard deviations of the scores: small draws the best, large anyone.
        epsilon: in [0, 1].
    """

    def __init__(self, temperature: float = 1.0, epsilon: float = 0.1) -> None:
        if not temperature > 0.0:
            raise ConfigError(f"temperature={temperature} is no temperature: use a number above 0, 1 to begin with")
        if not 0.0 <= epsilon <= 1.0:
            raise ConfigError(f"epsilon={epsilon} is no probability: use a number in [0, 1]")
        self.temperature = temperature
        self.epsilon = epsilon
        self._round_idx = -1
        self._num_calls = 0

    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return ``count`` different clients out of ``candidates``: those by score first, then those by chance."""
        if state.round_idx != self._round_idx:
            self._round_idx, self._num_calls = state.round_idx, 0
        purpose = "selection" if self._num_calls == 0 else f"selection/{self._num_calls}"
        self._num_calls += 1
        generator = numpy_generator(state.seed, state.round_idx, SERVER, purpose)
        count = min(count, len(candidates))
        by_score = count - int(generator.binomial(count, self.epsilon))
        # The largest of log odds plus Gumbel noise are a draw without replacement (Efraimidis and Spirakis 2006).
        keys = _standardised(state, candidates) / self.temperature + generator.gumbel(size=len(candidates))
        order = np.argsort(-keys, kind="stable")
        rest = generator.permutation(order[by_score:])
        return [int(candidates[index]) for index in (*order[:by_score], *rest[: count - by_score])]


def _standardised(state: RoundState, candidates: Sequence[int]) -> np.ndarray:
    """Return float64[candidates]: scores to mean 0 and deviation 1; the best of them for who has none."""
    scores = np.array([state.contributions.get(client, np.nan) for client in candidates], dtype=np.float64)
    known = scores[~np.isnan(scores)]
    if not len(known):
        return np.zeros(len(scores))
    scores = np.where(np.isnan(scores), known.max(), scores)
    standardised: np.ndarray = (scores - known.mean()) / (known.std() if known.std() > 0 else 1.0)
    return standardised
