"""One pace for the whole run."""

from __future__ import annotations

from typing import final

from fedlight.core.types import RoundState
from fedlight.parts.ratio.fixed import check_ratio
from fedlight.parts.ratio.pace.pace import Pace, Target, Tempo, quantile_of


@final
class ConstantPace(Pace):
    """The same level and quantile in every round.

    Args:
        level: ratio of those who set the pace, in [0, 1): the higher, the shorter the rounds.
        target: whose time is common: ``fastest``, ``median``, ``slowest``, or a quantile in [0, 1].
    """

    def __init__(self, level: float = 0.3, target: Target = "fastest") -> None:
        self._tempo = Tempo(check_ratio(level, "level"), quantile_of(target))

    def tempo(self, state: RoundState) -> Tempo:
        """Return level and quantile."""
        return self._tempo
