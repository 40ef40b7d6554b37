"""Contribution by Shapley values estimated from guided permutations."""

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
        games.check_nonnegative("GTGShapley", round_truncation=round_truncation, truncation=truncation, error=error)
        games.check_permutations(max_permutations)
        if min_permutations < 0:
            raise ConfigError(f"min_permutations={min_permutations} is no number of permutations: use 0 or more")
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
