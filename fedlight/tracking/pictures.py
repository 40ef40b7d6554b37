"""Pictures of a whole run: what was removed where, who got how much, and what bandits and contributions made of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import lightning.pytorch as pl
from lightning.pytorch import Callback

from fedlight.core.round_record import RoundRecord
from fedlight.errors import ConfigError
from fedlight.tracking.heatmap import Heatmap
from fedlight.tracking.history import History
from fedlight.tracking.record import last_round

HEATMAPS: Final = (
    Heatmap("layer_sparsity", "What is removed from each layer", "layer", "units removed (mean)", (0.0, 1.0)),
    Heatmap("ratio", "What each client does without", "client", "pruning ratio", (0.0, 1.0), sort_rows=True),
    Heatmap("contribution", "What each client's update adds", "client", "contribution", sort_rows=True),
    Heatmap("bandit", "How often the bandit plays each ratio", "arm (ratio)", "plays, discounted"),
)
"""All pictures; ``docs/tags.md`` lists them under ``picture/<name>``."""

ARM_PREFIX: Final = "bandit/plays/"
"""Start of the tags under which a bandit reports how often it plays each arm."""

MOST_OF_THE_TIME: Final = 0.01
"""Share of a run's time that drawing may take, where no number of rounds is given."""

FIRST_DRAWING_S: Final = 0.6
"""Seconds that the first drawing is taken to need: with the import of matplotlib, on a slow core."""


@final
class Pictures(Callback):
    """Draws layers x rounds and clients x rounds as pictures, in TensorBoard and in the run's folder ``pictures/``.

    Shown are the fraction removed from every layer, the ratio and the contribution of every client, and how often a
    bandit plays each arm; what an algorithm doesn't have is left out. Grey: no part in that round.

    Args:
        every_n_rounds: rounds between two drawings; 0 draws only at the end. None: whenever drawing has taken less
            than 1 % of the time, so about once a minute.
        max_clients: clients to show: the first ones that finish a round.
    """

    def __init__(self, every_n_rounds: int | None = None, max_clients: int = 64) -> None:
        if every_n_rounds is not None and every_n_rounds < 0:
            raise ConfigError(f"every_n_rounds={every_n_rounds} is negative; 0 draws at the end only")
        self.every_n_rounds = every_n_rounds
        self._histories = {
            heatmap.name: History(max_clients if heatmap.row_label == "client" else None) for heatmap in HEATMAPS
        }
        self._num_drawn = 0
        self._folder = Path()
        self._next_s = math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn where pictures go: on every process, since Lightning broadcasts it."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "pictures"
        self._next_s = time.perf_counter() + FIRST_DRAWING_S / MOST_OF_THE_TIME

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the round that has just ended: before validation, after which a checkpoint may be written."""
        record = last_round(pl_module)
        if record is None:
            return
        for name, values in _columns(record).items():
            self._histories[name].record(record.round_idx, values)
        if self._is_due(record.round_idx + 1):
            self._draw(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the whole run."""
        self._draw(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the pictures show."""
        return {name: history.state_dict() for name, history in self._histories.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what had been seen."""
        for name, state in state_dict.items():
            self._histories[name].load_state_dict(state)

    def _is_due(self, num_done: int) -> bool:
        if self.every_n_rounds is None:
            return time.perf_counter() >= self._next_s
        return self.every_n_rounds > 0 and num_done % self.every_n_rounds == 0

    def _draw(self, trainer: pl.Trainer) -> None:
        num_rounds = len(self._histories["ratio"])
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False) or self._num_drawn == num_rounds:
            return
        started_s = time.perf_counter()
        self._num_drawn = num_rounds
        for heatmap in HEATMAPS:
            history = self._histories[heatmap.name]
            if history.rows:
                heatmap.publish(trainer, self._folder, heatmap.render(history), history.rounds[-1])
        ended_s = time.perf_counter()
        self._next_s = ended_s + (ended_s - started_s) / MOST_OF_THE_TIME


def _columns(record: RoundRecord) -> dict[str, Mapping[str, float]]:
    """Return what every picture gets from one round: row name to value."""
    return {
        "layer_sparsity": record.layer_sparsity,
        "ratio": {str(report.client): report.ratio for report in record.reports},
        "contribution": {
            str(report.client): report.contribution for report in record.reports if report.contribution is not None
        },
        "bandit": {
            tag.removeprefix(ARM_PREFIX): value for tag, value in record.metrics.items() if tag.startswith(ARM_PREFIX)
        },
    }
