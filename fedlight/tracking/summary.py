"""The table at the end of a run: what was reached, what it cost, where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from rich import box
from rich.console import Console
from rich.table import Table

from fedlight.core.round_record import RoundRecord
from fedlight.tracking.format import duration, metric, percent, quantity
from fedlight.tracking.record import last_round
from fedlight.tracking.watched import VALIDATION

FINISHED = "Run finished"
REJECTED = "Run ended, and every update was rejected"
NOTHING_CAME = "Run ended, and no result ever came back"
_NOT_FINITE = (
    "no update of any client was finite, so the model is as it began; lower the learning rate, clip gradients "
    "(gradient_clip_norm of the local loop), and look for NaN in the data"
)
_WAYS_OUT = {
    "late": "give results more time (deadline_s of the schedule) or take late ones too (late: keep)",
    "dropped": "let fewer connections break (model.fleet.connectivity)",
    "left": "let clients stay up for longer (model.fleet.availability)",
    "unfit": "raise memory_bytes of the devices (model.fleet) or choose a smaller client model",
    "at work": "let the run last for more rounds (trainer.max_epochs)",
    "nobody": "check who is selected and asked for work",
}
"""What keeps results from coming back, by the cause of the loss, to what helps."""


@final
class RunSummary(Callback):
    """Prints one table when a run has ended: accuracy, both times, bytes, work, energy, what was lost, where it is.

    Args:
        after_test: print after the ``trainer.test`` that follows ``trainer.fit``, test metrics included, instead of
            right after the fit.
    """

    def __init__(self, after_test: bool = False) -> None:
        self.after_test = after_test
        self._totals = {"rounds": 0.0, "simulated_s": 0.0, "wall_s": 0.0, "waiting_s": 0.0}
        self._totals |= {"uplink_bytes": 0.0, "downlink_bytes": 0.0, "macs": 0.0, "rejected": 0.0, "accepted": 0.0}
        self._totals |= {"staleness": 0.0, "energy_j": 0.0, "lost_j": 0.0, "seen": 0.0, "at_work": 0.0}
        self._metrics: dict[str, float] = {}
        self._rejected_clients: dict[int, int] = {}
        self._lost: dict[str, int] = {}
        self._unfit: dict[int, int] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up the round that has just ended: before validation, after which a checkpoint may be written."""
        record = last_round(pl_module)
        if record is not None:
            self._add(record)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember what validation said: after a resume, no round need be validated any more."""
        self._remember(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print, unless a test is to follow."""
        self._remember(trainer)
        if not self.after_test:
            self.show(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print with the test's metrics."""
        self._remember(trainer)
        if self.after_test and self._totals["rounds"]:
            self.show(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """After Ctrl-C, print how far the run came; if only the test broke, what was reached without it."""
        if not self._totals["rounds"]:
            return
        if self.after_test and trainer.testing:
            self.show(trainer)
        elif isinstance(exception, KeyboardInterrupt):
            self._remember(trainer)
            last = _places(trainer).get("last checkpoint")
            self.show(trainer, "Run interrupted", f"--ckpt_path {last} goes on from here" if last else None)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums so far, and the last metrics."""
        return {
            "totals": dict(self._totals),
            "rejected_clients": dict(self._rejected_clients),
            "lost": dict(self._lost),
            "unfit": dict(self._unfit),
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the sums of the run that is resumed."""
        # What an older version didn't write yet begins anew.
        self._totals |= state_dict.get("totals", {})
        self._rejected_clients = dict(state_dict.get("rejected_clients", {}))
        self._lost = dict(state_dict.get("lost", {}))
        self._unfit = dict(state_dict.get("unfit", {}))
        self._metrics = dict(state_dict.get("metrics", {}))

    @property
    def failure(self) -> str | None:
        """Why a run of which every round was seen has merged no update at all, in one line; None: it has, or no run."""
        totals = self._totals
        if totals["accepted"] or not totals["rounds"]:
            return None
        if totals["rejected"]:
            return _NOT_FINITE
        if totals["seen"] < totals["rounds"]:  # a run that was begun without this table: what it merged isn't known
            return None
        what = [f"{count} lost as {cause}" for cause, count in sorted(self._lost.items())]
        what += [f"unfit for lack of memory: {_most_often(self._unfit)}"] if self._unfit else []
        what += [f"{totals['at_work']:.0f} still at work"] if totals["at_work"] else []
        causes = [*self._lost, *(["unfit"] if self._unfit else []), *(["at work"] if totals["at_work"] else [])]
        ways = [_WAYS_OUT[cause] for cause in causes if cause in _WAYS_OUT] or [_WAYS_OUT["nobody"]]
        rounds = "1 round" if totals["rounds"] == 1 else f"{totals['rounds']:.0f} rounds"
        return (
            f"no result of any client came back in {rounds} "
            f"({', '.join(what) or 'nobody was sent off'}), so no update was merged; {'; '.join(ways)}"
        )

    def _add(self, record: RoundRecord) -> None:
        totals = self._totals
        span = record.end_s - record.start_s
        totals["rounds"] = record.round_idx + 1
        totals["seen"] += 1
        totals["at_work"] = len(record.in_flight)
        totals["simulated_s"] = record.end_s
        totals["wall_s"] += record.wall_s
        totals["waiting_s"] += record.waiting_share * span
        for report in record.reports:
            totals["uplink_bytes"] += report.upload_bytes
            totals["downlink_bytes"] += report.work.download_bytes
            totals["macs"] += report.work.macs
            totals["staleness"] += report.staleness
            totals["energy_j"] += report.energy_j
            totals["accepted" if report.accepted else "rejected"] += 1
            if not report.accepted:
                self._rejected_clients[report.client] = self._rejected_clients.get(report.client, 0) + 1
        for job in record.lost:
            totals["lost_j"] += job.spent_j
            self._lost[job.cause] = self._lost.get(job.cause, 0) + 1
        for client in record.unfit:
            self._unfit[client] = self._unfit.get(client, 0) + 1

    def _remember(self, trainer: pl.Trainer) -> None:
        wanted = (*VALIDATION, "test/", "test_")
        self._metrics |= {tag: float(v) for tag, v in trainer.callback_metrics.items() if tag.startswith(wanted)}

    def show(self, trainer: pl.Trainer, title: str = FINISHED, caption: str | None = None) -> None:
        """Print the table for a Trainer whose run has ended."""
        # Asked for on every process: Lightning broadcasts the log folder.
        if self.failure is not None and title == FINISHED:
            title = REJECTED if self._totals["rejected"] else NOTHING_CAME
        table = self.table(trainer, title)
        table.caption, table.caption_justify = caption, "left"
        if trainer.is_global_zero:
            console = Console()
            console.print(table, soft_wrap=not console.is_terminal)

    def table(self, trainer: pl.Trainer, title: str) -> Table:
        """Return the table for a Trainer whose run has ended; call it on every process."""
        totals = self._totals
        table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=box.ROUNDED)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("rounds", f"{totals['rounds']:.0f}")
        for tag in sorted(self._metrics, key=lambda tag: (not tag.endswith("accuracy"), tag)):
            table.add_row(tag.replace("/", " "), metric(tag, self._metrics[tag]))
        waiting = totals["waiting_s"] / totals["simulated_s"] if totals["simulated_s"] else 0.0
        table.add_row("simulated time", f"{duration(totals['simulated_s'])} (clients wait {percent(waiting)} of it)")
        table.add_row("wall time", f"{duration(totals['wall_s'])} in rounds")
        table.add_row("sent by clients", quantity(totals["uplink_bytes"], "B"))
        table.add_row("sent to clients", quantity(totals["downlink_bytes"], "B"))
        table.add_row("training work", quantity(totals["macs"], "MAC"))
        for name, text in self._fleet_rows().items():
            table.add_row(name, text)
        table.add_row("updates rejected", self._rejected())
        for name, place in _places(trainer).items():
            table.add_row(name, place)
        return table

    def _fleet_rows(self) -> dict[str, str]:
        """Return energy, jobs lost and staleness, where the run has any."""
        totals, rows = self._totals, {}
        energy_j = totals["energy_j"] + totals["lost_j"]
        if energy_j > 0:
            wasted = f" ({percent(totals['lost_j'] / energy_j)} for lost jobs)" if totals["lost_j"] else ""
            rows["energy of clients"] = quantity(energy_j, "J") + wasted
        num_back = totals["accepted"] + totals["rejected"]
        num_lost = sum(self._lost.values())
        if num_lost:
            causes = ", ".join(f"{count} {cause}" for cause, count in sorted(self._lost.items()))
            rows["jobs lost"] = f"{num_lost} of {num_lost + num_back:.0f} ({causes})"
        if self._unfit:
            times = sum(self._unfit.values())
            rows["clients unfit"] = (
                f"{_most_often(self._unfit)} (their memory holds no submodel; left out {times} times)"
            )
        if totals["staleness"]:
            rows["staleness"] = f"{totals['staleness'] / num_back:.1f} versions (mean over updates)"
        return rows

    def _rejected(self) -> str:
        if not self._rejected_clients:
            return "0"
        return f"{self._totals['rejected']:.0f} (not finite; clients {_most_often(self._rejected_clients)})"


def _most_often(counts: Mapping[int, int]) -> str:
    """Name the clients that were counted most often."""
    worst = sorted(counts, key=lambda client: (-counts[client], client))
    return ", ".join(str(client) for client in worst[:8]) + (", ..." if len(worst) > 8 else "")


def _places(trainer: pl.Trainer) -> dict[str, str]:
    """Return where the run's files are: checkpoints that exist, with what the best was chosen by, and the logs."""
    places = {}
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
            path = Path(callback.best_model_path)
            if path.is_file():
                places[f"{path.stem} checkpoint"] = _relative(path)
                score = callback.best_model_score
                if callback.monitor is not None and score is not None:
                    extreme = "highest" if callback.mode == "max" else "lowest"
                    value = metric(callback.monitor, float(score))
                    places[f"{path.stem} by"] = f"{extreme} {callback.monitor}, {value}"
    if trainer.log_dir:
        places["logs"] = _relative(Path(trainer.log_dir))
    return places


def _relative(path: Path) -> str:
    """Return the path as seen from the working folder, where it lies below it."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
