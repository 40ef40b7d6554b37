"""What one run reached, when, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from fedlight.core import tags
from fedlight.errors import ConfigError, DataError
from fedlight.report.runs import Run
from fedlight.tracking.watched import better, choose_metric

if TYPE_CHECKING:
    import pandas as pd

LAST_ROUNDS = 5
"""Rounds whose mean is the final value: one round's value is noisy."""

TOTALS: Final = {
    "uplink_bytes": tags.UPLINK_BYTES,
    "downlink_bytes": tags.DOWNLINK_BYTES,
    "macs": tags.MACS,
    "energy_j": tags.ENERGY_J,
}
"""Costs that add up over rounds: name to tag."""


@dataclass(frozen=True)
class Metric:
    """What is compared.

    Attributes:
        tag: its tag, for example ``val/accuracy``.
        mode: which way it gets better.
    """

    tag: str
    mode: Literal["max", "min"]

    def best(self, values: np.ndarray) -> float:
        """Return the best of some values, NaN of none."""
        return float("nan") if not values.size else float(values.max() if self.mode == "max" else values.min())

    def best_so_far(self, values: np.ndarray) -> np.ndarray:
        """Return the best value up to each round."""
        running: np.ndarray = (np.maximum if self.mode == "max" else np.minimum).accumulate(values)
        return running

    def reaches(self, values: np.ndarray, target: float) -> np.ndarray:
        """Return bool[rounds]: at least as good as the target, in the precision that logs have."""
        single, goal = values.astype(np.float32), np.float32(target)
        reached: np.ndarray = single >= goal if self.mode == "max" else single <= goal
        return reached


@dataclass(frozen=True)
class Curve:
    """The rounds of one run in which the metric was measured; all arrays are float64[rounds].

    Attributes:
        run: whose they are.
        rounds: the rounds' numbers.
        simulated_s: simulated seconds since the start, at the end of each round.
        wall_s: measured seconds of all rounds so far; NaN where they were not logged.
        sent_bytes: bytes sent both ways so far.
        values: the metric.
        end_s: simulated seconds at the end of the run's last round, measured or not.
    """

    run: Run
    rounds: np.ndarray
    simulated_s: np.ndarray
    wall_s: np.ndarray
    sent_bytes: np.ndarray
    values: np.ndarray
    end_s: float

    def within(self, until_s: float) -> np.ndarray:
        """Return bool[rounds]: over by then."""
        inside: np.ndarray = self.simulated_s <= until_s
        return inside

    def first_crossing(self, metric: Metric, target: float) -> int | None:
        """Return the index of the first round at the target or better, None if there is none."""
        reached = np.flatnonzero(metric.reaches(self.values, target))
        return int(reached[0]) if reached.size else None


@dataclass(frozen=True)
class Measured:
    """One run's row of the results.

    Attributes:
        run: whose row it is.
        num_rounds: rounds that it ran.
        end_s: simulated seconds that it ran.
        final: mean of the last five rounds within the common time; None where no round ended within it.
        best: best value within the common time.
        end_final: mean of the last five rounds of the run.
        reached_s: simulated seconds of the first round at each target, None: never.
        reached_wall_s: measured seconds up to the same round.
        costs: totals within the common time, by name of :data:`TOTALS`; those that were not logged are missing.
        waiting: share of the common time in which clients waited.
        wall_s: measured seconds of the whole run.
        peak_memory_bytes: as noted for the run.
    """

    run: Run
    num_rounds: int
    end_s: float
    final: float | None
    best: float | None
    end_final: float
    reached_s: tuple[float | None, ...]
    reached_wall_s: tuple[float | None, ...]
    costs: dict[str, float]
    waiting: float | None
    wall_s: float | None
    peak_memory_bytes: float | None


def choose(log: pd.DataFrame, wanted: str | None) -> Metric:
    """Return the metric that all runs have logged: the one wanted, else the one that runs are watched by.

    Raises:
        ConfigError: no run has it, or there is none to choose; names what was logged.
        DataError: some runs haven't.
    """
    logged = list(dict.fromkeys(log["tag"]))
    tag = wanted or choose_metric(logged)
    if tag is None or tag not in logged:
        known = [name for name in logged if name.startswith(("val", "test", "train"))] or logged
        what = f"no run has logged {tag}" if tag else "no run has logged a validation metric"
        raise ConfigError(f"report: {what}; --metric takes {' or '.join(known) or 'a tag, and there is none'}")
    without = sorted(set(log["run"]) - set(log.loc[log["tag"] == tag, "run"]))
    if without:
        raise DataError(f"report: {without[0]} has not logged {tag}; leave it out, or give another --metric")
    return Metric(tag, better(tag))


