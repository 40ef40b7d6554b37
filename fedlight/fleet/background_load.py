"""Episodes in which a device is busy with something else."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.fleet.draws import Draws
from fedlight.fleet.responsiveness import Responsiveness, Slowdown


@final
class BackgroundLoad(Responsiveness):
    """Now and then something else runs on a device, and computing takes two to four times as long.

    In every interval an episode begins with probability p; it lasts a whole number of intervals, uniform from
    ``shortest`` to ``longest``, and multiplies the seconds of computing by U(low, high). Where episodes overlap, the
    worst counts. P(loaded) = 1 - Π over ages a = 0 .. longest - 1 of (1 - p P(lasts longer than a)).

    Args:
        interval_s: simulated seconds, > 0.
        probability: p, in [0, 1].
        low: smallest factor, >= 1.
        high: largest factor, >= low.
        shortest: intervals, >= 1.
        longest: intervals, >= shortest.
    """

    def __init__(
        self,
        interval_s: float,
        probability: float = 0.05,
        low: float = 2.0,
        high: float = 4.0,
        shortest: int = 3,
        longest: int = 10,
    ) -> None:
        if not 0.0 < interval_s < math.inf:
            raise ConfigError(f"interval_s={interval_s} is no interval: give simulated seconds above 0")
        if not 0.0 <= probability <= 1.0:
            raise ConfigError(f"probability={probability} is outside [0, 1]")
        if not 1.0 <= low <= high < math.inf:
            raise ConfigError(f"low={low} and high={high} are no slowdowns: they need 1 <= low <= high")
        if not 1 <= shortest <= longest:
            raise ConfigError(
                f"shortest={shortest} and longest={longest} are no lengths: they need 1 <= shortest <= longest"
            )
        self.interval_s = interval_s
        self.probability = probability
        self.low = low
        self.high = high
        self.shortest = shortest
        self.longest = longest
        self._ages = np.arange(longest, dtype=np.int64)

    def setup(self, num_clients: int, seed: int) -> None:
        """Take the seed."""
        self._begins = Draws(seed, "load/begin")
        self._lengths = Draws(seed, "load/length")
        self._factors = Draws(seed, "load/factor")

    def slowdown(self, client: int, now_s: float) -> Slowdown:
        """Return the factor of the worst episode that runs in the interval of this time."""
        who = np.array([client])
        starts = math.floor(now_s / self.interval_s) - self._ages
        begins = self._begins.uniform(who, starts) < self.probability
        if not begins.any():
            return Slowdown()
        starts, ages = starts[begins], self._ages[begins]
        lengths = self.shortest + np.floor(self._lengths.uniform(who, starts) * (self.longest - self.shortest + 1))
        running = ages < lengths
        if not running.any():
            return Slowdown()
        return Slowdown(self.low + (self.high - self.low) * float(self._factors.uniform(who, starts[running]).max()))
