"""Contributions by the Shapley value of the round on the server's own examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from fedlight.core.coalitions import Coalitions
from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.slots import Contribution
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.contribution import games
from fedlight.parts.contribution.judge import CoalitionValue, Judge
from fedlight.parts.contribution.plain import sample_counts

MAX_EXACT = 10
"""Clients of a round that the exact value is worked out for: 1024 passes over the server's examples."""


@final
class ShapleyExact(Contribution):
    """Score a client by its Shapley value in the round: φ_n = Σ_S |S|! (m - |S| - 1)! / m! [v(S ∪ n) - v(S)].

    v(S) is the utility of θ_S = θ + U_S, merged from the round's updates as the round merges them; nothing is trained
    again. Efficient (Σ φ = v(N) - v(∅)), symmetric, additive over rounds, and 0 for who changes nothing. A client that
    isn't in the round gets no score. T. Song, Y. Tong, S. Wei: Profit Allocation for Federated Learning, IEEE BigData
    2019 (MR), by round.

    Costs 2^m passes over the server's examples for m clients, and the round's updates, held by every process. Needs
    server data. Weighs by examples; put it in :class:`~fedlight.parts.Scored` to weigh by it.

    Args:
        judge: by what; None: minus ``val/loss`` on all of the server's examples.

    Raises:
        ConfigError: more than 10 clients return in a round.
    """

    needs: Literal["all"] = "all"
    needs_server_data = True

    def __init__(self, judge: Judge | None = None) -> None:
        self.judge = judge or Judge()

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client; refuses too many."""
        if len(clients) > MAX_EXACT:
            raise ConfigError(
                f"ShapleyExact judges 2^{len(clients)} coalitions for a round of {len(clients)} clients: set "
                f"clients_per_round to {MAX_EXACT} or fewer, or use GTGShapley"
            )
        return sample_counts(state, clients)

    def score_cohort(self, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
        """Return φ by client."""
        return games.exact(coalitions.clients, CoalitionValue(self.judge, state, coalitions))


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
        _check_nonnegative("TruncatedMonteCarlo", tolerance=tolerance, patience=patience, error=error)
        _check_permutations(max_permutations)
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


@final
class GTGShapley(Contribution):
    """Estimate Shapley values by guided permutations, truncated between and within rounds (GTG-Shapley).

    Every client leads a permutation in turn, the rest is random. A round with |v(N) - v(∅)| <= ``round_truncation``
    scores 0 throughout. Within one, position j is judged only if |v(N) - v_{j-1}| >= ``truncation``. θ_S is merged as
    in :class:`~fedlight.parts.ShapleyExact`.

    Z. Liu, Y. Chen, H. Yu, Y. Liu, L. Cui: GTG-Shapley: Efficient and Accurate Participant Contribution Evaluation in
    Federated Learning. ACM TIST 2022. The published code then rescales: φ · (v(N) - v(∅)) / (sum of the positive φ if
    the round gained, of the negative ones if it lost); where signs are mixed that breaks efficiency, and is off here.

    Costs about m log m to m² passes over the server's examples (each set once, so at most 2^m), and the round's
    updates, held by every process. Needs server data. Weighs by examples; put it in :class:`~fedlight.parts.Scored` to
    weigh by it.

    Args:
        judge: by what; None: minus ``val/loss`` on all of the server's examples.
        round_truncation: eps_b >= 0, in units of utility.
        truncation: eps_i >= 0, in units of utility; 0: judge every position, so that φ sums to v(N) - v(∅).
        error: stop when the running means of ten permutations in a row lie within this relative distance.
        min_permutations: at least so many, and one per client.
        max_permutations: at most so many (and at most .8 · 2^m + 5), >= 1.
        rescale: as in the published code.
    """

    needs: Literal["all"] = "all"
    needs_server_data = True

    def __init__(
        self,
        judge: Judge | None = None,
        round_truncation: float = 0.001,
        truncation: float = 0.001,
        error: float = 0.05,
        min_permutations: int = 30,
        max_permutations: int = 500,
        rescale: bool = False,
    ) -> None:
        _check_nonnegative("GTGShapley", round_truncation=round_truncation, truncation=truncation, error=error)
        _check_permutations(max_permutations)
        self.judge = judge or Judge()
        self.round_truncation = round_truncation
        self.truncation = truncation
        self.error = error
        self.min_permutations = min_permutations
        self.max_permutations = max_permutations
        self.rescale = rescale

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)

    def score_cohort(self, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
        """Return the estimates of φ by client."""
        clients = coalitions.clients
        value = CoalitionValue(self.judge, state, coalitions)
        gain = value(clients) - value(())
        if abs(gain) <= self.round_truncation:
            return dict.fromkeys(clients, 0.0)
        rng = numpy_generator(state.seed, state.round_idx, SERVER, "contribution")
        means = games.mean_marginals(
            clients,
            games.guided_orders(clients, rng),
            lambda order: games.guided_marginals(order, value, self.truncation),
            min_orders=max(self.min_permutations, len(clients)),
            max_orders=min(self.max_permutations, int(0.8 * 2 ** len(clients)) + 5),
            error=self.error,
        )
        return _rescaled(means, gain) if self.rescale else means


def _rescaled(means: dict[int, float], gain: float) -> dict[int, float]:
    same_sign = sum(mean for mean in means.values() if (mean > 0) == (gain > 0))
    return {client: mean * gain / same_sign for client, mean in means.items()} if same_sign else means


def _check_nonnegative(part: str, **options: float) -> None:
    for name, number in options.items():
        if not number >= 0:
            raise ConfigError(f"{name}={number} of {part} is below 0: use 0 to switch it off, or a number above")


def _check_permutations(max_permutations: int) -> None:
    if max_permutations < 1:
        raise ConfigError(f"max_permutations={max_permutations} leaves no permutation: use 1 or more")
