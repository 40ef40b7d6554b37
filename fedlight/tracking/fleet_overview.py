"""What the fleet is at the start of a fit, and how it has changed at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, final

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from fedlight.core.fleet import Fleet
from fedlight.core.types import Work
from fedlight.tracking.drawing import publish
from fedlight.tracking.fleet_changes import draw_changes
from fedlight.tracking.fleet_table import fleet_cells, fleet_table
from fedlight.tracking.record import last_round

LOG_WIDTH: Final = 120
"""Columns of the table where it isn't printed on a terminal."""


@final
class FleetOverview(Callback):
    """Prints the fleet as a table when a fit begins; when it ends, draws how the fleet has changed.

    The table is in TensorBoard's text tab as well (``fleet``); the picture, where the fleet changes at all, is
    ``picture/fleet`` and ``pictures/fleet.png`` in the run's folder, over the simulated time of the run.

    Args:
        show: print the table.
    """

    def __init__(self, show: bool = True) -> None:
        self.show = show
        self._work: Work | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table."""
        fleet: Fleet = pl_module.fleet  # type: ignore[assignment] # the server's
        rows, changes = fleet.describe(), fleet.changes()
        if not rows or not trainer.is_global_zero:
            return
        if self.show:
            console = Console()
            if not console.is_terminal:
                console.width = LOG_WIDTH
            console.print(fleet_table(rows, changes), soft_wrap=not console.is_terminal)
        if trainer.global_step:
            return
        header, *lines = fleet_cells(rows)
        table = [header, ["---"] * len(header), *lines]
        text = "\n".join("| " + " | ".join(line) + " |" for line in table)
        text += "".join(f"\n\n{axis}: {told}" for axis, told in changes.items())
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("fleet", text, 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember how much work a job of this run is."""
        record = last_round(pl_module)
        if record is not None and record.reports:
            self._work = record.reports[0].work

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw what has changed."""
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "pictures"  # on every process: it is broadcast
        record = last_round(pl_module)
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False) or record is None:
            return
        fleet: Fleet = pl_module.fleet  # type: ignore[assignment] # the server's
        num_clients = len(pl_module.data.num_examples)  # type: ignore[union-attr,arg-type]
        picture = draw_changes(fleet, num_clients, record.end_s, self._work or Work(1e9, 10**6, 10**6))
        if picture is not None:
            publish(trainer, folder, "fleet", picture, record.round_idx)
