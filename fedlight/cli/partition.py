"""``fedlight partition``: who would hold what, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch.cli import LightningArgumentParser
from rich import box
from rich.console import Console
from rich.table import Table

from fedlight.cli.folders import check_writable
from fedlight.cli.run import FedlightCLI
from fedlight.data.overview import CLIENTS_FILE, PICTURE_FILE, overview, write_clients, write_picture
from fedlight.data.picture import draw_partition
from fedlight.data.statistics import PartitionStatistics
from fedlight.errors import ConfigError

MAX_ROWS = 40
"""Clients up to which each has a row of its own in the terminal."""


def run_partition(arguments: Sequence[str]) -> None:
    """Run the subcommand."""
    cli = FedlightCLI(list(arguments), run=False, extend=_add_options)
    out = None if cli.config.out is None else Path(cli.config.out)
    if out is not None:
        _check_free(out, cli.config.overwrite)
    data = cli.datamodule
    data.prepare_data()
    data.setup()
    statistics = data.statistics()
    console = Console()
    if statistics.num_clients <= MAX_ROWS:
        console.print(_clients_table(statistics))
    console.print(_overview_table(statistics, type(data.partition).__name__))
    console.print(_amounts_line(statistics), highlight=False)
    if out is not None:
        write_clients(statistics, out / CLIENTS_FILE)
        write_picture(draw_partition(statistics), out / PICTURE_FILE)
        console.print(f"written: {out / PICTURE_FILE}, {out / CLIENTS_FILE}", highlight=False, soft_wrap=True)


def _add_options(parser: LightningArgumentParser) -> None:
    parser.add_argument("--out", type=str | None, default=None, help="Folder for a picture and a CSV file.")
    parser.add_argument(
        "--overwrite", type=bool, default=False, nargs="?", const=True, help="Replace the files that are in --out."
    )


def _check_free(out: Path, overwrite: bool) -> None:
    """Raise ConfigError where --out can't be written to, or would be overwritten unasked."""
    there = [name for name in (PICTURE_FILE, CLIENTS_FILE) if (out / name).exists()]
    if there and not overwrite:
        raise ConfigError(
            f"partition: {out} holds {' and '.join(there)} already; choose another --out, or add --overwrite"
        )
    check_writable(out, "out")


def _overview_table(statistics: PartitionStatistics, rule: str) -> Table:
    header, *rows = overview(statistics)
    classes = "" if statistics.counts is None else f", {statistics.counts.shape[1]} classes"
    table = Table(
        title=f"{rule}: {statistics.num_clients:,} clients, {int(statistics.sizes.sum()):,} examples{classes}",
        title_justify="left",
        box=box.ROUNDED,
    )
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _amounts_line(statistics: PartitionStatistics) -> str:
    line = f"amounts: Gini coefficient {statistics.gini:.2f}; their weighted mean averages as much noise away as "
    line += f"{statistics.effective_clients:,.1f} clients of equal amounts"
    if statistics.copy_of is not None:
        line += f"; {int((statistics.copy_of != np.arange(statistics.num_clients)).sum()):,} clients are copies"
    return line


def _clients_table(statistics: PartitionStatistics) -> Table:
    """Return one row per client, with its most frequent classes by name."""
    table = Table(box=box.ROUNDED)
    levels = {name: values for name, values in statistics.levels.items() if values.any()}
    table.add_column("client")
    table.add_column("examples", justify="right")
    if statistics.counts is not None:
        table.add_column("JS\ndistance", justify="right")
        table.add_column("mostly", no_wrap=True)
    for name in levels:
        table.add_column(name.replace("_", "\n", 1).replace("_", " "), justify="right")
    if statistics.copy_of is not None:
        table.add_column("copy\nof", justify="right")
    for client, name in enumerate(statistics.names_of_clients()):
        row = [name, f"{statistics.sizes[client]:,}"]
        if statistics.js_distance is not None:
            # Where there is more to say of a client, one class has to do, for a terminal of 80 columns.
            main = _main_classes(statistics, client, 1 if len(levels) > 1 else 3)
            row += [f"{statistics.js_distance[client]:.2f}", main]
        row += [f"{values[client]:.2f}" if values[client] else "" for values in levels.values()]
        if statistics.copy_of is not None:
            row.append(str(statistics.copy_of[client]) if statistics.copy_of[client] != client else "")
        table.add_row(*row)
    return table


def _main_classes(statistics: PartitionStatistics, client: int, count: int) -> str:
    """Return a client's most frequent classes, with their shares."""
    assert statistics.shares is not None  # noqa: S101 - for the type checker: only asked where there are classes
    shares, names = statistics.shares[client], statistics.names_of_classes()
    main = [label for label in np.argsort(-shares, kind="stable")[:count] if shares[label] > 0]
    return ", ".join(f"{names[label]}: {100 * shares[label]:.0f} %" for label in main)
