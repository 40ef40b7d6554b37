"""Who did what in one round: a row of bars per client, drawn from the jobs that a run has logged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fedlight.report.pictures import Picture
from fedlight.report.style import INK, drawing, new_figure, save, wrapped
from fedlight.report.summary import Cell, Variant
from fedlight.tracking.jobs import JOBS_FILE, Jobs, read_jobs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PHASES: Final = {"download": "#56B4E9", "compute": "#0072B2", "upload": "#E69F00"}
WAITING: Final = "#8a93a3"
MAX_PANELS: Final = 6
"""Variants in one picture."""

COLUMNS: Final = 2
PANEL_INCHES: Final = 3.0
"""Width of a panel where there are two in a row."""

MAX_ROWS: Final = 40
"""Clients in one panel, the slowest of more."""


def draw_timeline(cell: Cell, folder: Path, name: str) -> Picture:
    """Draw the middle round of each variant's first seed, one panel per variant."""
    title = "Timeline of one round"
    rounds = {variant.label: jobs for variant in cell.variants if (jobs := middle_round(variant)) is not None}
    if not rounds:
        return Picture(name, title, f"Left out: no run has times of single clients ({JOBS_FILE}) beside its log.")
    note = (
        "The middle round of each variant's first seed, one row per client that came back in it, slowest on top: "
        "download, computation, upload, then waiting until the server moves. Red: lost at this moment."
    )
    if len(rounds) > MAX_PANELS:
        note += f" The first {MAX_PANELS} of {len(rounds)} variants."
    shown = list(rounds.items())[:MAX_PANELS]
    with drawing(name):
        columns = min(COLUMNS, len(shown))
        rows = math.ceil(len(shown) / columns)
        figure, panels = new_figure(7.2, 0.5 + 2.2 * rows, rows, columns)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        for axes, (label, jobs) in zip(panels, shown, strict=False):
            _bars(axes, jobs)
            axes.set_title(wrapped(f"{label}, round {jobs['round'][0]}", PANEL_INCHES))
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
        return Picture(name, title, note, save(figure, folder, name))


def middle_round(variant: Variant) -> Jobs | None:
    """Return the jobs of the middle round of a variant's first seed, slowest first; None where none are logged."""
    files = sorted(variant.rows[0].run.folder.rglob(JOBS_FILE))
    if not files:
        return None
    jobs = read_jobs(files[-1])
    if not len(jobs):
        return None
    rounds = np.unique(jobs["round"])
    mine: Jobs = jobs[jobs["round"] == rounds[len(rounds) // 2]]
    slowest_first: Jobs = mine[np.argsort(mine["dispatched_s"] - mine["event_s"], kind="stable")]
    return slowest_first[:MAX_ROWS]


def _bars(axes: Axes, jobs: Jobs) -> None:
    from matplotlib.ticker import MaxNLocator

    began = float(jobs["dispatched_s"].min())
    rows = np.arange(len(jobs))
    left = jobs["dispatched_s"] - began
    for phase, color in PHASES.items():
        # A lost job's phases may reach beyond its loss.
        width = np.clip(np.minimum(jobs[f"{phase}_s"], jobs["event_s"] - began - left), 0, None)
        axes.barh(rows, width, left=left, color=color, height=0.82)
        left = left + width
    came = jobs["cause"] == ""
    waiting = np.clip(jobs["aggregated_s"] - jobs["event_s"], 0, None)[came]
    axes.barh(rows[came], waiting, left=(jobs["event_s"] - began)[came], color=WAITING, height=0.82, alpha=0.25)
    axes.plot((jobs["event_s"] - began)[~came], rows[~came], "x", color="#D01C1C", markersize=5)
    axes.axvline(float(jobs["aggregated_s"].max()) - began, color=INK, linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("simulated s since the first job began")
    axes.set_ylabel(f"{len(np.unique(jobs['client']))} clients")


def _legend() -> list[Any]:
    from matplotlib.patches import Patch

    return [
        *(Patch(color=color, label=phase) for phase, color in PHASES.items()),
        Patch(color=WAITING, alpha=0.25, label="waiting"),
    ]
