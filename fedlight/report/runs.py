"""Finding finished runs, and learning from their folders who they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fedlight.errors import ConfigError, DataError
from fedlight.report.config import class_name, tell, value_at

EVENTS = "events.out.tfevents.*"
NOTE = "run.json"
"""What a comparison notes about a run, beside what the run writes itself."""

AXES = {
    "fleet": "model.fleet",
    "model": "model.client",
    "data": "data.dataset",
    "partition": "data.partition",
    "clients": "data.num_clients",
    "examples": "data.max_train_examples",
}
"""Axes of a comparison that config files tell, where no note does: name to key."""

DONE = "done"
"""A note's ``status`` with which a run is counted; other values are of runs that still go, or have failed."""


@dataclass(frozen=True)
class Run:
    """One run, as its folder tells.

    Attributes:
        label: name of the variant: runs of one label differ in the seed only.
        cell: axis to value, of what is compared apart (a fleet, a partition); empty where there is only one.
        seed: what pairs this run with the others'.
        folder: where it lies.
        events: its TensorBoard files, oldest first.
        config: the configuration it ran with, empty where none was saved.
        note: ``run.json``, empty where there is none.
    """

    label: str
    cell: Mapping[str, str]
    seed: int
    folder: Path
    events: tuple[Path, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    note: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cell_name(self) -> str:
        """The cell as one text: ``fleet=High, partition=Shards``."""
        return ", ".join(f"{axis}={value}" for axis, value in self.cell.items())

    @property
    def name(self) -> str:
        """What tells this run from all others of a report."""
        return " · ".join(filter(None, (self.cell_name, self.label, f"seed {self.seed}")))


def find_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Return all runs at or below folders.

    A run is a folder with ``run.json``, else a folder with TensorBoard files, as ``fedlight fit`` and Lightning's
    loggers make one. ``LABEL=DIR`` gives the runs below DIR a label; without one it is the note's, else the name of
    the algorithm in ``config.yaml``, else the folder's name. Runs that would share label, cell and seed are called by
    their folders.

    Raises:
        ConfigError: a folder is missing or holds no run; two runs can't be told apart.
    """
    found: list[Run] = []
    for given in folders:
        label, root = _split(given)
        runs = [_read(folder, root, label) for folder in _run_folders(root)]
        if not runs:
            raise ConfigError(
                f"report: no run below {root}: no run.json and no TensorBoard file ({EVENTS}); "
                "give the folder that fedlight fit or compare wrote to"
            )
        found += runs
    found = list({run.folder.resolve(): run for run in found}.values())
    return _check_names(_name_by_folder(_cells(found)))


def _split(given: str | Path) -> tuple[str | None, Path]:
    path = Path(given)
    label, equals, rest = str(given).partition("=")
    if not path.exists() and equals and Path(rest).exists():
        return label, Path(rest)
    if not path.is_dir():
        raise ConfigError(f"report: there is no folder {given}; give folders of runs, or LABEL=FOLDER")
    return None, path


def _run_folders(root: Path) -> list[Path]:
    noted = {path.parent for path in root.rglob(NOTE)}
    found = noted | {path.parent for path in root.rglob(EVENTS)}
    # What lies below a run is its own: versions of a noted one, the parts that some loggers split a log into.
    return sorted((folder for folder in found if not found & set(folder.parents)), key=_by_number)


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sort ``version_10`` behind ``version_9``."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", str(path))]


def _read(folder: Path, root: Path, label: str | None) -> Run:
    note = _note(folder / NOTE)
    config = _config(folder)
    own = folder.parent if re.fullmatch(r"version_\d+", folder.name) else folder
    in_name = re.fullmatch(r"(?:(.*)_)?seed_?(\d+)", own.name)
    seed = note.get("seed", config.get("seed_everything"))
    if not isinstance(seed, int) or isinstance(seed, bool):
        seed = int(in_name.group(2)) if in_name else 0
    fallback = own.name if in_name is None else in_name.group(1) or own.parent.name
    return Run(
        label=str(label or note.get("label") or class_name(value_at(config, "model.algorithm")) or fallback),
        cell={str(axis): str(value) for axis, value in (note.get("cell") or {}).items()},
        seed=seed,
        folder=folder,
        events=tuple(sorted(folder.rglob(EVENTS), key=lambda path: (_by_number(path.parent), path.name))),
        config=config,
        note=note,
    )


def _note(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        note = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(
            f"report: {path} is no JSON ({error}); remove it, the run is then named by its config"
        ) from None
    return note if isinstance(note, dict) else {}


def _config(folder: Path) -> dict[str, Any]:
    """Return the newest configuration in a run's folder."""
    files = sorted(folder.rglob("config.yaml"), key=lambda path: _by_number(path.parent))
    if not files:
        return {}
    try:
        config = yaml.safe_load(files[-1].read_text())
    except yaml.YAMLError as error:
        raise DataError(f"report: {files[-1]} is no YAML ({' '.join(str(error).split())}); remove it") from None
    return config if isinstance(config, dict) else {}


def _cells(runs: list[Run]) -> list[Run]:
    """Put runs without a note apart by what their configs say, where that is not one for all of them."""
    plain = [run for run in runs if not run.note and run.config]
    for axis, key in AXES.items():
        values = {run.folder: value_at(run.config, key) for run in plain}
        long = {folder: tell(value) for folder, value in values.items()}
        short = {folder: class_name(value) or tell(value) for folder, value in values.items()}
        told = short if len(set(short.values())) == len(set(long.values())) else long
        if len(set(told.values())) > 1:
            runs = [
                replace(run, cell={**run.cell, axis: told[run.folder]}) if run.folder in told else run for run in runs
            ]
    return runs


def _name_by_folder(runs: list[Run]) -> list[Run]:
    """Call all runs of a label by their folders, where two of them would be taken for one."""
    seen: dict[tuple[str, str, int], int] = {}
    for run in runs:
        key = (run.label, run.cell_name, run.seed)
        seen[key] = seen.get(key, 0) + 1
    twice = {label for (label, _, _), count in seen.items() if count > 1}
    return [
        replace(run, label=_folder_label(run)) if run.label in twice and "label" not in run.note else run
        for run in runs
    ]


def _folder_label(run: Run) -> str:
    parts = [part for part in run.folder.parts if part != "version_0" and not re.fullmatch(r"seed_?\d+", part)]
    depth = 2 if re.fullmatch(r"version_\d+", parts[-1]) else 1
    return re.sub(r"_seed_?\d+$", "", "/".join(parts[-depth:]))


def _check_names(runs: list[Run]) -> list[Run]:
    seen: dict[str, Run] = {}
    for run in runs:
        other = seen.setdefault(run.name, run)
        if other is not run:
            raise ConfigError(
                f"report: {other.folder} and {run.folder} are both {run.name}; name one of them: LABEL={run.folder}"
            )
    return runs
