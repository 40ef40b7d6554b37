"""What a user watches: one line per round, alive in a terminal, now and then where output goes to a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from fedlight.core.round_record import RoundRecord
from fedlight.errors import ConfigError
from fedlight.tracking.format import duration, percent
from fedlight.tracking.record import last_round
from fedlight.tracking.watched import choose_metric

WIDE = 105
"""Columns of a terminal from which on there is room for a bar and the elapsed time."""


@final
class RoundProgress(Callback):
    """Shows round, a metric, simulated time, mean ratio and waiting share while a run goes on.

    In a terminal this is one live line with a bar; elsewhere plain lines are printed every so many rounds.

    Args:
        every_n_rounds: rounds between two lines where output is no terminal; None: about ten lines over the run.
        metric: the metric to show; None: val/accuracy, else the first that validation logs other than a loss, else
            val/loss, else train/loss.
    """

    def __init__(self, every_n_rounds: int | None = None, metric: str | None = None) -> None:
        if every_n_rounds is not None and every_n_rounds < 1:
            raise ConfigError(f"every_n_rounds={every_n_rounds} prints no line; give a number of rounds >= 1, or null")
        self.every_n_rounds = every_n_rounds
        self.metric = metric
        self._console = Console()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the live line."""
        if not trainer.is_global_zero or not self._console.is_terminal:
            return
        count = TextColumn("round {task.completed}" + ("/{task.total}" if _num_rounds(trainer) else ""))
        columns: list[ProgressColumn] = [SpinnerColumn(), count, TextColumn("{task.description}")]
        if self._console.width >= WIDE:
            columns[2:2] = [BarColumn(bar_width=16)]
            columns.append(TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console)
        self._task = self._bar.add_task("", total=_num_rounds(trainer), completed=trainer.current_epoch)
        self._bar.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the round that has just ended."""
        record = last_round(pl_module)
        if record is None or not trainer.is_global_zero:
            return
        text = " · ".join(_facts(record, trainer.callback_metrics, self.metric))
        if self._bar is not None:
            self._bar.update(self._task, completed=record.round_idx + 1, description=text)
        elif self._is_due(trainer, record.round_idx + 1):
            total = _num_rounds(trainer)
            count = f"{record.round_idx + 1:>{len(str(total))}}/{total}" if total else str(record.round_idx + 1)
            # Not wrapped: a line in a log file should stay one line.
            self._console.print(f"round {count} · {text}", soft_wrap=True, highlight=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the last state of the live line on the screen."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back, so that the error is readable."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _is_due(self, trainer: pl.Trainer, num_done: int) -> bool:
        total = _num_rounds(trainer)
        every = self.every_n_rounds or max(1, (total or 100) // 10)
        return num_done % every == 0 or num_done in (1, total)


def _num_rounds(trainer: pl.Trainer) -> int | None:
    """Return how many rounds the run has, None where it is not limited by their number."""
    return trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None


def _facts(record: RoundRecord, metrics: Mapping[str, Any], wanted: str | None) -> list[str]:
    tag = wanted if wanted is not None and wanted in metrics else choose_metric(metrics) or "train/loss"
    facts = [f"{tag.replace('/', ' ')} {float(metrics[tag]):.3f}"] if tag in metrics else []
    facts.append(f"simulated {duration(record.end_s)}")
    if record.reports:
        facts.append(f"ratio {sum(report.ratio for report in record.reports) / len(record.reports):.2f}")
    facts.append(f"waiting {percent(record.waiting_share)}")
    rejected = sum(not report.accepted for report in record.reports)
    if rejected:
        facts.append(f"{rejected} rejected")
    return facts
