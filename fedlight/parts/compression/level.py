"""How much each client sends, so that all finish together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from fedlight.core.slots import Part
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.peers import Peers
from fedlight.parts.ratio.pace.pace import Target

_HALVINGS = 24


@final
class TimeMatchedLevel:
    """γ_n is the largest level in [γ_min, 1] with T_n(γ_n) <= T*: a slow client sends less, not to be waited for.

    T* is a quantile of T_n(1), when all is sent, over the clients sent off together (where they come and go one by one:
    over all seen so far, at their last ratio and the whole of the local work); by default the fastest's. A
    client whose download and computing alone take longer than T* has γ_min and is still waited for: compression can't
    shorten them. Times are learnt (:class:`~fedlight.parts.time_model.TimeModel`); before any was seen everyone sends
    all. A deterministic stand-in for the control problem of FlexCom (Li et al. 2021), which no source at hand gives.

    Args:
        min_level: γ_min in (0, 1]; 1 sends all.
        target: whose time is T*: ``fastest``, ``median``, ``slowest`` or a quantile in [0, 1].
        forgetting: of the time model, in (0, 1].

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(self, min_level: float = 0.01, target: Target = "fastest", forgetting: float = 0.9) -> None:
        if not 0.0 < min_level <= 1.0:
            raise ConfigError(f"min_level={min_level} is outside (0, 1]: it is the least share of entries that is sent")
        self.min_level = min_level
        self._peers = Peers(target, forgetting)

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Learn whom to compare with."""
        self._peers.meet(parts)

    def levels(
        self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float], shares: Mapping[int, float]
    ) -> dict[int, float]:
        """Return γ_n for every client, under the coefficients learnt so far."""
        peers = self._peers.of({client: ratios[client] for client in cohort})

        def seconds(client: int, level: float) -> float:
            work = state.price(client, peers[client], shares.get(client, 1.0), level)
            return self._peers.predict_s(state, client, work)

        whole_s = {client: seconds(client, 1.0) for client in peers}
        target_s = self._peers.target_s(whole_s)
        levels = {}
        for client in cohort:
            low, high = self.min_level, 1.0
            if whole_s[client] <= target_s:
                low = 1.0
            elif seconds(client, low) <= target_s:
                for _ in range(_HALVINGS):
                    middle = (low + high) / 2
                    low, high = (middle, high) if seconds(client, middle) <= target_s else (low, middle)
            levels[client] = low
        return levels

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
