"""From runs' folders to a report: tidy results, tables, pictures and the page."""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlight.errors import ConfigError
from fedlight.report.contributions import make_contribution_table
from fedlight.report.formats import to_html, to_latex, to_markdown
from fedlight.report.measures import Curve, Measured, Metric, choose, drop_diverged, measure, read_curve
from fedlight.report.runs import DONE, Run, find_runs
from fedlight.report.settings import ReportSettings, check_targets, complete
from fedlight.report.summary import Cell, common_time, summarize
from fedlight.report.tables import make_tables

if TYPE_CHECKING:
    import pandas as pd

    from fedlight.report.pictures import Picture
    from fedlight.report.style import Look

PAGE = "report.html"
BASELINES = ("SynFL", "FedAvg")
"""Labels taken as the baseline where none is named: full models for all, the server waits for everyone."""


def write_report(
    out_dir: str | Path, folders: Sequence[str | Path] | None = None, settings: ReportSettings | None = None
) -> Path:
    """Write ``report.html``, ``results.parquet``, ``results.csv``, ``runs.csv``, ``tables/`` and ``pictures/``.

    Args:
        out_dir: folder to write to; what an earlier report left there is replaced.
        folders: folders of runs, ``LABEL=DIR`` names one; None: ``out_dir/runs``, so a comparison's own.
        settings: what isn't given is taken from the ``comparison.yaml`` of the folders, then chosen.

    Returns:
        The page.

    Raises:
        ConfigError: no run, an unknown baseline or metric.
        DataError: a run without the metric, or without simulated time.
    """
    from fedlight.report.log import read_log
    from fedlight.report.style import looks

    out = Path(out_dir)
    places = [out] if folders is None else list(folders)
    asked = settings or ReportSettings()
    settings = complete(asked, places)
    found = find_runs([out / "runs"] if folders is None else places)
    runs, problems = _finished(found)
    runs.sort(key=lambda run: _place(run.label, settings.labels or ()))
    log = read_log(runs)
    metric = choose(log, settings.metric)
    runs, diverged = drop_diverged(runs, log, metric)
    problems += diverged
    labels = list(dict.fromkeys(run.label for run in runs))
    baseline = _baseline(asked.baseline, labels, settings.baseline)
    if settings.baseline not in (None, baseline):
        problems.append(f"{settings.baseline}, the comparison's baseline: differences are from {baseline} instead")
    log = log.loc[log["run"].isin([run.name for run in runs])]
    by_run = dict(iter(log.groupby("run", sort=False)))
    curves = [read_curve(run, by_run[run.name], metric) for run in runs]
    targets = _targets(settings.targets, curves, metric, baseline)
    rows = [
        measure(curve, by_run[curve.run.name], metric, targets, common_time(mates))
        for mates in _by_cell(curves).values()
        for curve in mates
    ]
    cells = [
        summarize(name, [row for row in rows if row.run.cell_name == name], mates, metric, targets, baseline)
        for name, mates in _by_cell(curves).items()
    ]
    out.mkdir(parents=True, exist_ok=True)
    _write_data(out, log, rows, targets)
    shown = looks([baseline, *(label for label in labels if label != baseline)], baseline)
    _write_page(out, cells, rows, log, shown, settings, places, problems)
    return out / PAGE


