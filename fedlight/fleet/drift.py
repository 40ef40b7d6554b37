"""Speeds that wander."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.fleet.draws import Draws
from fedlight.fleet.responsiveness import Responsiveness, Slowdown

_FORGOTTEN = 1e-6


@final
class Drift(Responsiveness):
    """A client's speed wanders around its device's: an AR(1) process of its logarithm, one step per interval.

    log factor: x_k = ρ x_{k-1} + s z_k, z_k ~ N(0, 1) drawn from (seed, client, k): standard deviation s / √(1 - ρ²),
    0.23 by default, from the start on. Computed as the sum Σ_j ρ^j s z_{k-j} until ρ^j is below a millionth, so that
    any moment can be asked for. A job keeps the speed that its client has as it leaves.

    Ours; FjORD lowers a device's level for the same reason (Horváth et al. 2021, §4.1).

    Args:
        interval_s: simulated seconds between steps, > 0.
        std: s, of the log speed's step, >= 0.
        correlation: ρ, in [0, 0.999].
        link_std: s of the bandwidths, likewise, with draws of their own; 0: they don't wander.
    """

    def __init__(self, interval_s: float, std: float = 0.1, correlation: float = 0.9, link_std: float = 0.0) -> None:
        if not 0.0 < interval_s < math.inf:
            raise ConfigError(f"interval_s={interval_s} is no interval: give simulated seconds above 0")
        for key, value in (("std", std), ("link_std", link_std)):
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"{key}={value} is no standard deviation: give a number, at least 0")
        if not 0.0 <= correlation <= 0.999:
            raise ConfigError(f"correlation={correlation} is outside [0, 0.999]: nearer to 1 it never comes back")
        self.interval_s = interval_s
        self.std = std
        self.correlation = correlation
        self.link_std = link_std
        reach = 1 if correlation == 0 else math.ceil(math.log(_FORGOTTEN) / math.log(correlation))
        self._back = np.arange(reach, dtype=np.int64)
        self._memory = correlation ** self._back.astype(np.float64)

    def setup(self, num_clients: int, seed: int) -> None:
        """Take the seed."""
        self._of_speed = Draws(seed, "drift/speed")
        self._of_link = Draws(seed, "drift/link")

    def slowdown(self, client: int, now_s: float) -> Slowdown:
        """Return exp(-x) of the interval that the time lies in."""
        step = math.floor(now_s / self.interval_s)
        return Slowdown(
            self._factor(self._of_speed, self.std, client, step),
            self._factor(self._of_link, self.link_std, client, step),
        )

    def _factor(self, draws: Draws, std: float, client: int, step: int) -> float:
        if std == 0.0:
            return 1.0
        return math.exp(-std * float(self._memory @ draws.normal(np.array([client]), step - self._back)))
