"""One pace for the whole run."""

from __future__ import annotations

import math
from typing import final

from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.ratio.fixed import check_ratio
from fedlight.parts.ratio.pace.pace import Pace, Target, Tempo, quantile_of


@final
class ConstantPace(Pace):
    """The same level and quantile in every round, at most until all train the whole model.

    Args:
        level: ratio of those who set the pace, in [0, 1): the higher, the shorter the rounds.
        target: whose time is common: ``fastest``, ``median``, ``slowest``, or a quantile in [0, 1].
        whole_after_s: simulated seconds, >= 0, after which the slowest client's time with the full model is common, so
            that everyone trains all of it; None: never.
    """

    def __init__(self, level: float = 0.3, target: Target = "fastest", whole_after_s: float | None = None) -> None:
        if whole_after_s is not None and not whole_after_s >= 0.0:
            raise ConfigError(f"whole_after_s={whole_after_s} is no time: give simulated seconds >= 0, or leave it out")
        self.whole_after_s = math.inf if whole_after_s is None else float(whole_after_s)
        self._tempo = Tempo(check_ratio(level, "level"), quantile_of(target))

    def tempo(self, state: RoundState) -> Tempo:
        """Return level and quantile of this moment."""
        return self._tempo if state.now_s < self.whole_after_s else Tempo(0.0, 1.0)
