"""How long a round Oort prefers: a percentile of clients' durations that moves as utility changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.parts.selection.draws import Floats

FLAT: Final = 0.1
SHARP: Final = 5.0
"""Change of utility over one step, as a fraction of what it was, up to which it is flat, from which on it is sharp."""

ALL: Final = 100.0


@final
class Pacer:
    """Oort's pacer: the percentile of durations up to which a client isn't penalised.

    With S₁ the utility that exploited clients brought in the last ``step`` rounds, S₀ in the ``step`` before, in every
    ``step``-th round from 2 · ``step`` on: |S₁ - S₀| <= 0.1 S₀ raises the percentile by ``delta``, up to 100;
    |S₁ - S₀| >= 5 S₀ lowers it by ``delta``, down to ``delta``.

    Args:
        percentile: to begin with, in (0, 100]; 100 penalises nobody.
        step: rounds, >= 1.
        delta: percent, > 0.
    """

    def __init__(self, percentile: float, step: int, delta: float) -> None:
        if not 0.0 < percentile <= ALL:
            raise ConfigError(f"round_threshold={percentile} is no percentile: use a number above 0, up to 100")
        if step < 1 or not delta > 0.0:
            raise ConfigError(
                f"pacer_step={step} and pacer_delta={delta} must be above 0: 20 rounds and 5 percent, say"
            )
        self.percentile = float(percentile)
        self.step = step
        self.delta = delta
        self._utilities: list[float] = []

    def begin_round(self, round_number: int, utility: float) -> None:
        """Take in what the last round's exploited clients brought on average; rounds count from 1."""
        self._utilities = [*self._utilities, utility][-2 * self.step :]
        if round_number < 2 * self.step or round_number % self.step:
            return
        before, now = sum(self._utilities[-2 * self.step : -self.step]), sum(self._utilities[-self.step :])
        if abs(now - before) <= FLAT * before:
            self.percentile = min(ALL, self.percentile + self.delta)
        elif abs(now - before) >= SHARP * before:
            self.percentile = max(self.delta, self.percentile - self.delta)

    def preferred_s(self, durations_s: Floats) -> float:
        """Return T, the duration at the percentile; infinity at 100 and while none is known."""
        if self.percentile >= ALL or not len(durations_s):
            return float("inf")
        index = min(int(len(durations_s) * self.percentile / ALL), len(durations_s) - 1)
        return float(np.partition(durations_s, index)[index])

    def state_dict(self) -> dict[str, Any]:
        """Return the percentile and the utilities that will be compared."""
        return {"percentile": self.percentile, "utilities": list(self._utilities)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.percentile = state["percentile"]
        self._utilities = list(state["utilities"])
