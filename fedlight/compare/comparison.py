"""What a comparison file says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from fedlight.errors import ConfigError
from fedlight.tracking.watched import ACCURACY, Mode, better

LOGGED: Final = ("val/", "val_", "train/", "server/")
"""Starts of the names that a run logs round by round; test metrics are measured once, at its end."""

SEED_KEYS: Final = ("seed_everything", "model.seed", "data.seed")
OWN_KEYS: Final = {
    "trainer.default_root_dir": "give the folder of all runs by --out",
    "num_threads": "use threads_per_job",
    "config": "use base",
    "ckpt_path": "an interrupted run finds its own checkpoint; to start from weights set model.init_weights",
}
"""Keys of ``fedlight fit`` that a comparison sets itself, and what to do instead."""

SECTIONS: Final = ("model", "data", "trainer")


@dataclass(frozen=True)
class Choice:
    """An algorithm with options of its own, under a label of its own.

    Args:
        label: what tables and pictures call it.
        algorithm: any of fedlight.algorithms by name, or an import path.
        options: options of the algorithm, by name.
    """

    label: str
    algorithm: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A named ablation: one of the algorithms with something changed.

    Args:
        label: what tables and pictures call it.
        of: label of the algorithm that it is a variant of; None: the algorithm of the base.
        set: keys of ``fedlight fit`` with their values.
    """

    label: str
    of: str | None = None
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stop:
    """When a run ends: at whichever comes first.

    Args:
        target: after the first round whose metric is as good as this.
        simulated_s: after the first round that ends at or after so many simulated seconds.
        rounds: after so many rounds; None: the base's trainer.max_epochs.
    """

    target: float | None = None
    simulated_s: float | None = None
    rounds: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Every algorithm and variant, in every cell of the axes, with every seed.

    Args:
        base: what all runs share: a config of ``fedlight fit``; its path as seen from this file, or from the working
            folder.
        algorithms: names of algorithms; with a label and options where the name alone doesn't tell.
        variants: named ablations.
        set: keys of ``fedlight fit`` that are other than in the base, for all runs.
        axes: grid of settings that are compared apart, each cell with all variants. Key of ``fedlight fit`` to its
            values (``model.fleet: [High, JetsonTX2]``), or a name to named lists of keys and values
            (``skew: {mild: {data.partition.alpha: 1}, strong: {data.partition.alpha: 0.1}}``).
        seeds: runs of one seed share initial weights, clients per round, batches and devices.
        metric: what is compared.
        targets: values of the metric to be reached; empty: the report chooses two.
        stop: when a run ends.
        baseline: label that differences and speed-ups are over; None: SynFL, else FedAvg, else the first.
        title: heading of the report; None: it lists the variants.
        jobs: runs at a time.
        threads_per_job: threads that each of them computes with.
    """

    base: str
    algorithms: list[str | Choice] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, list[Any] | dict[str, dict[str, Any]]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    metric: str = ACCURACY
    targets: list[float] = field(default_factory=list)
    stop: Stop = field(default_factory=Stop)
    baseline: str | None = None
    title: str | None = None
    jobs: int = 1
    threads_per_job: int = 1

    @property
    def mode(self) -> Mode:
        """Which way the metric gets better, as its name tells."""
        return better(self.metric)

    @property
    def choices(self) -> list[Choice]:
        """The algorithms, each with a label."""
        return [Choice(one.rpartition(".")[2], one) if isinstance(one, str) else one for one in self.algorithms]

    @property
    def labels(self) -> list[str]:
        """Labels of all algorithms and variants, in the file's order."""
        return [choice.label for choice in self.choices] + [variant.label for variant in self.variants]

    def check(self) -> None:
        """Raise ConfigError, with the key, where the file can't mean what it says."""
        if not self.labels:
            raise ConfigError("algorithms: there is nothing to compare; list algorithms, or variants")
        _check_labels(self.labels)
        _check_seeds(self.seeds)
        _check_metric(self)
        _check_numbers(self)
        for where, keys in self._set_keys():
            _check_keys(where, keys)
        known = [choice.label for choice in self.choices]
        for variant in self.variants:
            if variant.of is not None and variant.of not in known:
                raise ConfigError(
                    f"variants ({variant.label}): of is {variant.of}, which is no label of algorithms"
                    f"{_meant(variant.of, known)}"
                )
        if self.baseline is not None and self.baseline not in self.labels:
            raise ConfigError(
                f"baseline is {self.baseline}, which is no label of algorithms or variants"
                f"{_meant(self.baseline, self.labels)}"
            )

    def _set_keys(self) -> Iterable[tuple[str, Iterable[str]]]:
        """Yield every place where keys of ``fedlight fit`` are set, with those keys."""
        yield "set", flat(self.set)
        for variant in self.variants:
            yield f"variants ({variant.label})", flat(variant.set)
        for axis, values in self.axes.items():
            if isinstance(values, dict):
                for name, keys in values.items():
                    yield f"axes.{axis} ({name})", flat(keys)
            else:
                yield "axes", [axis]


