"""A partition on a few lines, as a file with one line per client, and at the start of a run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final, final

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from fedlight.data.module import FederatedDataModule
from fedlight.data.picture import draw_partition
from fedlight.data.statistics import PartitionStatistics

CLIENTS_FILE, PICTURE_FILE = "clients.csv", "partition.png"

QUANTILES: Final = {"least": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "most": 1.0}
"""Name of a column of the overview to the share of clients that lie below."""


@final
class PartitionOverview(Callback):
    """Shows, at the start of a fit, who holds what: a picture and a table in TensorBoard, and two files.

    The run's folder gets ``pictures/partition.png`` and ``clients.csv``, with one line per client: its examples, their
    classes, and the true level of each corruption.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, unless the run goes on from a checkpoint: then it is drawn already."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # on every process: Lightning broadcasts it
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, FederatedDataModule) or not trainer.is_global_zero or trainer.global_step:
            return
        if getattr(trainer, "fast_dev_run", False):
            return
        statistics = data.statistics()
        picture = draw_partition(statistics)
        write_clients(statistics, folder / CLIENTS_FILE)
        write_picture(picture, folder / "pictures" / PICTURE_FILE)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("picture/partition", picture, 0, dataformats="HWC")
                logger.experiment.add_text("partition", _as_markdown(overview(statistics)), 0)


def overview(statistics: PartitionStatistics) -> list[list[str]]:
    """Return a table of quantiles over the clients: its header, then one row per statistic.

    Levels of a corruption are those of the clients that it hits.
    """
    rows = [["per client", *QUANTILES, "mean"], _row("examples", statistics.sizes)]
    if statistics.counts is not None:
        rows.append(_row("classes", (statistics.counts > 0).sum(axis=1)))
    for name in ("effective_classes", "effective_examples", "js_distance"):
        values = getattr(statistics, name)
        if values is not None:
            rows.append(_row(name.replace("_", " ").replace("js", "JS"), values))
    for name, levels in statistics.levels.items():
        hit = levels[levels != 0]
        if hit.size:
            rows.append(_row(f"{name.replace('_', ' ')} ({hit.size:,} hit)", hit))
    return rows


def write_clients(statistics: PartitionStatistics, path: Path) -> None:
    """Write one line per client, as :meth:`PartitionStatistics.columns` names them."""
    columns = statistics.columns()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(_cells(column) for column in columns.values()), strict=True))


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write uint8[height, width, 3] as PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, optimize=True)


def _row(name: str, values: np.ndarray) -> list[str]:
    return [name, *(_number(np.quantile(values, share)) for share in QUANTILES.values()), _number(values.mean())]


def _number(value: float) -> str:
    """Return a number with few digits: two decimals below 10, one below 100."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _cells(column: np.ndarray | list[str]) -> list[object]:
    if isinstance(column, np.ndarray) and np.issubdtype(column.dtype, np.floating):
        return [f"{value:.6g}" for value in column.tolist()]
    return list(column) if isinstance(column, list) else list(column.tolist())


def _as_markdown(rows: list[list[str]]) -> str:
    """Return a table as TensorBoard's text tab reads it."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
