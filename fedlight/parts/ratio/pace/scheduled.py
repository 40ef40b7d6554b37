"""A pace by the clock."""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.ratio.pace.pace import Pace, Tempo, check_levels, quantile_of


@final
class ScheduledPace(Pace):
    """Level and quantile along straight lines between points in time: start small and fast, restore capacity later.

    ``ScheduledPace([0.7, 0.2], [0, 100])`` lowers the level from .7 to .2 over the first 100 simulated seconds and
    stays there. ``ScheduledPace([0.7, 0.2, 0.0], [0, 100, 200], [0.0, 0.0, 1.0])`` goes on until, after 200 s, the
    slowest client sets the pace with the full model, so that everyone trains all of it.

    Args:
        levels: ratio of those who set the pace at each point, each in [0, 1).
        at: the points, rising, as many as levels; before the first and after the last nothing changes.
        quantiles: whose time is common at each point, in [0, 1]; None: the fastest client's throughout.
        unit: whether points are simulated seconds (``s``) or ``rounds``.
    """

    def __init__(
        self,
        levels: list[float] | None = None,
        at: list[float] | None = None,
        quantiles: list[float] | None = None,
        unit: Literal["s", "rounds"] = "s",
    ) -> None:
        self.levels = check_levels([0.7, 0.2] if levels is None else levels)
        self.at = [0.0, 100.0] if at is None else [float(point) for point in at]
        quantiles = [0.0] * len(self.levels) if quantiles is None else quantiles
        self.quantiles = [quantile_of(quantile, f"quantiles[{index}]") for index, quantile in enumerate(quantiles)]
        if not len(self.at) == len(self.levels) == len(self.quantiles):
            raise ConfigError(
                f"{len(self.levels)} levels, {len(self.at)} points in at and {len(self.quantiles)} quantiles: give one "
                "of each per point"
            )
        if any(not after > before for before, after in zip(self.at, self.at[1:], strict=False)):
            raise ConfigError(f"at={self.at} doesn't rise: points in time come in order")
        if unit not in ("s", "rounds"):
            raise ConfigError(f"unit={unit!r} is unknown to ScheduledPace: use 's' (simulated seconds) or 'rounds'")
        self.unit = unit

    def tempo(self, state: RoundState) -> Tempo:
        """Return level and quantile of this moment."""
        now = state.now_s if self.unit == "s" else float(state.round_idx)
        return Tempo(float(np.interp(now, self.at, self.levels)), float(np.interp(now, self.at, self.quantiles)))