def _finished(found: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Return the runs that count, and why the others don't."""
    runs, problems = [], []
    for run in found:
        status = run.note.get("status")
        if status not in (None, DONE):
            error = run.note.get("error")
            problems.append(f"{run.name}: {status}" + (f" ({error})" if error else ""))
        elif not run.events:
            problems.append(f"{run.name}: it has logged nothing")
        else:
            runs.append(run)
    if not runs:
        raise ConfigError(f"report: none of {len(found)} runs has finished ({problems[0]}); finish one first")
    return runs, problems


def _place(label: str, labels: Sequence[str]) -> int:
    return labels.index(label) if label in labels else len(labels)


def _baseline(asked: str | None, labels: Sequence[str], noted: str | None) -> str:
    """Return the baseline that was asked for, else the comparison's, if it has a run, else the first that is known."""
    if asked is not None and asked not in labels:
        raise ConfigError(f"report: no run is labelled {asked}; --baseline takes {', '.join(labels)}")
    return asked or next((label for label in (noted, *BASELINES) if label in labels), None) or labels[0]


def _by_cell(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    cells: dict[str, list[Curve]] = {}
    for curve in curves:
        cells.setdefault(curve.run.cell_name, []).append(curve)
    return cells


def _targets(
    given: Sequence[float] | None, curves: Sequence[Curve], metric: Metric, baseline: str
) -> tuple[float, ...]:
    """Return the targets, or 90 % of the baseline's final value and that value, rounded to what it has surely met."""
    if given is not None:
        check_targets(given, metric.tag)
        return tuple(given)
    finals = [float(curve.values[-5:].mean()) for curve in curves if curve.run.label == baseline]
    final = sum(finals) / len(finals)
    if metric.mode == "max":
        chosen = [math.floor(100 * share * final) / 100 for share in (0.9, 1.0)]
    else:
        chosen = [math.ceil(100 * final / share) / 100 for share in (0.9, 1.0)]
    return tuple(dict.fromkeys(chosen))


def _write_data(out: Path, log: pd.DataFrame, rows: Sequence[Measured], targets: Sequence[float]) -> None:
    log.to_parquet(out / "results.parquet", index=False)
    log.to_csv(out / "results.csv", index=False)
    with (out / "runs.csv").open("w", newline="") as file:
        table = [_flat(row, targets) for row in rows]
        writer = csv.DictWriter(file, list(dict.fromkeys(key for line in table for key in line)), restval="")
        writer.writeheader()
        writer.writerows(table)


def _flat(row: Measured, targets: Sequence[float]) -> dict[str, Any]:
    values = {"cell": row.run.cell_name, "label": row.run.label, "seed": row.run.seed}
    skipped = ("run", "reached_s", "reached_wall_s", "costs")
    values |= {name: value for name, value in vars(row).items() if name not in skipped}
    for target, seconds, wall in zip(targets, row.reached_s, row.reached_wall_s, strict=True):
        values |= {f"reached_{target:g}_s": seconds, f"reached_{target:g}_wall_s": wall}
    return values | row.costs


def _write_page(
    out: Path,
    cells: Sequence[Cell],
    rows: Sequence[Measured],
    log: pd.DataFrame,
    shown: dict[str, Look],
    settings: ReportSettings,
    places: Sequence[str | Path],
    problems: Sequence[str],
) -> None:
    from fedlight.report.page import Section, Words, render

    sections = []
    for number, cell in enumerate(cells):
        suffix = f"_{number}" if number else ""
        mine = log.loc[log["cell"] == cell.name]
        tables = make_tables(cell)
        tables += [table] if (table := make_contribution_table(cell, mine)) else []
        for table in tables:
            _write_tables(out / "tables", table.name + suffix, table)
        sections.append(Section(cell, tables, _draw(cell, mine, shown, out / "pictures", suffix)))
    words = Words(
        title=settings.title or ("Comparison of " + _listed(list(shown))),
        command=settings.command or "",
        report_command=_report_command(places, out, settings, cells[0]),
        problems=problems,
        chosen_targets=settings.targets is None,
    )
    (out / PAGE).write_text(render(sections, rows, shown, words), encoding="utf-8")


def _write_tables(folder: Path, name: str, table: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, write in ((".md", to_markdown), (".tex", to_latex), (".html", to_html)):
        (folder / f"{name}{suffix}").write_text(write(table), encoding="utf-8")


def _draw(cell: Cell, log: pd.DataFrame, shown: dict[str, Look], folder: Path, suffix: str) -> list[Picture]:
    from fedlight.report import client_pictures, pictures
    from fedlight.report.timeline import draw_timeline

    return [
        pictures.draw_over_time(cell, shown, folder, f"over_time{suffix}"),
        pictures.draw_over_bytes(cell, shown, folder, f"over_bytes{suffix}"),
        pictures.draw_front(cell, shown, folder, f"front{suffix}"),
        client_pictures.draw_ratios(cell, log, folder, f"ratios{suffix}"),
        client_pictures.draw_sparsity(cell, log, folder, f"sparsity{suffix}"),
        client_pictures.draw_contributions(cell, log, folder, f"contributions{suffix}"),
        draw_timeline(cell, folder, f"timeline{suffix}"),
    ]


def _listed(labels: Sequence[str]) -> str:
    if len(labels) > 6:
        return f"{', '.join(labels[:5])} and {len(labels) - 5} more"
    return " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))


def _report_command(places: Sequence[str | Path], out: Path, settings: ReportSettings, cell: Cell) -> str:
    command = ["fedlight", "report", *map(str, places), "--out", str(out)]
    command += ["--targets", *(f"{target:g}" for target in cell.targets)] if cell.targets else []
    command += ["--baseline", cell.baseline] if cell.baseline else []
    return shlex.join([*command, "--metric", cell.metric.tag])
