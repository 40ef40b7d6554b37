"""The checkpoints that a run keeps: the last round's, and that of the best round."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from fedlight.errors import ConfigError
from fedlight.tracking.run_note import validates
from fedlight.tracking.watched import LOSS, VALIDATION, Mode, better, choose_metric


def default_checkpoints(by_validation: bool, monitor: str | None = None, mode: Mode | None = None) -> list[pl.Callback]:
    """Return callbacks that keep ``last.ckpt`` after every round, and ``best.ckpt`` by a metric that the client logs.

    Args:
        by_validation: whether validation may choose; where it reads the test set, it must not, and none is "best".
        monitor: the metric; None: :func:`fedlight.tracking.watched.choose_metric`.
        mode: which way it gets better; None: as its name tells.

    Raises:
        ConfigError: ``monitor`` is given where nothing may be chosen.
    """
    # At the end of a round, not after validation, which needn't come every round.
    settings: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    last = ModelCheckpoint(filename="last", **settings)
    if not by_validation:
        if monitor is not None:
            raise ConfigError(
                f"monitor is {monitor}, but with data.validate_on: test validation reads the test set, by which "
                "nothing is chosen; leave monitor out, or set data.validate_on: holdout"
            )
        return [last]
    best = ModelCheckpoint(filename="best", monitor=monitor or LOSS, mode=mode or better(monitor or LOSS), **settings)
    # The best first: the last is to hold what this round has made of it.
    return [_FollowMetric(best, monitor, mode), best, last]


@final
class _FollowMetric(pl.Callback):
    """Points a ModelCheckpoint at the metric to follow, which is known only once the client's module has logged it.

    Args:
        best: the checkpoint; it saves nothing in a round whose metrics lack the one it follows.
        monitor: the metric; None: the one that is chosen from what the module logs.
        mode: which way it gets better; None: as its name tells.
    """

    def __init__(self, best: ModelCheckpoint, monitor: str | None, mode: Mode | None) -> None:
        self._best = best
        self._monitor = monitor
        self._mode = mode
        self._followed = monitor
        self._validated = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Follow what the resumed run followed: only then does its best checkpoint count."""
        for state in checkpoint["callbacks"].values():
            path = state.get("best_model_path") if isinstance(state, dict) else None
            if path and Path(path).stem == "best" and self._monitor in (None, state["monitor"]):
                self._follow(state["monitor"])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        chosen = choose_metric(metrics) if self._followed is None else None
        if chosen is not None:
            self._follow(chosen)
        known = self._followed in metrics
        self._best.save_top_k = int(known)
        if self._monitor is not None and not known and (self._validated or not validates(trainer)):
            raise ConfigError(_never_logged(self._monitor, list(metrics)))

    def _follow(self, monitor: str) -> None:
        mode = self._mode or better(monitor)
        self._followed = self._best.monitor = monitor
        self._best.mode, self._best.kth_value = mode, torch.tensor(-torch.inf if mode == "max" else torch.inf)


def _never_logged(monitor: str, metrics: list[str]) -> str:
    known = [name for name in metrics if name.startswith(VALIDATION)]
    names = f"it logs {', '.join(known)}" if known else "it logs nothing in validation"
    return f"monitor is {monitor}, which the client's module doesn't log; {names}, so name what it logs, or log that"
