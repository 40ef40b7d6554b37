"""Writes every job of a run into a file, round by round."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch import Callback

from fedlight.tracking.jobs import COLUMNS, JOBS_FILE, rows_of
from fedlight.tracking.record import last_round, run_folder, server_of


@final
class JobLog(Callback):
    """Appends one line per job to ``jobs.csv`` in the run's folder (columns: :data:`fedlight.tracking.jobs.COLUMNS`).

    Lines are written, and handed to the system, when a round ends, in the order in which the server heard of the jobs.
    A resumed run drops the rounds after its checkpoint first, so the file is that of a run that was never broken off.
    """

    def __init__(self) -> None:
        self._num_rounds = 0
        self._path = Path()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Cut what a resumed run will write again."""
        self._path = run_folder(trainer) / JOBS_FILE
        if trainer.is_global_zero and self._path.is_file():
            _cut(self._path, self._num_rounds)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the round that has just ended: before validation, after which a checkpoint may be written."""
        record = last_round(pl_module)
        if record is None:
            return
        self._num_rounds = record.round_idx + 1
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        if not self._path.is_file():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            writer.writerow(COLUMNS)
        writer.writerows(rows_of(record, server_of(pl_module).fleet.device))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(lines.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Return how many rounds are written."""
        return {"num_rounds": self._num_rounds}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on after them."""
        self._num_rounds = state_dict["num_rounds"]


def _cut(path: Path, num_rounds: int) -> None:
    """Drop from a file the rounds from ``num_rounds`` on, and a line that was never finished."""
    if not num_rounds:
        path.unlink()
        return
    with path.open("r+b") as file:
        kept = len(file.readline())
        for line in file:
            if not line.endswith(b"\n") or int(line.partition(b",")[0]) >= num_rounds:
                break
            kept += len(line)
        file.truncate(kept)
