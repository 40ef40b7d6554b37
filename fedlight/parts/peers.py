"""Whom a client's time is compared with, and how long they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from fedlight.core.schedule import Schedule
from fedlight.core.slots import Part
from fedlight.core.types import Report, RoundState, Work
from fedlight.parts.ratio.pace.pace import Target, quantile_of
from fedlight.parts.time_model import TimeModel


@final
class Peers:
    """The clients that are sent off together; where they come and go one by one, all that have been seen as well.

    T* is a quantile of how long they take, by times that are learnt (:class:`~fedlight.parts.time_model.TimeModel`). Of
    clients seen it keeps the ratio that they last had: one number each, and none where cohorts are sent.

    Args:
        target: whose time is T*: ``fastest``, ``median``, ``slowest`` or a quantile in [0, 1].
        forgetting: of the time model, in (0, 1].

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(self, target: Target, forgetting: float) -> None:
        self._quantile = quantile_of(target)
        self._model = TimeModel(forgetting)
        self._come_alone = False
        self._seen: dict[int, float] = {}

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Learn from the schedule whether cohorts are sent."""
        schedule = parts["schedule"]
        self._come_alone = isinstance(schedule, Schedule) and not schedule.sends_cohorts

    def observe(self, reports: Sequence[Report]) -> None:
        """Learn how long clients take, and remember who has come back."""
        self._model.learn(reports)
        if self._come_alone:
            self._seen.update({report.client: report.ratio for report in reports})

    def of(self, ratios: Mapping[int, float]) -> dict[int, float]:
        """Return ratios by client: of these, and of those seen before."""
        return {**self._seen, **ratios}

    def predict_s(self, state: RoundState, client: int, work: Work) -> float:
        """Return the seconds that a client takes for this work; 0 while no client was ever seen."""
        return self._model.predict_s(client, work, state.device(client))

    def target_s(self, whole_s: Mapping[int, float]) -> float:
        """Return T* of peers that take so long for the whole; 0 for nobody."""
        return float(np.quantile(list(whole_s.values()), self._quantile)) if whole_s else 0.0

    def forget(self, clients: Sequence[int]) -> None:
        """Drop who has expired."""
        self._model.forget(clients)
        for client in clients:
            self._seen.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """Return the time model, and who has been seen."""
        return {"time_model": self._model.state_dict(), "seen": dict(self._seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._model.load_state_dict(state["time_model"])
        self._seen = dict(state["seen"])
