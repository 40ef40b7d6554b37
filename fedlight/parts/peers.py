"""Whom a client's time is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from fedlight.core.schedule import Schedule
from fedlight.core.slots import Part
from fedlight.core.types import Report


@final
class Peers:
    """The clients that are sent off together; where they come and go one by one, all that have been seen as well.

    Of clients seen it keeps the ratio that they last had: one number each, and none where cohorts are sent.
    """

    def __init__(self) -> None:
        self._come_alone = False
        self._seen: dict[int, float] = {}

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Learn from the schedule whether cohorts are sent."""
        schedule = parts["schedule"]
        self._come_alone = isinstance(schedule, Schedule) and not schedule.sends_cohorts

    def observe(self, reports: Sequence[Report]) -> None:
        """Remember who has come back."""
        if self._come_alone:
            self._seen.update({report.client: report.ratio for report in reports})

    def of(self, ratios: Mapping[int, float]) -> dict[int, float]:
        """Return ratios by client: of these, and of those seen before."""
        return {**self._seen, **ratios}

    def forget(self, clients: Sequence[int]) -> None:
        """Drop who has expired."""
        for client in clients:
            self._seen.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """Return who has been seen."""
        return {"seen": dict(self._seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._seen = dict(state["seen"])
