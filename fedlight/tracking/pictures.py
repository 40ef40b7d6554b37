"""Pictures of a whole run: what was removed where, who got how much, who did what when."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch import Callback

from fedlight.core.round_record import RoundRecord
from fedlight.errors import ConfigError
from fedlight.tracking.charts import draw_energy, draw_participation, draw_staleness, draw_waiting
from fedlight.tracking.drawing import publish
from fedlight.tracking.heatmap import Heatmap
from fedlight.tracking.history import History
from fedlight.tracking.job_log import JobLog
from fedlight.tracking.jobs import JOBS_FILE, Jobs, as_jobs, in_flight_of, read_jobs, rows_of
from fedlight.tracking.record import last_round, run_folder, server_of
from fedlight.tracking.timeline import draw_timeline

HEATMAPS: Final = (
    Heatmap("layer_sparsity", "What is removed from each layer", "layer", "units removed (mean)", (0.0, 1.0)),
    Heatmap("ratio", "What each client does without", "client", "pruning ratio", (0.0, 1.0), sort_rows=True),
    Heatmap("contribution", "What each client's update adds", "client", "contribution", sort_rows=True),
    Heatmap("bandit", "How often the bandit plays each ratio", "arm (ratio)", "plays, discounted"),
)
"""Pictures of tables; ``docs/tags.md`` lists all pictures under ``picture/<name>``."""

OF_JOBS: Final = ("timeline", "timeline_round", "participation", "staleness", "energy")
"""Pictures that are drawn from the run's ``jobs.csv``."""

WAITING: Final = "waiting"
"""Picture of the share of waiting over time."""

ARM_PREFIX: Final = "bandit/plays/"
"""Start of the tags under which a bandit reports how often it plays each arm."""

MOST_OF_THE_TIME: Final = 0.01
"""Share of a run's time that drawing may take, where no number of rounds is given."""

Draw = Callable[[], np.ndarray | None]
"""Returns a picture, None if there is nothing to see."""

FIRST_DRAWING_S: Final = 1.5
"""Seconds that the first drawing is taken to need: with the import of matplotlib, on a slow core."""


@final
class Pictures(Callback):
    """Draws a run as pictures, in TensorBoard and in the run's folder ``pictures/``.

    Tables: the fraction removed from every layer, the ratio and the contribution of every client, and how often a
    bandit plays each arm, by rounds; grey: no part in that round. Over simulated time: what every client does in the
    run and in its last round (``timeline``, ``timeline_round``), energy, share of waiting; and how often clients take
    part and how late they are. What a run doesn't have is left out; what jobs did is read from the file that
    :class:`~fedlight.tracking.JobLog` writes, so memory doesn't grow with the run, and without it is left out too.

    Args:
        every_n_rounds: rounds between two drawings; 0 draws only at the end. None: whenever drawing has taken less
            than 1 % of the time, so about once a minute.
        max_clients: clients to show one by one: in tables the first ones that finish a round, in timelines a sample
            over all speeds.
    """

    def __init__(self, every_n_rounds: int | None = None, max_clients: int = 64) -> None:
        if every_n_rounds is not None and every_n_rounds < 0:
            raise ConfigError(f"every_n_rounds={every_n_rounds} is negative; 0 draws at the end only")
        self.every_n_rounds = every_n_rounds
        self.max_clients = max_clients
        self._histories = {
            heatmap.name: History(max_clients if heatmap.row_label == "client" else None) for heatmap in HEATMAPS
        }
        self._histories[WAITING] = History()
        self._num_drawn = 0
        self._folder = Path()
        self._next_s = math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn where pictures go."""
        self._folder = run_folder(trainer)
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
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the whole run."""
        self._draw(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the tables show."""
        return {name: history.state_dict() for name, history in self._histories.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what had been seen."""
        for name, state in state_dict.items():
            self._histories[name].load_state_dict(state)

    def _is_due(self, num_done: int) -> bool:
        if self.every_n_rounds is None:
            return time.perf_counter() >= self._next_s
        return self.every_n_rounds > 0 and num_done % self.every_n_rounds == 0

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        rounds = self._histories["ratio"].rounds
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False) or self._num_drawn == len(rounds):
            return
        started_s = time.perf_counter()
        self._num_drawn = len(rounds)
        for name, draw in (self._tables() | self._of_jobs(trainer, module)).items():
            picture = draw()
            if picture is not None:
                publish(trainer, self._folder / "pictures", name, picture, rounds[-1])
        ended_s = time.perf_counter()
        self._next_s = ended_s + (ended_s - started_s) / MOST_OF_THE_TIME

    def _tables(self) -> dict[str, Draw]:
        histories = self._histories
        shown = [heatmap for heatmap in HEATMAPS if histories[heatmap.name].rows]
        tables: dict[str, Draw] = {table.name: partial(table.render, histories[table.name]) for table in shown}
        return {**tables, WAITING: partial(draw_waiting, histories[WAITING])} if histories[WAITING].rows else tables

    def _of_jobs(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Draw]:
        """Return how what jobs did is drawn, by the names :data:`OF_JOBS`."""
        server, record = server_of(module), last_round(module)
        if record is None or not any(isinstance(one, JobLog) for one in trainer.callbacks):  # type: ignore[attr-defined]
            return {}
        path = self._folder / JOBS_FILE
        device, num_clients = server.fleet.device, len(server.data.num_examples)
        jobs = read_jobs(path) if path.is_file() else as_jobs([])
        if not len(jobs) or jobs["round"][-1] < record.round_idx:
            # Callbacks that a user names come before JobLog, which then hasn't written this round yet.
            jobs = np.concatenate([jobs, as_jobs(list(rows_of(record, device)))])
        if not len(jobs):
            return {}
        drawn = np.concatenate([jobs, in_flight_of(record, device)])

        def timeline(title: str, begin_s: float) -> np.ndarray | None:
            span = begin_s, record.end_s
            return draw_timeline(drawn, span, title, num_clients, server.fleet.candidates, device, self.max_clients)

        # Of a run of one round, the round is the run.
        of_round = partial(timeline, f"Round {record.round_idx}: who does what", _begin_of(record))
        return {
            "timeline": partial(timeline, "Who does what when", _begin_s(jobs)),
            "participation": partial(draw_participation, jobs, num_clients, device),
            "staleness": partial(draw_staleness, jobs),
            "energy": partial(draw_energy, jobs),
            **({"timeline_round": of_round} if record.round_idx > 0 else {}),
        }


def _begin_s(jobs: Jobs) -> float:
    """Return when what was read of a run begins: at 0, unless the first rounds of a long one are left out."""
    return 0.0 if jobs["round"][0] == 0 else float(jobs["dispatched_s"].min())


def _begin_of(record: RoundRecord) -> float:
    """Return when the jobs of a round began: before the round, where the server doesn't wait for all."""
    return min([record.start_s, *(report.dispatched_s for report in record.reports)])


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
        WAITING: {"waiting": record.waiting_share, "end_s": record.end_s},
    }
