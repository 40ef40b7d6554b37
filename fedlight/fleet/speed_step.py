"""Devices that become slower at a known time, for experiments."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.fleet.draws import Draws
from fedlight.fleet.responsiveness import Responsiveness, Slowdown


@final
class SpeedStep(Responsiveness):
    """From one time to another some clients compute slower by a factor: how fast does a policy follow?

    Args:
        at_s: simulated time at which they become slower, >= 0.
        factor: on the seconds of computing, > 0; below 1 they become faster.
        clients: which; None: drawn by ``share``.
        share: probability of each client to be one of them, in (0, 1], where ``clients`` is not given.
        until_s: when it is over; None: never.
    """

    def __init__(
        self,
        at_s: float,
        factor: float = 4.0,
        clients: list[int] | None = None,
        share: float = 1.0,
        until_s: float | None = None,
    ) -> None:
        if not 0.0 <= at_s < math.inf:
            raise ConfigError(f"at_s={at_s} is no simulated time: give a number of seconds, at least 0")
        if not 0.0 < factor < math.inf:
            raise ConfigError(f"factor={factor} is no slowdown: give a number above 0, 4 is four times slower")
        if not 0.0 < share <= 1.0:
            raise ConfigError(f"share={share} is outside (0, 1]: it is the fraction of clients that become slower")
        if until_s is not None and until_s <= at_s:
            raise ConfigError(f"until_s={until_s} is not after at_s={at_s}")
        self.at_s = at_s
        self.factor = factor
        self.clients = None if clients is None else list(clients)
        self.share = share
        self.until_s = until_s

    def setup(self, num_clients: int, seed: int) -> None:
        """Draw who it is; raises ConfigError for a client that doesn't exist."""
        wrong = [client for client in self.clients or () if not 0 <= client < num_clients]
        if wrong:
            raise ConfigError(
                f"model.fleet: clients of SpeedStep has {wrong[0]}, but the clients are 0 to {num_clients - 1}"
            )
        everybody = np.arange(num_clients, dtype=np.int64)
        drawn = Draws(seed, "step").uniform(everybody, np.zeros(1, np.int64)) < self.share
        self._slowed = drawn if self.clients is None else np.isin(everybody, self.clients)

    def slowdown(self, client: int, now_s: float) -> Slowdown:
        """Return the factor while it lasts."""
        lasts = self.at_s <= now_s < (math.inf if self.until_s is None else self.until_s)
        return Slowdown(self.factor) if lasts and self._slowed[client] else Slowdown()
