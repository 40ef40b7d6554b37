"""Oort: clients whose data teach much and that are fast enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch

from fedlight.core.slots import Selection
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.selection.draws import Draws, Floats, Ints, as_array, draw_by_weight
from fedlight.parts.selection.losses import root_mean_square_loss
from fedlight.parts.selection.pacer import Pacer

_FIELDS = ("utility", "duration_s", "last_round", "num_times", "exploited", "succeeded")


@final
class Oort(Selection):
    """Exploit clients of high utility, explore others, by the code of Oort.

    F. Lai, X. Zhu, H. V. Madhyastha, M. Chowdhury: Oort: Efficient Federated Learning via Guided Participant Selection.
    OSDI 2021; constants and rules as in the repository SymbioticLab/Oort (FedScale's copy: those in brackets below).

    Statistical utility U_n = |B_n| √(mean loss²) of the last round in which n took part; |B_n| for a client that never
    did. Score of an explored client in round R (from 1), last heard of in round L_n:
    (min(U_n, clip) - 0.999 min U) / range + √(0.1 ln R / L_n), times (T / d_n)^α where its last duration d_n is above
    T, the percentile of :class:`Pacer`. ⌊count (1 - ε)⌋ clients are drawn in proportion to the score among those at or
    above ``cut_off`` times the score at that rank; the rest in proportion to size among the ``sample_window`` times as
    many largest unexplored clients; what is then missing, from all by chance. ε decays once a round.

    Differs from the code:

    1. How long an unexplored client takes is unknown here, so it isn't penalised; there it was declared beforehand.
    2. Where the module doesn't log ``train/squared_loss``, the mean loss stands for √(mean loss²).
    3. ε and the pacer move once per version of the model, however often a schedule asks; scores are not below 0.
    4. An update that isn't finite has utility 0, and clients on the blacklist are taken where no others are left.

    The bonus takes the round L_n itself, not the age R - L_n: so does the code. A call costs
    O(candidates log candidates); 42 bytes are kept per client.

    Args:
        exploration: ε before the first round, in [0, 1] (both .9).
        exploration_decay: factor on ε per round, in (0, 1] (.95 [.98]).
        exploration_min: floor of ε while anybody is unexplored (.2 [.3]), and again once clients are forgotten.
        clip: quantile at which utilities are cut off, in (0, 1] (.98 [.9]).
        cut_off: in [0, 1] (.7 [.05]).
        round_threshold: percentile of durations that the pacer starts with (10 [30]).
        round_penalty: α, >= 0 (both 2).
        pacer_step: rounds (both 20).
        pacer_delta: percent (both 5).
        sample_window: >= 1 (both 5).
        blacklist_rounds: clients that have taken part in more rounds are left out; None: nobody (both).
        blacklist_share: largest share of the clients that is left out (both .3).
    """

    def __init__(
        self,
        exploration: float = 0.9,
        exploration_decay: float = 0.95,
        exploration_min: float = 0.2,
        clip: float = 0.98,
        cut_off: float = 0.7,
        round_threshold: float = 10.0,
        round_penalty: float = 2.0,
        pacer_step: int = 20,
        pacer_delta: float = 5.0,
        sample_window: float = 5.0,
        blacklist_rounds: int | None = None,
        blacklist_share: float = 0.3,
    ) -> None:
        for name, value in (
            ("exploration", exploration), ("exploration_decay", exploration_decay), ("clip", clip),
            ("exploration_min", exploration_min), ("cut_off", cut_off), ("blacklist_share", blacklist_share),
        ):  # fmt: skip
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name}={value} is no share: use a number in [0, 1]")
        if not round_penalty >= 0.0 or not sample_window >= 1.0:
            raise ConfigError(
                f"round_penalty={round_penalty} must be at least 0 and sample_window={sample_window} at least 1"
            )
        self.exploration_decay = exploration_decay
        self.exploration_min = exploration_min
        self.clip = clip
        self.cut_off = cut_off
        self.round_penalty = round_penalty
        self.sample_window = sample_window
        self.blacklist_rounds = blacklist_rounds
        self.blacklist_share = blacklist_share
        self._pacer = Pacer(round_threshold, pacer_step, pacer_delta)
        self._exploration, self._floor = exploration, exploration_min
        self._preferred_s = float("inf")
        self._draws = Draws()
        self._utility = self._duration_s = np.zeros(0)
        self._last_round = self._num_times = np.zeros(0, dtype=np.int64)
        self._exploited = self._succeeded = np.zeros(0, dtype=np.bool_)

    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return ``count`` different clients out of ``candidates``: exploited, explored, then those by chance."""
        generator = self._draws.next(state)
        self._remember(len(state.num_examples))
        if self._draws.is_first:
            self._begin_round(state.round_idx + 1)
        everybody = as_array(candidates)
        clients = self._allowed(everybody)
        count = min(count, len(everybody))
        tried = self._num_times[clients] > 0
        explored, unexplored = clients[tried], clients[~tried]
        exploited = self._exploit(state, clients, explored, int(count * (1.0 - self._exploration)), generator)
        self._exploited[exploited] = True
        num_new = min(len(unexplored), count - len(exploited))
        cohort = np.concatenate([exploited, self._explore(state.num_examples, unexplored, num_new, generator)])
        for others in (clients, everybody):
            if len(cohort) < count:
                rest = np.setdiff1d(others, cohort, assume_unique=True)
                cohort = np.concatenate([cohort, generator.permutation(rest)[: count - len(cohort)]])
        if self._num_times.all():
            self._exploration = self._floor = 0.0
        return [int(client) for client in cohort]

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn utility and duration of those who are back."""
        self._remember(len(state.num_examples))
        for report in reports:
            loss = root_mean_square_loss(report) if report.accepted else 0.0
            self._utility[report.client] = report.num_examples * loss
            self._duration_s[report.client] = report.timing.total_s
            self._last_round[report.client] = state.round_idx + 1
            self._num_times[report.client] += 1
            self._succeeded[report.client] = True

    def metrics(self) -> dict[str, float]:
        """Return ε, the pacer's percentile and, where there is one, its duration T."""
        told = {"selection/exploration": self._exploration, "selection/percentile": self._pacer.percentile}
        return told if np.isinf(self._preferred_s) else {**told, "selection/preferred_s": self._preferred_s}

    def forget(self, clients: Sequence[int]) -> None:
        """Take these clients for unexplored: ε is at its floor or above again."""
        known = np.array([client for client in clients if client < len(self._num_times)], dtype=np.int64)
        self._num_times[known] = 0
        if len(known):
            self._floor = self.exploration_min
            self._exploration = max(self._exploration, self._floor)

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of every client, ε and the pacer."""
        arrays = {name: torch.from_numpy(getattr(self, f"_{name}").copy()) for name in _FIELDS}
        return {
            **arrays,
            "exploration": self._exploration,
            "floor": self._floor,
            "preferred_s": self._preferred_s,
            "pacer": self._pacer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        for name in _FIELDS:
            setattr(self, f"_{name}", state[name].numpy().copy())
        self._exploration, self._floor = state["exploration"], state["floor"]
        self._preferred_s = state["preferred_s"]
        self._pacer.load_state_dict(state["pacer"])

    def _remember(self, num_clients: int) -> None:
        if len(self._utility) != num_clients:
            self._utility, self._duration_s = np.zeros((2, num_clients))
            self._last_round, self._num_times = np.zeros((2, num_clients), dtype=np.int64)
            self._exploited, self._succeeded = np.zeros((2, num_clients), dtype=np.bool_)

    def _begin_round(self, round_number: int) -> None:
        """Move ε and the pacer by what the clients exploited in the last round have brought."""
        brought = self._utility[self._exploited & self._succeeded]
        self._pacer.begin_round(round_number, float(brought.sum() / (len(brought) + 1e-4)))
        self._exploited[:] = self._succeeded[:] = False
        tried = self._num_times > 0
        self._preferred_s = self._pacer.preferred_s(self._duration_s[tried])
        self._exploration = max(self._exploration * self.exploration_decay, self._floor)

    def _allowed(self, clients: Ints) -> Ints:
        """Return the clients without those that have had their share of rounds; these come last, if at all."""
        if self.blacklist_rounds is None:
            return clients
        most = np.argsort(-self._num_times, kind="stable")[: int(self.blacklist_share * len(self._num_times))]
        return np.setdiff1d(clients, most[self._num_times[most] > self.blacklist_rounds], assume_unique=True)

    def _exploit(
        self, state: RoundState, clients: Ints, explored: Ints, count: int, generator: np.random.Generator
    ) -> Ints:
        count = min(count, len(explored))
        if not count:
            return explored[:0]
        scores = self._scores(state, clients, explored)
        rank = min(count, len(scores) - 1)
        cut_off = -np.partition(-scores, rank)[rank] * self.cut_off
        good = scores >= cut_off
        return draw_by_weight(generator, explored[good], scores[good], count)

    def _scores(self, state: RoundState, clients: Ints, explored: Ints) -> Floats:
        """Return float64[explored]; utilities are scaled over all candidates, a new one's is its size."""
        known = np.where(self._num_times[clients] > 0, self._utility[clients], state.num_examples[clients])
        known = np.sort(known[known > 0])
        if not len(known):
            known = np.zeros(1)
        limit = known[min(int(len(known) * self.clip), len(known) - 1)]
        low = 0.999 * known[0]
        scores = (np.minimum(self._utility[explored], limit) - low) / max(known[-1] - low, 1e-4)
        scores += np.sqrt(0.1 * np.log(state.round_idx + 1) / self._last_round[explored])
        slow = self._duration_s[explored] > self._preferred_s
        scores[slow] *= (self._preferred_s / self._duration_s[explored][slow]) ** self.round_penalty
        positive: Floats = np.maximum(scores, 0.0)
        return positive

    def _explore(self, num_examples: np.ndarray, unexplored: Ints, count: int, generator: np.random.Generator) -> Ints:
        sizes = num_examples[unexplored].astype(np.float64)
        window = np.argsort(-sizes, kind="stable")[: int(self.sample_window * count)]
        return draw_by_weight(generator, unexplored[window], sizes[window], count)
