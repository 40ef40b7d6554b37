"""Which runs a comparison has, and the command of each."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlight.compare.comparison import Comparison, flat
from fedlight.errors import ConfigError

RUNS = "runs"
"""Folder of the runs, below that of the comparison."""

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class PlannedRun:
    """One run: who it is, where it writes, and what ``fedlight fit`` is told.

    Attributes:
        label: of the variant.
        cell: axis to the name of its value; empty where nothing is compared apart.
        seed: what pairs it with the others'.
        folder: its ``trainer.default_root_dir``.
        arguments: what stands behind ``fedlight``: ``fit`` and its options.
        threads: threads that it computes with.
    """

    label: str
    cell: Mapping[str, str]
    seed: int
    folder: Path
    arguments: tuple[str, ...]
    threads: int

    @property
    def name(self) -> str:
        """What messages call the run."""
        return ", ".join([self.label, *(f"{axis} {value}" for axis, value in self.cell.items()), f"seed {self.seed}"])

    def shell_line(self, ckpt_path: Path | None = None) -> str:
        """Return the run as a line for a shell; from a checkpoint on, where one is given."""
        more = () if ckpt_path is None else ("--ckpt_path", str(ckpt_path))
        return f"OMP_NUM_THREADS={self.threads} " + shlex.join(["fedlight", *self.arguments, *more])


def plan_runs(comparison: Comparison, base: Path, out: Path) -> list[PlannedRun]:
    """Return all runs, those of a seed together, so that what is done first is paired already.

    Args:
        comparison: checked.
        base: its base config.
        out: folder of the comparison.

    Raises:
        ConfigError: two runs would share a folder, or an axis says nothing.
    """
    runs = [
        PlannedRun(
            label=label,
            cell=cell,
            seed=seed,
            folder=(folder := out.joinpath(RUNS, *filter(None, (file_name(label), _cell_name(cell))), f"seed_{seed}")),
            arguments=(
                *("fit", "--config", str(base)),
                *_options(_merged([chosen, comparison.set, cell_settings, own])),
                *_ending(comparison, label, cell, seed, folder),
            ),
            threads=comparison.threads_per_job,
        )
        for seed in comparison.seeds
        for cell, cell_settings in _cells(comparison.axes)
        for label, chosen, own in _variants(comparison)
    ]
    _check_folders(runs)
    return runs


def file_name(text: str) -> str:
    """Return a label as a name for a folder: letters, digits and ``._=+,()-``, anything else as ``_``."""
    return re.sub(r"[^\w.=+,()-]+", "_", text).strip("_.") or "_"


def _variants(comparison: Comparison) -> Iterator[tuple[str, Settings, Settings]]:
    """Yield every variant's label, its algorithm, and what it sets itself."""
    by_label: dict[str, tuple[Settings, Settings]] = {}
    for choice in comparison.choices:
        options = {f"model.algorithm.{name}": value for name, value in choice.options.items()}
        by_label[choice.label] = {"model.algorithm": choice.algorithm}, options
        yield choice.label, *by_label[choice.label]
    for variant in comparison.variants:
        chosen, inherited = by_label[variant.of] if variant.of is not None else ({}, {})
        yield variant.label, chosen, _merged([inherited, variant.set])


def _cells(axes: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], Settings]]:
    """Yield every cell of the grid with what it sets."""
    named = [_axis(key, values, axes) for key, values in axes.items()]
    for combination in itertools.product(*(values.items() for _, values in named)):
        cell = {axis: name for (axis, _), (name, _) in zip(named, combination, strict=True)}
        yield cell, _merged([settings for _, settings in combination])


def _axis(key: str, values: Any, axes: Mapping[str, Any]) -> tuple[str, dict[str, Settings]]:
    """Return an axis' short name, and what each of its values sets."""
    if not values:
        raise ConfigError(f"axes.{key}: it has no values; list some, or leave it out")
    if isinstance(values, Mapping):
        return key, dict(values)
    short = key.rpartition(".")[2]
    short = key if sum(other.rpartition(".")[2] == short for other in axes) > 1 else short
    named: dict[str, Settings] = {}
    for value in values:
        name = _value_name(value)
        if name in named:
            raise ConfigError(
                f"axes.{key}: two values are called {name}; name them: {short}: {{NAME: {{{key}: VALUE}}, ...}}"
            )
        named[name] = {key: value}
    return short, named


def _value_name(value: Any) -> str:
    told = value.get("class_path") if isinstance(value, Mapping) else value
    return str(told).rpartition(".")[2] if isinstance(told, str) and re.match(r"[\w.]+$", told) else str(told)


def _merged(parts: Sequence[Settings]) -> dict[str, Any]:
    """Return all settings, later ones over and behind earlier ones: a class has to come before its options."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in flat(part).items():
            merged.pop(key, None)
            merged[key] = value
    return merged


def _options(settings: Settings) -> Iterator[str]:
    for key, value in settings.items():
        text = _as_text(value)
        yield from ((f"--{key}={text}",) if text.startswith("-") or not text else (f"--{key}", text))


def _as_text(value: Any) -> str:
    """Return a value as an option says it; what fit makes of a text depends on the key, as on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def _ending(comparison: Comparison, label: str, cell: Settings, seed: int, folder: Path) -> Iterator[str]:
    """Yield what the comparison itself tells each run: seed, threads, folder, when to stop, what to note."""
    stop = comparison.stop
    yield from ("--seed_everything", str(seed), "--num_threads", str(comparison.threads_per_job))
    if stop.rounds is not None:
        yield from ("--trainer.max_epochs", str(stop.rounds))
    if stop.simulated_s is not None or stop.target is not None:
        yield "--trainer.callbacks+=StopAt"
    if stop.simulated_s is not None:
        yield f"--trainer.callbacks.simulated_s={stop.simulated_s:g}"
    if stop.target is not None:
        yield from (f"--trainer.callbacks.metric={comparison.metric}", f"--trainer.callbacks.target={stop.target!r}")
    yield from ("--trainer.default_root_dir", str(folder))
    yield from ("--trainer.callbacks+=RunNote", f"--trainer.callbacks.label={label}")
    if cell:
        yield f"--trainer.callbacks.cell={json.dumps(cell)}"
    yield f"--trainer.callbacks.metric={comparison.metric}"


def _cell_name(cell: Mapping[str, str]) -> str:
    return ",".join(f"{file_name(axis)}={file_name(value)}" for axis, value in cell.items())


def _check_folders(runs: Sequence[PlannedRun]) -> None:
    """Refuse names that differ only in what folders can't tell."""
    seen: dict[str, PlannedRun] = {}
    for run in runs:
        other = seen.setdefault(str(run.folder).casefold(), run)
        if other is not run:
            raise ConfigError(
                f"algorithms, variants, axes: {other.name} and {run.name} would both lie in {run.folder}; rename one"
            )
