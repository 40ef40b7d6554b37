"""Capability decides how many: the largest submodel that meets a common time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np

from fedlight.core.schedule import Schedule
from fedlight.core.slots import Part, Ratio
from fedlight.core.types import Report, RoundState, Work
from fedlight.errors import ConfigError
from fedlight.parts.ratio.fixed import check_ratio
from fedlight.parts.ratio.pace import ConstantPace, Pace, Tempo
from fedlight.parts.time_model import TimeModel


@final
class SpeedAligned(Ratio):
    """Every client gets the largest submodel that it finishes in the cohort's common time T*.

    T* = quantile over the cohort of T_n(level), level and quantile coming from a pace; α_n = the smallest ratio on the
    grid 0, ``step``, 2 ``step``, ..., max_ratio with T_n(α_n) ≤ T*, and ``max_ratio`` where none has. T_n comes from a
    :class:`~fedlight.parts.time_model.TimeModel` that learns from the times of finished clients, or, for an ablation,
    from the fleet's own device profiles (``cost_model="known"``: no real server has them).

    A client that has time for the full model gets it. Another one keeps its ratio of last time while that is predicted
    to end within ``hysteresis`` of T*, so noise in times doesn't redraw maps. Under a learned model a cohort in which
    nobody was ever seen (the first) gets ``start_ratio``, clients that were never seen in a later one are taken for the
    median of those that were.

    Where the schedule doesn't send cohorts, but one client whenever another is back, T* is the quantile over the fleet
    known so far: all clients whose times were observed (all that were ever sent off, under a known model). It is worked
    out once per version of the model, at a cost that grows with the clients known.

    Args:
        pace: how fast rounds shall be; None: :class:`~fedlight.parts.ConstantPace`.
        max_ratio: largest ratio given to anyone, in [0, 1).
        step: distance of the grid's ratios, in (0, 1).
        hysteresis: relative distance from T* at which a client keeps its ratio, >= 0.
        start_ratio: ratio while nothing is known, in [0, 1).
        forgetting: see :class:`~fedlight.parts.time_model.TimeModel`.
        cost_model: ``learned``, or ``known``: the fleet's expected time of the work, without noise.
    """

    def __init__(
        self,
        pace: Pace | None = None,
        max_ratio: float = 0.95,
        step: float = 0.01,
        hysteresis: float = 0.1,
        start_ratio: float = 0.5,
        forgetting: float = 0.9,
        cost_model: Literal["learned", "known"] = "learned",
    ) -> None:
        if cost_model not in ("learned", "known"):
            raise ConfigError(f"cost_model={cost_model!r} is not one of 'learned', 'known'")
        if not 0.0 < step < 1.0:
            raise ConfigError(f"step={step} is outside (0, 1): it is the distance of the ratios to choose from")
        if not hysteresis >= 0.0:
            raise ConfigError(f"hysteresis={hysteresis} is no number >= 0: 0 follows every change, 0.1 ignores a tenth")
        self.pace = pace or ConstantPace()
        self.max_ratio = check_ratio(max_ratio, "max_ratio")
        self.start_ratio = check_ratio(start_ratio, "start_ratio")
        self.hysteresis = hysteresis
        self._grid = [round(index * step, 6) for index in range(int(round(self.max_ratio / step, 6)) + 1)]
        if self._grid[-1] < self.max_ratio:
            self._grid.append(self.max_ratio)
        self._knows = cost_model == "known"
        self._model = TimeModel(forgetting)
        self._ratios: dict[int, float] = {}
        self._metrics: dict[str, float] = {}
        self._sends_cohorts = True
        self._target: tuple[tuple[int, int], float] | None = None  # T* of (version, number of clients known)

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Learn from the schedule whether cohorts are sent, and let the pace get to know the parts."""
        schedule = parts["schedule"]
        self._sends_cohorts = not isinstance(schedule, Schedule) or schedule.sends_cohorts
        self.pace.meet(parts)

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the ratio that brings every client to T*."""
        tempo = self.pace.tempo(state)
        if not self._knows and not len(self._model):
            return dict.fromkeys(cohort, min(self.start_ratio, self.max_ratio))
        if not cohort:
            return {}
        target_s = self._target_s(state, cohort, tempo)
        chosen = {client: self._align(state, client, target_s) for client in cohort}
        self._ratios.update(chosen)
        self._metrics = {"ratio/target_s": target_s, "ratio/level": tempo.level, "ratio/quantile": tempo.quantile}
        return chosen

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn the times of the clients that have just finished, accepted or not, and let the pace learn."""
        told = [report for report in reports if report.timing.total_s > 0]
        if told and (self._knows or len(self._model)):
            errors = [abs(self._work_s(state, one.client, one.work) / one.timing.total_s - 1.0) for one in told]
            self._metrics["ratio/time_error"] = float(np.mean(errors))
        if not self._knows:
            self._model.learn(reports)
        self.pace.observe(state, reports)

    def metrics(self) -> dict[str, float]:
        """Return pace and T* of the last cohort, and the mean relative error of the times predicted for it."""
        return {**self._metrics, **self.pace.metrics()}

    def forget(self, clients: Sequence[int]) -> None:
        """Drop times and ratios."""
        self._model.forget(clients)
        for client in clients:
            self._ratios.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """Return the time model, the pace and everyone's last ratio."""
        return {
            "pace": self.pace.state_dict(),
            "model": self._model.state_dict(),
            "ratios": dict(self._ratios),
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.pace.load_state_dict(state["pace"])
        self._model.load_state_dict(state["model"])
        self._ratios = dict(state["ratios"])
        self._metrics = dict(state["metrics"])

    def _target_s(self, state: RoundState, cohort: Sequence[int], tempo: Tempo) -> float:
        """Return T* of the cohort, or of the fleet known so far."""
        if self._sends_cohorts:
            return self._quantile_s(state, cohort, tempo)
        known = tuple({**self._ratios, **dict.fromkeys(cohort)}) if self._knows else self._model.clients
        key = (state.round_idx, len(known))
        if self._target is None or self._target[0] != key:
            self._target = key, self._quantile_s(state, known, tempo)
        return self._target[1]

    def _quantile_s(self, state: RoundState, clients: Sequence[int], tempo: Tempo) -> float:
        level = min(tempo.level, self.max_ratio)
        return float(np.quantile([self._predict_s(state, client, level) for client in clients], tempo.quantile))

    def _predict_s(self, state: RoundState, client: int, ratio: float) -> float:
        return self._work_s(state, client, state.price(client, ratio))

    def _work_s(self, state: RoundState, client: int, work: Work) -> float:
        return (
            state.expected_s(client, work) if self._knows else self._model.predict_s(client, work, state.device(client))
        )

    def _align(self, state: RoundState, client: int, target_s: float) -> float:
        """Bisect the grid: a higher ratio never takes longer."""
        if self._predict_s(state, client, 0.0) <= target_s * (1 + 1e-9):
            return 0.0
        old = self._ratios.get(client)
        if old is not None and abs(self._predict_s(state, client, old) - target_s) <= self.hysteresis * target_s:
            return old
        low, high = 0, len(self._grid) - 1
        while low < high:
            middle = (low + high) // 2
            if self._predict_s(state, client, self._grid[middle]) <= target_s * (1 + 1e-9):
                high = middle
            else:
                low = middle + 1
        return self._grid[low]
