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
    copies = 0
    if statistics.copy_of is not None:
        copies = int((statistics.copy_of != np.arange(statistics.num_clients)).sum())
    table = Table(
        title=f"{rule}: {statistics.num_clients:,} clients, {int(statistics.sizes.sum()):,} examples{classes}",
        caption=f"amounts: Gini coefficient {statistics.gini:.2f}, as noisy a mean as of "
        f"{statistics.effective_clients:,.1f} equal clients" + (f"; {copies:,} clients are copies" if copies else ""),
        title_justify="left",
        caption_justify="left",
        box=box.ROUNDED,
    )
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _clients_table(statistics: PartitionStatistics) -> Table:
    """Return one row per client, with its most frequent classes by name."""
    table = Table(box=box.ROUNDED)
    names = {"client": "left", "examples": "right"}
    if statistics.counts is not None:
        names |= {"JS distance": "right", "eff. classes": "right", "mostly": "left"}
    for name, justify in names.items():
        table.add_column(name, justify="left" if justify == "left" else "right")
    levels = {name: values for name, values in statistics.levels.items() if values.any()}
    for name in levels:
        table.add_column(name.replace("_", " "), justify="right")
    if statistics.copy_of is not None:
        table.add_column("copy of", justify="right")
    for client, name in enumerate(statistics.names_of_clients()):
        row = [name, f"{statistics.sizes[client]:,}"]
        if statistics.js_distance is not None and statistics.effective_classes is not None:
            row += [f"{statistics.js_distance[client]:.2f}", f"{statistics.effective_classes[client]:.1f}"]
            row.append(_main_classes(statistics, client))
        row += [f"{values[client]:.2f}" if values[client] else "" for values in levels.values()]
        if statistics.copy_of is not None:
            row.append(str(statistics.copy_of[client]) if statistics.copy_of[client] != client else "")
        table.add_row(*row)
    return table


def _main_classes(statistics: PartitionStatistics, client: int) -> str:
    """Return a client's three most frequent classes, with their shares."""
    assert statistics.shares is not None  # noqa: S101 - for the type checker: only asked where there are classes
    shares, names = statistics.shares[client], statistics.names_of_classes()
    main = [label for label in np.argsort(-shares, kind="stable")[:3] if shares[label] > 0]
    return ", ".join(f"{names[label]} {100 * shares[label]:.0f} %" for label in main)
