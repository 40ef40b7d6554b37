"""Ends a run where comparisons end it: at a simulated time, or at a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch import Callback

from fedlight.errors import ConfigError
from fedlight.tracking.record import last_round
from fedlight.tracking.watched import Mode, better


@final
class StopAt(Callback):
    """Ends a run after the first round that reaches a simulated time, or whose metric is as good as a target.

    Unlike EarlyStopping it knows after a resume that the end was reached, so a run that was killed between its last
    round and its end gets no round more than one that wasn't.

    Args:
        simulated_s: simulated seconds, > 0; None: no limit.
        metric: the metric that the target is of, for example ``val/accuracy``.
        target: value of the metric; None: no target.
        mode: which way the metric gets better; None: as its name tells.
    """

    def __init__(
        self,
        simulated_s: float | None = None,
        metric: str | None = None,
        target: float | None = None,
        mode: Mode | None = None,
    ) -> None:
        if simulated_s is not None and not simulated_s > 0:
            raise ConfigError(f"simulated_s={simulated_s:g} is no time to stop at; give seconds > 0, or leave it out")
        if target is not None and metric is None:
            raise ConfigError(f"target={target:g} needs the metric that it is of, for example metric: val/accuracy")
        self.simulated_s = simulated_s
        self.metric = metric
        self.target = target
        self.mode: Mode = mode or better(metric or "")
        self._reached = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train nothing where the run that is resumed has reached its end."""
        if self._reached:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the run if the round that has just ended reached the time or the target."""
        record = last_round(pl_module)
        late = record is not None and self.simulated_s is not None and record.end_s >= self.simulated_s
        value = trainer.callback_metrics.get(self.metric) if self.metric is not None else None
        if late or (value is not None and self._is_reached(float(value))):
            self._reached = trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return whether the end was reached."""
        return {"reached": self._reached}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take it back."""
        self._reached = bool(state_dict["reached"])

    def _is_reached(self, value: float) -> bool:
        if self.target is None:
            return False
        return value >= self.target if self.mode == "max" else value <= self.target
