"""The pace without the alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from fedlight.core.slots import Part, Ratio
from fedlight.core.types import Report, RoundState
from fedlight.parts.ratio.pace import Pace


@final
class Unaligned(Ratio):
    """Everyone gets the pace's level as ratio, whatever the device: what a pace is worth without alignment.

    A round then lasts as long as its slowest client. The pace's quantile means nothing here.

    Args:
        pace: what the level is.
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Let the pace get to know the algorithm's parts."""
        self.pace.meet(parts)

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the level for every client."""
        return dict.fromkeys(cohort, self.pace.tempo(state).level)

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Let the pace learn."""
        self.pace.observe(state, reports)

    def metrics(self) -> dict[str, float]:
        """Return what the pace tells."""
        return self.pace.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Return the pace's memory."""
        return {"pace": self.pace.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.pace.load_state_dict(state["pace"])
