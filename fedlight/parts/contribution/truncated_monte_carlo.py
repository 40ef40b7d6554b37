"""Contribution by Shapley values estimated from permutations that are cut short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from fedlight.core.coalitions import Coalitions
from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.slots import Contribution
from fedlight.core.types import RoundState
from fedlight.parts.contribution import games
from fedlight.parts.contribution.judge import CoalitionValue, Judge
from fedlight.parts.contribution.plain import sample_counts


@final
class TruncatedMonteCarlo(Contribution):
    """Estimate Shapley values by random permutations, each cut short once it is near the whole (TMC-Shapley).

    φ_n = mean over permutations of v(before n, and n) - v(before n); a permutation stops when |v(N) - v_j| <=
    ``tolerance`` · |v(N)| more than ``patience`` positions in a row, and who comes after gets 0. θ_S is merged as in
    :class:`~fedlight.parts.ShapleyExact` instead of trained, and v(∅) is the utility of θ.

    A. Ghorbani, J. Zou: Data Shapley: Equitable Valuation of Data for Machine Learning. ICML 2019, algorithm 1.

    Costs up to ``max_permutations`` · m passes over the server's examples (each set once, so at most 2^m), and the
    round's updates, held by every process. Needs server data. Weighs by examples.

    Args:
        judge: by what; None: minus ``val/loss`` on all of the server's examples.
        tolerance: >= 0; 0 truncates only where nothing is left to gain.
        patience: positions in a row, >= 0.
        error: stop when the running values have moved less than this, on relative average, over ten permutations.
        max_permutations: at most so many, >= 1.
    """

    needs: Literal["all"] = "all"
    needs_server_data = True

    def __init__(
        self,
        judge: Judge | None = None,
        tolerance: float = 0.01,
        patience: int = 5,
        error: float = 0.05,
        max_permutations: int = 100,
    ) -> None:
        games.check_nonnegative("TruncatedMonteCarlo", tolerance=tolerance, patience=patience, error=error)
        games.check_permutations(max_permutations)
        self.judge = judge or Judge()
        self.tolerance = tolerance
        self.patience = patience
        self.error = error
        self.max_permutations = max_permutations

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)

    def score_cohort(self, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
        """Return the estimates of φ by client."""
        value = CoalitionValue(self.judge, state, coalitions)
        rng = numpy_generator(state.seed, state.round_idx, SERVER, "contribution")
        return games.mean_marginals(
            coalitions.clients,
            games.random_orders(coalitions.clients, rng),
            lambda order: games.truncated_marginals(order, value, self.tolerance, self.patience),
            min_orders=1,
            max_orders=self.max_permutations,
            error=self.error,
        )
