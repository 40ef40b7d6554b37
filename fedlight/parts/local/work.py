"""Unequal local work: who is asked for less than the whole."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

from fedlight.core.seeds import numpy_generator
from fedlight.core.slots import Part
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.peers import Peers
from fedlight.parts.ratio.pace.pace import Target

_LEAST_SHARE = 1e-6  # rounds down to one step


class LocalWork(ABC):
    """Which fraction of the local work is each client asked for?"""

    def meet(self, parts: Mapping[str, Part]) -> None:  # noqa: B027 - draws don't care who the others are
        """Get to know the algorithm's parts, by slot, once before the first round."""

    @abstractmethod
    def shares(
        self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float], num_passes: int
    ) -> dict[int, float]:
        """Return a share in [0, 1] for every client; 0: it isn't sent off.

        Args:
            state: the round.
            cohort: clients that are sent off together.
            ratios: their pruning ratios.
            num_passes: epochs of the whole work, or steps where it is counted in steps.
        """

    def observe(self, reports: Sequence[Report]) -> None:  # noqa: B027 - draws have nothing to learn
        """Learn from the clients that have just finished."""

    def forget(self, clients: Sequence[int]) -> None:  # noqa: B027 - draws remember nobody
        """Drop what was learnt of clients that have expired."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a restart."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - draws remember nothing
        """Take it back."""


@final
class EqualWork(LocalWork):
    """Everyone does the whole."""

    def shares(
        self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float], num_passes: int
    ) -> dict[int, float]:
        """Return 1 for every client."""
        return dict.fromkeys(cohort, 1.0)


@final
class Stragglers(LocalWork):
    """The straggler protocol: a fixed fraction of the clients sent off together manages x ~ U{1, ..., E} epochs only.

    Li et al. 2020 (FedProx), section 5.2: FedProx keeps what stragglers did, FedAvg drops them. Who straggles and x
    depend on (seed, round, client) alone, so that methods can be compared on the same ones. The count is exact:
    ``fraction`` · K, rounded by chance where it is no whole number. (The paper's code draws x from 1, ..., E - 1, and
    Flower's baseline draws each client on its own.)

    Args:
        fraction: fraction of stragglers in [0, 1]; the paper has 0, 0.5 and 0.9.
        keep: whether their updates count. False: they aren't sent off at all, since the deadline passes before they
            are back; one client is always kept.

    Raises:
        ConfigError: a fraction outside [0, 1].
    """

    def __init__(self, fraction: float = 0.9, keep: bool = True) -> None:
        if not 0.0 <= fraction <= 1.0:
            raise ConfigError(f"fraction={fraction} of stragglers is outside [0, 1]: the paper has 0, 0.5 and 0.9")
        self.fraction = fraction
        self.keep = keep

    def shares(
        self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float], num_passes: int
    ) -> dict[int, float]:
        """Draw stragglers and how much each manages."""
        draws = {client: numpy_generator(state.seed, state.round_idx, client, "straggler") for client in cohort}
        order = sorted((float(draws[client].random()), client) for client in cohort)
        rounding = float(draws[min(cohort)].random()) if cohort else 0.0
        count = math.floor(round(self.fraction * len(cohort), 9) + rounding * (1 - 1e-12))
        if not self.keep:
            count = min(count, len(cohort) - 1)
        shares = dict.fromkeys(cohort, 1.0)
        for _, client in order[: max(0, count)]:
            generator = numpy_generator(state.seed, state.round_idx, client, "straggler work")
            shares[client] = int(generator.integers(1, num_passes, endpoint=True)) / num_passes if self.keep else 0.0
        return shares


@final
class TimeMatchedWork(LocalWork):
    """Slow clients take fewer steps, so that all finish together: τ_n = clip(⌊share_n · τ⌋, 1, τ).

    share_n solves T_n(share) = T* for T_n(share) = T_n(0) + share · (T_n(1) - T_n(0)); T_n(0) is what it takes to send
    the model there and back, which less work can't shorten, and T* a quantile of T_n(1) over the clients sent off
    together (where they come and go one by one: over all seen so far). Times are learnt
    (:class:`~fedlight.parts.time_model.TimeModel`); before any was seen everyone does the whole work. How FedMP's
    comparison runs FedProx (recalled, not confirmed by a source).

    Args:
        target: whose time is T*: ``fastest``, ``median``, ``slowest`` or a quantile in [0, 1].
        forgetting: of the time model, in (0, 1].

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(self, target: Target = "fastest", forgetting: float = 0.9) -> None:
        self._peers = Peers(target, forgetting)

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Learn whom to compare with."""
        self._peers.meet(parts)

    def shares(
        self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float], num_passes: int
    ) -> dict[int, float]:
        """Return the shares under the coefficients learnt so far."""
        peers = self._peers.of({client: ratios[client] for client in cohort})
        works = {client: state.price(client, ratio) for client, ratio in peers.items()}
        whole_s = {client: self._peers.predict_s(state, client, work) for client, work in works.items()}
        target_s = self._peers.target_s(whole_s)
        shares = {}
        for client in cohort:
            work = works[client]
            sending_s = self._peers.predict_s(state, client, replace(work, macs=0.0))
            computing_s = whole_s[client] - sending_s
            fits = whole_s[client] <= target_s or computing_s <= 0
            shares[client] = 1.0 if fits else max(_LEAST_SHARE, (target_s - sending_s) / computing_s)
        return shares

    def observe(self, reports: Sequence[Report]) -> None:
        """Learn how long clients take."""
        self._peers.observe(reports)

    def forget(self, clients: Sequence[int]) -> None:
        """Drop times."""
        self._peers.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return the time model, and who was seen."""
        return self._peers.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._peers.load_state_dict(state)
