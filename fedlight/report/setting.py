"""What a reader has to know beside the numbers: data, fleet, variants, environment, commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedlight.report.config import explain, flatten, tell, value_at
from fedlight.report.runs import Run
from fedlight.tracking.format import duration

DATA_KEYS = {
    "data.num_clients": "{} clients",
    "data.max_train_examples": "{} training examples",
    "data.batch_size": "batches of {}",
    "data.validate_on": "measured on: {}",
}
"""Plain keys worth saying, and how."""

UNCOMPARED = ("seed_everything", "ckpt_path", "trainer.default_root_dir", "trainer.logger", "data.dataset.root")
"""Keys in which runs differ without being other variants."""


@dataclass(frozen=True)
class Fact:
    """One thing that was the same, or not, for all runs.

    Attributes:
        name: what it is.
        texts: its values; one where it was the same for all.
    """

    name: str
    texts: tuple[str, ...]


def facts(runs: Sequence[Run]) -> list[Fact]:
    """Return data, fleet, model, training and seeds, from the runs' configurations."""
    tellers: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "Data": _data,
        "Partition": lambda config: _explained(value_at(config, "data.partition")),
        "Fleet": lambda config: _explained(value_at(config, "model.fleet")),
        "Model": lambda config: _explained(value_at(config, "model.client")),
        "Rounds": _limits,
    }
    found = []
    for name, teller in tellers.items():
        texts = tuple(dict.fromkeys(text for run in runs if run.config and (text := teller(run.config))))
        found.append(Fact(name, texts or ("not recorded: these runs have no config.yaml",)))
    missing = sum(not run.config for run in runs)
    if missing and missing < len(runs):
        found.append(Fact("Unknown", (f"{missing} of {len(runs)} runs have no config.yaml",)))
    return found


def _explained(value: Any) -> str:
    if value is None:
        return ""
    text = explain(value)
    return tell(value) + (f" – {text}" if text else "")


def _data(config: Mapping[str, Any]) -> str:
    texts = [_explained(value_at(config, "data.dataset"))]
    texts += [say.format(tell(value_at(config, key))) for key, say in DATA_KEYS.items() if _has(config, key)]
    said = {*DATA_KEYS, "data.dataset", "data.partition"}
    extra = [
        f"{key}={tell(value)}"
        for key, value in (config.get("data") or {}).items()
        if isinstance(value, Mapping) and f"data.{key}" not in said
    ]
    return "; ".join(filter(None, [*texts, *extra]))


def _has(config: Mapping[str, Any], key: str) -> bool:
    parent, _, name = key.rpartition(".")
    section = value_at(config, parent)
    return isinstance(section, Mapping) and name in section


def _limits(config: Mapping[str, Any]) -> str:
    trainer = config.get("trainer") or {}
    texts = [f"at most {trainer['max_epochs']}"] if trainer.get("max_epochs") not in (None, -1) else []
    callbacks = trainer.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if isinstance(callback, Mapping):
            texts += _stops(callback.get("init_args") or {})
    return ", ".join(texts)


def _stops(arguments: Mapping[str, Any]) -> list[str]:
    """Return when Lightning's EarlyStopping, or our StopAt, ends a run."""
    threshold, seconds = arguments.get("stopping_threshold"), arguments.get("simulated_s")
    texts = [] if threshold is None else [f"until {arguments.get('monitor')} is {threshold:g}"]
    texts += [] if seconds is None else [f"until {seconds:g} simulated seconds"]
    if arguments.get("target") is not None and arguments.get("metric") is not None:
        texts.append(f"until {arguments['metric']} is {arguments['target']:g}")
    return texts


def variants(runs: Sequence[Run], baseline: str | None) -> list[tuple[str, str, str]]:
    """Return label, algorithm, and other settings unlike the baseline's, for every variant."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.label, run)
    base = first.get(baseline or "")
    return [(label, _algorithm(run), _unlike(run, base)) for label, run in first.items()]


def _algorithm(run: Run) -> str:
    value = value_at(run.config, "model.algorithm")
    return "not recorded" if value is None else tell(value, with_defaults=False)


def _unlike(run: Run, base: Run | None) -> str:
    if base is None or base is run:
        return ""
    ours, theirs = dict(flatten(run.config)), dict(flatten(base.config))
    keys = [key for key in ours if key in theirs and ours[key] != theirs[key]]
    keys = [key for key in keys if not key.startswith(("model.algorithm", "trainer.callbacks", *UNCOMPARED))]
    told = [f"{key}={tell(ours[key])}" for key in keys if not isinstance(ours[key], Mapping | list)]
    return ", ".join(told[:6]) + (f", and {len(told) - 6} more" if len(told) > 6 else "")


def environment(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return name and value of what was noted of the environments; several values where runs differ."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in (run.note.get("environment") or {}).items():
            if value is not None:
                found.setdefault(key, {})[_words(value)] = None
    return [(key, "; ".join(values)) for key, values in found.items()]


def _words(value: Any) -> str:
    """Return versions as ``torch 2.15.0, numpy 2.3``, anything else as it is."""
    if not isinstance(value, Mapping):
        return tell(value)
    return ", ".join(f"{name} {tell(one)}" for name, one in value.items() if one is not None)


def machine_time(walls: Iterable[float | None]) -> str:
    """Return the sum of the runs' measured seconds, in words."""
    every = list(walls)
    known = [wall for wall in every if wall is not None]
    if not known:
        return "not recorded"
    rest = f" ({len(every) - len(known)} runs did not record theirs)" if len(known) < len(every) else ""
    return f"{duration(sum(known))} over {len(known)} run{'s' * (len(known) != 1)}{rest}"


def command_of(run: Run) -> str:
    """Return a command that repeats a run."""
    command = run.note.get("command")
    if isinstance(command, str):
        return command
    if isinstance(command, list):
        return shlex.join(map(str, command))
    files = sorted(run.folder.rglob("config.yaml"))
    if not files:
        return ""
    return shlex.join(["fedlight", "fit", "--config", str(files[-1])])