def flat(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with dotted keys, whether they were written so or nested below model, data and trainer."""
    found: dict[str, Any] = {}
    for key, value in keys.items():
        if key in SECTIONS and isinstance(value, Mapping):
            found |= {f"{key}.{inner}": one for inner, one in value.items()}
        else:
            found[key] = value
    return found


def _meant(wrong: str, known: Sequence[str]) -> str:
    close = get_close_matches(wrong, known, n=2)
    return f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(known) or 'none'}"


def _check_labels(labels: Sequence[str]) -> None:
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"algorithms, variants: two are called {label}; give one of them another label")
        if not label.strip():
            raise ConfigError("algorithms, variants: a label is empty; give it a name")


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ConfigError("seeds: there are none; list at least one, three or more to tell what is significant")
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise ConfigError(f"seeds: {twice[0]} is listed twice; list each seed once")
    if min(seeds) < 0:
        raise ConfigError(f"seeds: {min(seeds)} is negative; give numbers >= 0")


def _check_metric(comparison: Comparison) -> None:
    metric = comparison.metric
    if not metric.startswith(LOGGED):
        hint = "; test metrics come once, at the end: set data.validate_on: test to watch the test set as val/..."
        hint = hint if metric.startswith("test") else f"; did you mean val/{metric.rpartition('/')[2]}?"
        raise ConfigError(f"metric is {metric}, which no round logs{hint}")
    named = [("targets", value) for value in comparison.targets]
    if comparison.stop.target is not None:
        named.append(("stop.target", comparison.stop.target))
    for key, value in named:
        if not math.isfinite(value):
            raise ConfigError(f"{key}: {value} is no value that {metric} could reach; give a number")
        if metric.endswith("accuracy") and not 0 < value <= 1:
            raise ConfigError(f"{key}: {value:g} is no accuracy; give a fraction, as 0.8 for 80 %")


def _check_numbers(comparison: Comparison) -> None:
    stop = comparison.stop
    numbers = {"jobs": comparison.jobs, "threads_per_job": comparison.threads_per_job, "stop.rounds": stop.rounds}
    for key, number in numbers.items():
        if number is not None and number < 1:
            raise ConfigError(f"{key} is {number}; give 1 or more")
    if stop.simulated_s is not None and not stop.simulated_s > 0:
        raise ConfigError(f"stop.simulated_s is {stop.simulated_s:g}; give seconds > 0")


def _check_keys(where: str, keys: Iterable[str]) -> None:
    for key in keys:
        if key in SEED_KEYS:
            raise ConfigError(
                f"{where}: {key} is set, but runs are paired by seed, so all variants share the seeds; list them "
                "under seeds"
            )
        if key in OWN_KEYS:
            raise ConfigError(f"{where}: {key} is set, but the comparison sets it; {OWN_KEYS[key]}")
