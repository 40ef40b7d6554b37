"""What a report compares: as the user says, else as the comparisons say whose runs it reads."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fedlight.errors import ConfigError, DataError

COMPARISON = "comparison.yaml"


@dataclass(frozen=True)
class ReportSettings:
    """What a report compares.

    Attributes:
        title: its heading.
        baseline: label that differences and speed-ups are over; None: SynFL, else FedAvg, else the first.
        targets: values of the metric to reach; None: two are derived from the baseline's final value.
        metric: tag of what is compared; None: what runs are watched by, ``val/accuracy`` where it is logged.
        command: what repeats the comparison.
        labels: order of the variants; those that are not named come last.
    """

    title: str | None = None
    baseline: str | None = None
    targets: tuple[float, ...] | None = None
    metric: str | None = None
    command: str | None = None
    labels: tuple[str, ...] | None = None


def complete(settings: ReportSettings, places: Sequence[str | Path]) -> ReportSettings:
    """Return the settings with what is missing taken from the comparisons among some folders, the first one's first.

    A title is of one comparison alone, and commands repeat a report only if every folder has one.

    Raises:
        DataError: a comparison.yaml can't be read, or holds no numbers as targets.
    """
    files = [path for place in places if (path := Path(place) / COMPARISON).is_file()]
    theirs = [_read(path) for path in files]
    if not theirs:
        return settings
    found = theirs[0]
    if len(places) > 1:
        commands = [one.command for one in theirs if one.command]
        labels = tuple(dict.fromkeys(label for one in theirs for label in one.labels or ()))
        command = "\n".join(commands) if len(commands) == len(places) else None
        found = replace(found, title=None, labels=labels, command=command)
    own = {name: value for name, value in asdict(settings).items() if value is not None}
    return replace(found, **own)


def check_targets(targets: Sequence[float], metric: str) -> None:
    """Raise ConfigError for targets that the metric can't reach."""
    for target in targets:
        if not math.isfinite(target):
            raise ConfigError(f"report: --targets: {target} is no value that {metric} could reach; give a number")
        if metric.endswith("accuracy") and not 0 < target <= 1:
            raise ConfigError(f"report: --targets: {target:g} is no accuracy; give a fraction, as 0.8 for 80 %")


def _read(path: Path) -> ReportSettings:
    try:
        given = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"report: {path} is no YAML ({' '.join(str(error).split())}); mend or remove it") from None
    if not isinstance(given, Mapping):
        return ReportSettings()
    command = given.get("command")
    try:
        targets = tuple(float(target) for target in given.get("targets") or ())
    except (TypeError, ValueError):
        raise DataError(
            f"report: {path} has targets {given['targets']}, which are no list of numbers; mend or remove it"
        ) from None
    return ReportSettings(
        title=_text(given.get("title")),
        baseline=_text(given.get("baseline")),
        targets=targets or None,
        metric=_text(given.get("metric")),
        command=shlex.join(map(str, command)) if isinstance(command, list) else _text(command),
        labels=_labels(given),
    )


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _labels(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of algorithms and variants, in the file's order."""
    entries = [entry for key in ("algorithms", "variants") for entry in given.get(key) or ()]
    return tuple(
        str(entry.get("label")) if isinstance(entry, Mapping) else str(entry).rpartition(".")[2] for entry in entries
    )