def drop_diverged(runs: Sequence[Run], log: pd.DataFrame, metric: Metric) -> tuple[list[Run], list[str]]:
    """Return the runs whose metric is a number in every round, and why the others are none of them.

    Raises:
        DataError: there is no such run.
    """
    broken = log.loc[(log["tag"] == metric.tag) & ~np.isfinite(log["value"])].groupby("run")["round"].min()
    problems = [
        f"{run.name}: {metric.tag} is no number in round {broken[run.name]}" for run in runs if run.name in broken
    ]
    kept = [run for run in runs if run.name not in broken]
    if not kept:
        raise DataError(f"report: no run is left ({problems[0]}); give another --metric")
    return kept, problems


def read_curve(run: Run, log: pd.DataFrame, metric: Metric) -> Curve:
    """Return one run's curve.

    Args:
        run: the run.
        log: its rows of the log.
        metric: what to follow.
    """
    rounds = log.drop_duplicates("round").sort_values("round")
    rounds = rounds.loc[rounds["simulated_s"].notna()]
    sent = log.loc[log["tag"].isin([tags.UPLINK_BYTES, tags.DOWNLINK_BYTES])].groupby("round")["value"].sum().cumsum()
    mine = log.loc[(log["tag"] == metric.tag) & log["simulated_s"].notna()].sort_values("round")
    return Curve(
        run,
        mine["round"].to_numpy(float),
        mine["simulated_s"].to_numpy(float),
        mine["wall_s"].to_numpy(float),
        mine["round"].map(sent).to_numpy(float),
        mine["value"].to_numpy(float),
        float(rounds["simulated_s"].iloc[-1]),
    )


def measure(curve: Curve, log: pd.DataFrame, metric: Metric, targets: Sequence[float], common_s: float) -> Measured:
    """Return what one run reached, when, and what it cost.

    Args:
        curve: the run's curve.
        log: its rows of the log.
        metric: what is compared.
        targets: values to reach.
        common_s: simulated seconds that all runs of the cell have.
    """
    inside = curve.values[curve.within(common_s)]
    crossings = [curve.first_crossing(metric, target) for target in targets]
    within = log.loc[log["simulated_s"] <= common_s]
    sums = within.groupby("tag")["value"].sum()
    logged = set(log["tag"])
    wall = log.loc[log["tag"] == tags.WALL_S, "value"]
    note = curve.run.note
    return Measured(
        run=curve.run,
        num_rounds=int(log.loc[log["tag"] == tags.SIMULATED_S, "round"].count()),
        end_s=curve.end_s,
        final=float(inside[-LAST_ROUNDS:].mean()) if inside.size else None,
        best=metric.best(inside) if inside.size else None,
        end_final=float(curve.values[-LAST_ROUNDS:].mean()),
        reached_s=tuple(None if at is None else float(curve.simulated_s[at]) for at in crossings),
        reached_wall_s=tuple(None if at is None else _known(curve.wall_s[at]) for at in crossings),
        costs={name: float(sums.get(tag, 0.0)) for name, tag in TOTALS.items() if tag in logged},
        waiting=_waiting(within),
        wall_s=note.get("wall_s") or (float(wall.sum()) if len(wall) else None),
        peak_memory_bytes=note.get("peak_memory_bytes"),
    )


def _waiting(log: pd.DataFrame) -> float | None:
    """Return the mean share of waiting, each round counted by its length."""
    waiting = log.loc[log["tag"] == tags.WAITING_SHARE].sort_values("round")
    if waiting.empty:
        return None
    # A round begins where the one before it has ended.
    ends = log.loc[log["tag"] == tags.SIMULATED_S].sort_values("round").set_index("round")["value"]
    lengths = waiting["round"].map(ends.diff().fillna(ends)).to_numpy(float)
    shares = waiting["value"].to_numpy(float)
    return float((lengths * shares).sum() / lengths.sum()) if lengths.sum() > 0 else float(shares.mean())


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
