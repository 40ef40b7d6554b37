"""A pace by progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from fedlight.core.schedule import Schedule
from fedlight.core.slots import Part
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.ratio.fixed import check_ratio
from fedlight.parts.ratio.pace.pace import Pace, Target, Tempo, quantile_of


@final
class StagnationPace(Pace):
    """Start at ``start``; whenever the training loss stagnates, lower the level by ``step``, down to ``end``.

    At ``end``, each further stagnation raises the quantile by ``quantile_step`` up to ``end_quantile``, so that at last
    slower clients set the pace and everyone trains (nearly) all of the model. The loss stagnates when for ``patience``
    rounds the round's mean ``train/loss``, weighted by examples, hasn't fallen by ``threshold`` times the run's first
    loss below the best since the last step. (By a fraction of the best itself, clients that fit their own data ever
    better would look like progress for ever: docs/results/fashion_mnist.md.) Rounds whose clients tell no loss don't
    count. Where the server doesn't wait, a round is a few clients, mostly the fast ones: the mean is then taken over a
    ``window`` of updates, however many rounds they come in, and ``patience`` counts windows. (By single rounds the
    level falls too soon: docs/results/fashion_mnist.md.)

    Args:
        start: first level, in [0, 1).
        step: how far a stagnation lowers the level, > 0.
        end: last level, in [0, start].
        patience: rounds without progress that make a stagnation, >= 1.
        threshold: smallest fall that is progress, as a fraction of the first loss, in [0, 1).
        target: whose time is common at first: ``fastest``, ``median``, ``slowest``, or a quantile in [0, 1].
        end_quantile: whose time is common at last, at least that of ``target``; None: that of ``target``.
        quantile_step: how far a stagnation at ``end`` raises the quantile, > 0.
        window: updates that make up one look at the loss, >= 1; a round ends a window that is full. None: one round,
            and where the server doesn't wait as many updates as clients are at work.
    """

    def __init__(
        self,
        start: float = 0.7,
        step: float = 0.05,
        end: float = 0.0,
        patience: int = 5,
        threshold: float = 0.01,
        target: Target = "fastest",
        end_quantile: float | None = None,
        quantile_step: float = 0.25,
        window: int | None = None,
    ) -> None:
        self.start, self.end = check_ratio(start, "start"), check_ratio(end, "end")
        if self.end > self.start:
            raise ConfigError(f"end={end} is above start={start}: the level only falls")
        if not step > 0.0 or not quantile_step > 0.0:
            raise ConfigError(f"step={step} and quantile_step={quantile_step} must be above 0, or the pace never moves")
        if patience < 1:
            raise ConfigError(f"patience={patience} is no number of rounds: use 1 or more")
        if window is not None and window < 1:
            raise ConfigError(f"window={window} is no number of updates: use 1 or more, or leave it out for one round")
        if not 0.0 <= threshold < 1.0:
            raise ConfigError(f"threshold={threshold} is outside [0, 1): it is a fraction of the first loss")
        quantile = quantile_of(target)
        self.end_quantile = quantile if end_quantile is None else quantile_of(end_quantile, "end_quantile")
        if self.end_quantile < quantile:
            raise ConfigError(f"end_quantile={end_quantile} is below target={target!r}: the quantile only rises")
        self.step, self.patience, self.threshold, self.quantile_step = step, patience, threshold, quantile_step
        self.window = window
        self._schedule: Schedule | None = None
        self._tempo = Tempo(self.start, quantile)
        self._losses: list[tuple[float, int]] = []  # of the window: loss, examples
        self._first: float | None = None
        self._best: float | None = None
        self._idle = 0

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Learn from the schedule whether the server waits."""
        schedule = parts["schedule"]
        self._schedule = schedule if isinstance(schedule, Schedule) else None

    def tempo(self, state: RoundState) -> Tempo:
        """Return level and quantile by the stagnations so far."""
        return self._tempo

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Look whether the training loss still falls."""
        told = [report for report in reports if report.accepted and "train/loss" in report.metrics]
        self._losses += [(report.metrics["train/loss"], report.num_examples) for report in told]
        if not told or len(self._losses) < self._window(len(state.num_examples)):
            return
        losses, sizes = zip(*self._losses, strict=True)
        self._losses, loss = [], float(np.average(losses, weights=sizes))
        if self._first is None:
            self._first = abs(loss)
        if self._best is None or loss < self._best - self.threshold * self._first:
            self._best, self._idle = loss, 0
            return
        self._idle += 1
        if self._idle >= self.patience:
            self._tempo, self._best, self._idle = self._next(), None, 0

    def state_dict(self) -> dict[str, Any]:
        """Return level, quantile, and how long the loss has stood still."""
        tempo = {"level": self._tempo.level, "quantile": self._tempo.quantile}
        losses = [list(one) for one in self._losses]
        return {**tempo, "first": self._first, "best": self._best, "idle": self._idle, "losses": losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._tempo = Tempo(state["level"], state["quantile"])
        self._first, self._best, self._idle = state["first"], state["best"], state["idle"]
        self._losses = [(loss, size) for loss, size in state["losses"]]

    def _window(self, num_clients: int) -> int:
        at_work = self._schedule.at_work(num_clients) if self._schedule else None
        return self.window or at_work or 1

    def _next(self) -> Tempo:
        level, quantile = self._tempo.level, self._tempo.quantile
        if level > self.end:
            return Tempo(max(self.end, round(level - self.step, 6)), quantile)
        return Tempo(level, min(self.end_quantile, round(quantile + self.quantile_step, 6)))
