"""Runs of one cell boiled down to variants: means over seeds, intervals, paired comparisons with the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedlight.report.measures import Curve, Measured, Metric
from fedlight.report.statistics import Interval, holm, is_significant, mean_interval, paired_p, ratio_interval


@dataclass(frozen=True)
class Versus:
    """A variant against the baseline.

    Attributes:
        interval: the difference (or ratio) with its paired interval.
        p_value: of the paired test, corrected by Holm over the variants of the cell; None: not tested.
    """

    interval: Interval
    p_value: float | None

    @property
    def is_significant(self) -> bool:
        """Whether it earns a mark."""
        return is_significant(self.p_value)


@dataclass(frozen=True)
class Variant:
    """One variant in one cell.

    Attributes:
        label: its name.
        rows: its runs, one per seed.
        final: final value within the common time.
        best: best value within the common time.
        reached: simulated seconds to each target.
        reached_wall: measured seconds to each target.
        gain: final value minus the baseline's; None for the baseline itself.
        speed_up: per target, the baseline's seconds over its own; None for the baseline itself.
    """

    label: str
    rows: tuple[Measured, ...]
    final: Interval
    best: Interval
    reached: tuple[Interval, ...]
    reached_wall: tuple[Interval, ...]
    gain: Versus | None
    speed_up: tuple[Versus, ...] | None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds, in order."""
        return tuple(row.run.seed for row in self.rows)

    @property
    def end_s(self) -> float:
        """Simulated seconds that all its runs have."""
        return min(row.end_s for row in self.rows)

    def mean(self, value: Callable[[Measured], float | None]) -> float | None:
        """Return a mean over the runs that have a value, None where none has."""
        known = [number for row in self.rows if (number := value(row)) is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Cell:
    """All variants under the same conditions.

    Attributes:
        name: ``fleet=High``; empty where there is only one.
        metric: what is compared.
        targets: values to reach.
        baseline: label of the baseline; None where it has no run in this cell.
        common_s: simulated seconds that all runs have.
        variants: in the order in which they were found, the baseline first.
        curves: of all runs.
    """

    name: str
    metric: Metric
    targets: tuple[float, ...]
    baseline: str | None
    common_s: float
    variants: tuple[Variant, ...]
    curves: tuple[Curve, ...]

    def curves_of(self, label: str) -> list[Curve]:
        """Return the curves of one variant."""
        return [curve for curve in self.curves if curve.run.label == label]

    @property
    def heading(self) -> str:
        """The name as a heading: ``Fleet High, partition Shards``."""
        text = self.name.replace("=", " ", 1) if self.name else "results"
        return text[0].upper() + text[1:]

    @property
    def first_to_end(self) -> str:
        """Label of the variant whose run ended first, and so set the common time."""
        return min(self.curves, key=lambda curve: curve.end_s).run.label

    @property
    def num_seeds(self) -> tuple[int, int]:
        """Fewest and most seeds of a variant."""
        counts = [len(variant.rows) for variant in self.variants]
        return min(counts), max(counts)


def summarize(
    name: str,
    rows: Sequence[Measured],
    curves: Sequence[Curve],
    metric: Metric,
    targets: Sequence[float],
    baseline: str,
) -> Cell:
    """Return one cell's variants.

    Args:
        name: the cell's name.
        rows: what its runs have reached.
        curves: the same runs' curves.
        metric: what is compared.
        targets: values to reach.
        baseline: label that gains and speed-ups are over.
    """
    by_label: dict[str, list[Measured]] = {}
    for row in sorted(rows, key=lambda row: row.run.label != baseline):
        by_label.setdefault(row.run.label, []).append(row)
    by_label = {label: sorted(mine, key=lambda row: row.run.seed) for label, mine in by_label.items()}
    base = by_label.get(baseline)
    others = [label for label in by_label if label != baseline]
    gains = _gains(base, {label: by_label[label] for label in others}) if base else {}
    speed_ups = [
        _speed_ups(base, {label: by_label[label] for label in others}, index) if base else {}
        for index in range(len(targets))
    ]
    variants = tuple(
        Variant(
            label=label,
            rows=tuple(mine),
            final=mean_interval([row.final for row in mine]),
            best=mean_interval([row.best for row in mine]),
            reached=tuple(mean_interval([row.reached_s[i] for row in mine]) for i in range(len(targets))),
            reached_wall=tuple(mean_interval([row.reached_wall_s[i] for row in mine]) for i in range(len(targets))),
            gain=gains.get(label),
            speed_up=tuple(one[label] for one in speed_ups) if base and label != baseline else None,
        )
        for label, mine in by_label.items()
    )
    common_s = min(row.end_s for row in rows)
    return Cell(name, metric, tuple(targets), baseline if base else None, common_s, variants, tuple(curves))


def _gains(base: Sequence[Measured], others: Mapping[str, Sequence[Measured]]) -> dict[str, Versus]:
    theirs = {row.run.seed: row.final for row in base}
    intervals, p_values = {}, {}
    for label, rows in others.items():
        ours = {row.run.seed: row.final for row in rows}
        intervals[label] = mean_interval([_difference(ours[seed], theirs.get(seed)) for seed in ours])
        p_values[label] = paired_p(ours, theirs)
    return _versus(intervals, p_values)


def _speed_ups(base: Sequence[Measured], others: Mapping[str, Sequence[Measured]], index: int) -> dict[str, Versus]:
    theirs = {row.run.seed: row.reached_s[index] for row in base}
    intervals, p_values = {}, {}
    for label, rows in others.items():
        ours = {row.run.seed: row.reached_s[index] for row in rows}
        intervals[label] = ratio_interval(theirs, ours)
        p_values[label] = paired_p(theirs, ours, logs=True)
    return _versus(intervals, p_values)


def _versus(intervals: Mapping[str, Interval], p_values: Mapping[str, float | None]) -> dict[str, Versus]:
    corrected = holm(p_values)
    return {label: Versus(interval, corrected[label]) for label, interval in intervals.items()}


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def common_time(curves: Sequence[Curve]) -> float:
    """Return the simulated seconds that all runs have."""
    return float(np.min([curve.end_s for curve in curves]))
