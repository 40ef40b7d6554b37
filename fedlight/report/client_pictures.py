"""Pictures of what clients do: ratio and sparsity over time, contributions against data quality."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedlight.report.contributions import CLIENTS_FILE, mean_scores, rank_correlation, read_qualities
from fedlight.report.pictures import Picture
from fedlight.report.style import INK, SEQUENTIAL, drawing, new_figure, save, wrapped
from fedlight.report.summary import Cell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATIO, SPARSITY = "prune/ratio/", "prune/layer_sparsity/"
MAX_PANELS = 12
"""Variants in one picture."""

COLUMNS = 3
PANEL_INCHES = 1.7
"""Width of a panel where there are three in a row."""

MAX_LABELS = 16
"""Row labels of a panel that still read well."""


def draw_ratios(cell: Cell, log: pd.DataFrame, folder: Path, name: str) -> Picture:
    """Draw every client's ratio over simulated time, one panel per variant."""
    note = (
        "Fraction of the network that each client does without, one row per client, the client that is pruned least "
        "on top; first seed of each variant. Without colour: no part in that round."
    )
    return _panels(cell, log, folder, name, RATIO, ("Pruning ratio of every client over time", "client", "ratio", note))


def draw_sparsity(cell: Cell, log: pd.DataFrame, folder: Path, name: str) -> Picture:
    """Draw every layer's sparsity over simulated time, one panel per variant."""
    note = (
        "Fraction of each layer's units (or masked weights) that is removed, mean over the round's clients, one row "
        "per layer, input on top; first seed of each variant."
    )
    return _panels(cell, log, folder, name, SPARSITY, ("Sparsity of every layer over time", "layer", "removed", note))


def draw_contributions(cell: Cell, log: pd.DataFrame, folder: Path, name: str) -> Picture:
    """Draw each client's mean contribution against what is known of its data."""
    title = "Contribution against data quality"
    first = [(variant.label, variant.rows[0].run) for variant in cell.variants]
    scores = {label: told for label, run in first if not (told := mean_scores(run, log)).empty}
    if not scores:
        return Picture(name, title, "Left out: no variant has logged contributions of single clients.")
    qualities = {label: read_qualities(run) for label, run in first if label in scores}
    names = dict.fromkeys(name for told in qualities.values() for name in told)
    if not names:
        return Picture(name, title, f"Left out: no run has a {CLIENTS_FILE} beside its log that tells clients apart.")
    pairs = [(label, quality) for quality in names for label in scores if quality in qualities[label]]
    note = (
        "One dot per client: mean of its contribution over the rounds of the first seed, against what is known of its "
        "data: the true level of a corruption where there is one, else how far its classes are from everybody's, else "
        "its number of examples. ρ: Spearman's rank correlation."
    )
    if len(pairs) > MAX_PANELS:
        note += f" The first {MAX_PANELS} of {len(pairs)}."
    with drawing(name):
        figure, panels = _grid(len(pairs[:MAX_PANELS]))
        for axes, (label, quality) in zip(panels, pairs, strict=False):
            levels = qualities[label][quality]
            known = scores[label].reindex(levels.index).dropna()
            correlation = rank_correlation(known, levels)
            axes.plot(levels[known.index], known, "o", color=INK, markersize=4, alpha=0.7)
            said = "" if correlation is None else f", ρ\u00a0=\u00a0{correlation:.2f}".replace("-", "−")
            axes.set_title(wrapped(label + said, PANEL_INCHES))
            axes.set_xlabel(quality.replace("_", " "))
            axes.set_ylabel("contribution")
        return Picture(name, title, note, save(figure, folder, name))


def _tables(cell: Cell, log: pd.DataFrame, prefix: str) -> dict[str, pd.DataFrame]:
    """Return, by variant, the first seed's table of rows (clients, layers) by simulated seconds."""
    found = {}
    for variant in cell.variants:
        mine = log.loc[(log["run"] == variant.rows[0].run.name) & log["tag"].str.startswith(prefix)]
        mine = mine.assign(row=mine["tag"].str.removeprefix(prefix)).loc[lambda frame: frame["row"] != "mean"]
        table = mine.pivot_table(index="row", columns="simulated_s", values="value")
        found[variant.label] = table.loc[list(dict.fromkeys(mine["row"]))]  # as logged: layers from input to output
    return found


def _panels(
    cell: Cell, log: pd.DataFrame, folder: Path, name: str, prefix: str, texts: tuple[str, str, str, str]
) -> Picture:
    title, rows, unit, note = texts
    tables = {
        label: table
        for label, table in _tables(cell, log, prefix).items()
        if table.size and np.nanmax(table.to_numpy()) > 0
    }
    if not tables:
        return Picture(name, title, "Left out: no variant has removed anything, or none has logged it.")
    without = [variant.label for variant in cell.variants if variant.label not in tables]
    if without:
        note += f" Nothing removed, or nothing logged: {', '.join(without)}."
    if len(tables) > MAX_PANELS:
        note += f" The first {MAX_PANELS} of {len(tables)} variants."
    with drawing(name):
        tables = dict(islice(tables.items(), MAX_PANELS))
        figure, panels = _grid(len(tables))
        for number, (axes, (label, table)) in enumerate(zip(panels, tables.items(), strict=False)):
            _heat(axes, _ordered(table, prefix))
            axes.set_title(wrapped(label, PANEL_INCHES))
            axes.set_ylabel("" if number % COLUMNS else rows)
        bar = figure.colorbar(panels[0].collections[0], ax=panels, pad=0.015, fraction=0.03)
        bar.set_label(unit)
        bar.outline.set_visible(False)
        return Picture(name, title, note, save(figure, folder, name))


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    figure, panels = new_figure(7.2 if columns > 1 else 5.0, 0.5 + 2.1 * rows, rows, columns)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _ordered(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    if prefix == RATIO:
        return table.loc[table.mean(axis=1).sort_values(kind="stable").index]
    # A path that all names begin with tells nothing, and takes room.
    beginnings = {str(row).rpartition(".")[0] for row in table.index}
    if len(beginnings) > 1:
        return table
    return table.set_axis([str(row).rpartition(".")[2] for row in table.index], axis=0)


def _heat(axes: Axes, table: pd.DataFrame) -> None:
    ends = table.columns.to_numpy(float)
    edges = np.concatenate([[0.0], ends])
    axes.pcolormesh(
        edges, np.arange(len(table) + 1), table.to_numpy(float), cmap=SEQUENTIAL, vmin=0, vmax=1, rasterized=True
    )
    axes.invert_yaxis()
    axes.grid(visible=False)
    step = math.ceil(len(table) / MAX_LABELS)
    axes.set_yticks(np.arange(len(table))[::step] + 0.5, labels=list(table.index)[::step], fontsize=6.5)
    axes.set_xlabel("simulated s")
    for spine in axes.spines.values():
        spine.set_visible(False)
