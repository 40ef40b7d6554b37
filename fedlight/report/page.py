"""One page that holds everything, and needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fedlight.report import setting
from fedlight.report.findings import TESTING, find
from fedlight.report.formats import to_html
from fedlight.report.measures import Measured
from fedlight.report.pictures import Picture
from fedlight.report.runs import Run
from fedlight.report.style import INK, Look
from fedlight.report.summary import Cell
from fedlight.report.tables import NOTHING, Table, show_target
from fedlight.tracking.format import duration

SHORT_HASH = 10
"""Characters of a configuration's hash that are shown."""


SHAPES = {
    "o": "border-radius:50%",
    "s": "border-radius:0",
    "^": "border-radius:0;clip-path:polygon(50% 0,100% 100%,0 100%)",
    "D": "border-radius:0;clip-path:polygon(50% 0,100% 50%,50% 100%,0 50%)",
}
"""CSS of the pictures' markers."""


@dataclass(frozen=True)
class Section:
    """One cell's part of the page.

    Attributes:
        cell: its numbers.
        tables: its tables.
        pictures: its pictures, left-out ones too.
    """

    cell: Cell
    tables: Sequence[Table]
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Words:
    """What the page says besides what it computes.

    Attributes:
        title: its heading.
        command: what repeats the comparison, empty where runs were made one by one.
        report_command: what repeats the report.
        problems: runs that are left out, and why.
        chosen_targets: whether the targets were chosen here and not by the user.
    """

    title: str
    command: str
    report_command: str
    problems: Sequence[str]
    chosen_targets: bool


def render(sections: Sequence[Section], rows: Sequence[Measured], look: Mapping[str, Look], words: Words) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, StrictUndefined

    folder = files("fedlight.report") / "templates"
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = jinja.from_string((folder / "report.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        css=(folder / "report.css").read_text(encoding="utf-8"), **_values(sections, rows, look, words)
    )


def _values(
    sections: Sequence[Section], rows: Sequence[Measured], look: Mapping[str, Look], words: Words
) -> dict[str, Any]:
    order = list(look)
    rows = sorted(rows, key=lambda row: order.index(row.run.label))
    runs = [row.run for row in rows]
    swatches = {label: _swatch(one) for label, one in look.items()}
    first = sections[0].cell
    baseline = next((section.cell.baseline for section in sections if section.cell.baseline), None)
    seeds = sorted({run.seed for run in runs})
    counts = [count for section in sections for count in section.cell.num_seeds]
    walls = [row.wall_s for row in rows]
    return {
        "title": words.title,
        "labels": list(look),
        "swatches": swatches,
        "baseline": baseline,
        "metric": first.metric.tag,
        "seeds": str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}",
        "seed_list": ("seeds " if len(seeds) > 1 else "seed ") + ", ".join(map(str, seeds)),
        "machine": setting.machine_time(walls),
        "machine_short": duration(sum(wall for wall in walls if wall)) if any(walls) else NOTHING,
        "problems": words.problems,
        "findings": [(section.cell.heading, find(section.cell)) for section in sections],
        "cells": [_section(number, section, swatches) for number, section in enumerate(sections)],
        "facts": setting.facts(runs),
        "targets": _targets(first, words.chosen_targets),
        "variants": setting.variants(runs, baseline),
        "testing": TESTING,
        "command": words.command,
        "report_command": words.report_command,
        "environment": setting.environment(runs),
        "version": version("fedlight"),
        "runs": [_run(row) for row in rows],
    }


def _swatch(look: Look) -> str:
    """Return the CSS of a variant's sign before its name: as markers in pictures, since colours alone repeat."""
    color = "var(--ink)" if look.color == INK else look.color
    return f"background:{color};{SHAPES[look.marker]}"


def _section(number: int, section: Section, swatches: dict[str, str]) -> dict[str, Any]:
    return {
        "id": f"results-{number}" if number else "results",
        "heading": section.cell.heading,
        "tables": [to_html(table, swatches) for table in section.tables],
        "pictures": section.pictures,
    }


def _targets(cell: Cell, chosen: bool) -> str:
    texts = ", ".join(show_target(cell.metric, target) for target in cell.targets)
    if not texts:
        return "None."
    why = " (none was given: 90 % of the baseline's final value, and that value itself, rounded)" if chosen else ""
    return f"{cell.metric.tag} of {texts}{why}."


def _run(row: Measured) -> dict[str, Any]:
    run: Run = row.run
    return {
        "name": run.name,
        "label": run.label,
        "cell": run.cell_name,
        "seed": run.seed,
        "rounds": row.num_rounds,
        "end_s": f"{row.end_s:.1f}",
        "wall": duration(row.wall_s) if row.wall_s is not None else NOTHING,
        "status": run.note.get("status", "log found"),
        "config_hash": str(run.note.get("config_hash") or NOTHING)[:SHORT_HASH],
        "command": setting.command_of(run),
    }
