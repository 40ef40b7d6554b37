"""TiFL: a round's clients are of one tier of speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import torch

from fedlight.core.slots import Selection
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.selection.draws import Draws, Floats, Ints, as_array
from fedlight.parts.selection.losses import LOSS, refuse_without

UNKNOWN: Final = -1
"""Tier of a client whose latency was never seen."""

_FIELDS = ("latency_s", "value", "tiers", "probabilities", "credits")


@final
class TiFL(Selection):
    """Draw one tier of speed a round, then clients inside it; tiers that the model fits badly are drawn more often.

    Z. Chai, A. Ali, S. Zawad et al.: TiFL: A Tier-based Federated Learning System. HPDC 2020. Adaptive tier selection
    (algorithm 2) with the rules of its port in easyFL.

    Profiling: in the first rounds clients whose latency isn't known go first. Then clients are sorted by latency and
    split into ``num_tiers`` tiers of equal size. Every ``interval`` rounds the n tiers that have credits get the
    probability (n - q) / (n (n + 1) / 2), q the rank of the tier's value, the worst q = 0; a tier's value is the mean
    of ``metric``, weighted by examples, over what its clients last reported. A draw costs a credit.

    Differs from the paper:

    1. Profiling is part of training, not before it: its rounds count, and who was not met in it belongs to the middle
       tier until he is.
    2. A tier's accuracy is measured on its clients' test data there; here by what they log while they train (the loss
       unless ``metric`` names something else), which costs nothing.
    3. Probabilities change every ``interval`` rounds as in the port, not only where the last tier has got no better.
    4. Latencies follow d ← (1 - s) d + s d_observed, and tiers are made anew every ``interval`` rounds, since devices
       drift and submodels change in size.
    5. Tiers with too few clients up are filled from the nearest tier, the faster first. Where all credits are spent,
       all are given out again.

    A call costs O(candidates), and O(clients log clients) where tiers are made; 24 bytes are kept per client.

    Args:
        num_tiers: T, >= 1 (5).
        interval: I, rounds between two changes of probabilities and tiers, >= 1 (10).
        profiling_rounds: rounds in which clients of unknown latency go first, >= 1, as long as there are any.
        smoothing: s, weight of the last observed latency, in (0, 1].
        credits: draws of each tier, the fastest first; None: without limit. Fewer for slow tiers bound the time.
        metric: what clients report of how well the model fits; lower is better if its name ends in ``loss`` or
            ``error``, else higher.
    """

    def __init__(
        self,
        num_tiers: int = 5,
        interval: int = 10,
        profiling_rounds: int = 10,
        smoothing: float = 0.2,
        credits: list[int] | None = None,  # noqa: A002 - the paper's word
        metric: str = LOSS,
    ) -> None:
        for name, value in (("num_tiers", num_tiers), ("interval", interval), ("profiling_rounds", profiling_rounds)):
            if value < 1:
                raise ConfigError(f"{name}={value} is too few: use 1 or more")
        if not 0.0 < smoothing <= 1.0:
            raise ConfigError(f"smoothing={smoothing} is outside (0, 1]: 0.2 remembers some five observations")
        if credits is not None and (len(credits) != num_tiers or min(credits) < 0 or not any(credits)):
            raise ConfigError(f"credits={credits} must be {num_tiers} numbers of draws, one per tier, not all 0")
        self.num_tiers = num_tiers
        self.interval = interval
        self.profiling_rounds = profiling_rounds
        self.smoothing = smoothing
        self.credits = credits
        self.metric = metric
        self._draws = Draws()
        self._latency_s = self._value = np.zeros(0)
        self._tiers = np.zeros(0, dtype=np.int64)
        self._probabilities = np.full(num_tiers, 1.0 / num_tiers)
        self._credits = self._all_credits()
        self._tier = UNKNOWN

    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return ``count`` different clients out of ``candidates``: of one tier, as far as it has so many."""
        generator = self._draws.next(state)
        self._remember(len(state.num_examples))
        clients = as_array(candidates)
        shuffled = clients[generator.permutation(len(clients))]
        is_new = np.isnan(self._latency_s[shuffled])
        if state.round_idx < self.profiling_rounds and is_new.any():
            self._tier = UNKNOWN
            order = np.argsort(~is_new, kind="stable")
        else:
            tiers = self._tiers_of(shuffled)
            if self._draws.is_first or self._tier == UNKNOWN:
                self._begin_round(state, tiers, generator)
            distance = 2 * np.abs(tiers - self._tier) - (tiers < self._tier)
            order = np.argsort(distance, kind="stable")
        return [int(client) for client in shuffled[order[:count]]]

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn latencies and how well the model fits; make tiers anew where that is due."""
        refuse_without(self.metric, reports)
        self._remember(len(state.num_examples))
        for report in reports:
            old, new = self._latency_s[report.client], report.timing.total_s
            self._latency_s[report.client] = new if np.isnan(old) else old + self.smoothing * (new - old)
            if report.accepted and self.metric in report.metrics:
                self._value[report.client] = report.metrics[self.metric]
        if (state.round_idx + 1) % self.interval == 0:
            self._make_tiers()
            self._change_probabilities(state.num_examples)

    def metrics(self) -> dict[str, float]:
        """Return this round's tier (0: the fastest; -1: profiling) and the tiers' probabilities."""
        of_tiers = {f"selection/probability/{tier}": float(p) for tier, p in enumerate(self._probabilities)}
        return {"selection/tier": float(self._tier), **of_tiers}

    def forget(self, clients: Sequence[int]) -> None:
        """Take these clients for new ones: they are profiled, or of the middle tier until they are met again."""
        known = np.array([client for client in clients if client < len(self._latency_s)], dtype=np.int64)
        self._latency_s[known] = self._value[known] = np.nan
        self._tiers[known] = UNKNOWN

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of every client and tier."""
        return {name: torch.from_numpy(getattr(self, f"_{name}").copy()) for name in _FIELDS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        for name in _FIELDS:
            setattr(self, f"_{name}", state[name].numpy().copy())

    def _remember(self, num_clients: int) -> None:
        if len(self._latency_s) != num_clients:
            self._latency_s, self._value = np.full((2, num_clients), np.nan)
            self._tiers = np.full(num_clients, UNKNOWN, dtype=np.int64)

    def _all_credits(self) -> Floats:
        return np.array([float(n) for n in self.credits] if self.credits else [np.inf] * self.num_tiers)

    def _tiers_of(self, clients: Ints) -> Ints:
        if not (self._tiers != UNKNOWN).any():
            self._make_tiers()
        tiers = self._tiers[clients]
        return np.where(tiers == UNKNOWN, self.num_tiers // 2, tiers)

    def _make_tiers(self) -> None:
        """Sort the clients whose latency is known by it, and split them into tiers of equal size."""
        known = np.flatnonzero(~np.isnan(self._latency_s))
        order = known[np.argsort(self._latency_s[known], kind="stable")]
        for tier, members in enumerate(np.array_split(order, self.num_tiers)):
            self._tiers[members] = tier

    def _begin_round(self, state: RoundState, tiers: Ints, generator: np.random.Generator) -> None:
        """Draw a tier out of those that have somebody up, and take a credit from it."""
        present = np.bincount(tiers, minlength=self.num_tiers) > 0
        if not present.any():
            return
        if not (present & (self._credits > 0)).any():
            self._credits = self._all_credits()
        weights = np.where(present & (self._credits > 0), self._probabilities, 0.0)
        if not weights.any():
            weights = present.astype(np.float64)
        self._tier = int(generator.choice(self.num_tiers, p=weights / weights.sum()))
        self._credits[self._tier] = max(0.0, self._credits[self._tier] - 1.0)

    def _change_probabilities(self, num_examples: np.ndarray) -> None:
        """Give the n tiers with credits (n - q) / (n (n + 1) / 2) by the rank q of their value, the worst first."""
        known = ~np.isnan(self._value) & (self._tiers != UNKNOWN)
        sizes = np.bincount(self._tiers[known], num_examples[known], minlength=self.num_tiers)
        sums = np.bincount(self._tiers[known], (num_examples * self._value)[known], minlength=self.num_tiers)
        lower_is_better = self.metric.endswith(("loss", "error"))
        # A tier of which nothing is known comes first: it is to be heard.
        fit = np.where(sizes > 0, sums / np.maximum(sizes, 1e-300) * (-1 if lower_is_better else 1), -np.inf)
        order = [tier for tier in np.argsort(fit, kind="stable") if self._credits[tier] > 0]
        n = len(order)
        self._probabilities = np.zeros(self.num_tiers)
        self._probabilities[order] = (n - np.arange(n)) / (n * (n + 1) / 2) if n else 0.0
