"""Clients drawn by what they have contributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from fedlight.core.slots import Contribution, Part, Selection
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.selection.draws import Draws, Floats, Ints, as_array


@final
class ByContribution(Selection):
    """Draw clients by their last contribution score, with a share of the draws left to chance.

    Without replacement, with odds exp(z_n / temperature), z_n the score standardised over the candidates that have one;
    a client without a score yet has the odds of the best, so that everyone is tried. Each of the ``count`` draws is
    uniform instead with probability ``epsilon``. Costs O(candidates). The algorithm's contribution must score clients;
    until it has, draws are uniform.

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
        self._draws = Draws()

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Raise ConfigError if the algorithm's contribution scores nobody: draws would stay uniform."""
        contribution = parts["contribution"]
        if isinstance(contribution, Contribution) and not contribution.gives_scores:
            raise ConfigError(
                f"selection: ByContribution draws by scores, and {type(contribution).__name__} gives none: use a "
                "contribution that does (CosineGradient), or another selection"
            )

    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return ``count`` different clients out of ``candidates``: those by score first, then those by chance."""
        generator = self._draws.next(state)
        clients = as_array(candidates)
        count = min(count, len(clients))
        by_score = count - int(generator.binomial(count, self.epsilon))
        # The largest of log odds plus Gumbel noise are a draw without replacement (Efraimidis and Spirakis 2006).
        keys = _standardised(state, clients) / self.temperature + generator.gumbel(size=len(clients))
        order = np.argsort(-keys, kind="stable")
        rest = generator.permutation(order[by_score:])
        return [int(clients[index]) for index in (*order[:by_score], *rest[: count - by_score])]


def _standardised(state: RoundState, clients: Ints) -> Floats:
    """Return float64[clients]: scores to mean 0 and deviation 1; the best of them for who has none."""
    of_all = np.full(len(state.num_examples), np.nan)
    of_all[list(state.contributions)] = list(state.contributions.values())
    scores = of_all[clients]
    known = scores[~np.isnan(scores)]
    if not len(known):
        return np.zeros(len(scores))
    scores = np.where(np.isnan(scores), known.max(), scores)
    standardised: Floats = (scores - known.mean()) / (known.std() if known.std() > 0 else 1.0)
    return standardised
