"""A daily pattern of availability."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.fleet.availability import Availability
from fedlight.fleet.draws import Bools, Draws, Floats, Ints, cells


@final
class Daily(Availability):
    """Every client is up once a day for the same length of time, around an hour of its own time zone.

    Up on its day d: [m - L/2, m + L/2) with L = share_up · day and m = peak + zone + jitter · z_d. The zone is drawn
    once per client, U(-1/2, 1/2) · timezone_spread, and z_d ~ N(0, 1) once per client and day, cut off where the window
    would leave its day.
    Over a day each client is up for the fraction ``share_up`` exactly. How many are up at a time follows a wave, which
    is flat when the zones cover the whole day and steepest when all live in one.

    Phones train while they charge, at night and on Wi-Fi (Bonawitz et al. 2019, Towards federated learning at scale,
    §9: four times more devices at night than by day); the numbers here are ours.

    Args:
        share_up: fraction of the day that a client is up, in (0, 1].
        day_s: length of the day in simulated seconds, > 0.
        peak: middle of the window as a fraction of the day, where the run begins at 0; in [0, 1].
        timezone_spread: width of the time zones as a fraction of the day, in [0, 1].
        jitter: standard deviation of a window's middle from day to day, as a fraction of the day, >= 0.
    """

    def __init__(
        self,
        share_up: float = 0.4,
        day_s: float = 86_400.0,
        peak: float = 0.1,
        timezone_spread: float = 0.5,
        jitter: float = 0.02,
    ) -> None:
        if not 0.0 < share_up <= 1.0:
            raise ConfigError(f"share_up={share_up} is outside (0, 1]: it is the fraction of the day, 0 is never up")
        if not 0.0 < day_s < np.inf:
            raise ConfigError(f"day_s={day_s} is no length of a day: give simulated seconds above 0")
        for key, value in (("peak", peak), ("timezone_spread", timezone_spread)):
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{key}={value} is outside [0, 1]: it is a fraction of the day")
        if not 0.0 <= jitter < np.inf:
            raise ConfigError(f"jitter={jitter} is no spread: give a fraction of the day, at least 0")
        self.share_up = share_up
        self.day_s = day_s
        self.peak = peak
        self.timezone_spread = timezone_spread
        self.jitter = jitter

    def setup(self, num_clients: int, seed: int) -> None:
        """Draw everybody's time zone."""
        everybody = np.arange(num_clients, dtype=np.int64)
        zone = self.timezone_spread * (Draws(seed, "zone").uniform(everybody, np.zeros(1, np.int64)) - 0.5)
        # A client's days are counted such that its window lies in the middle of them.
        self._midnight_s = self.day_s * (self.peak + zone - 0.5)
        self._draws = Draws(seed, "daily")

    def status(self, clients: Ints, times_s: Floats) -> tuple[Bools, Floats]:
        """Return who is within its window, and the window's next border."""
        if self.share_up == 1.0:
            return np.ones(len(clients), dtype=np.bool_), np.full(len(clients), np.inf)
        midnight_s = self._midnight_s[clients]
        day = cells(times_s, self.day_s, midnight_s)
        room = 0.5 * (1.0 - self.share_up)
        shift = np.clip(self.jitter * self._draws.normal(clients, day), -room, room) if self.jitter else 0.0
        opens_s = midnight_s + day * self.day_s + self.day_s * (room + shift)
        closes_s = opens_s + self.day_s * self.share_up
        tomorrow_s = midnight_s + (day + 1) * self.day_s
        closes_s = np.minimum(closes_s, tomorrow_s)
        up = (opens_s <= times_s) & (times_s < closes_s)
        until_s = np.where(times_s < opens_s, opens_s, np.where(up, closes_s, tomorrow_s))
        return up, until_s
