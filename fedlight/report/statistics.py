"""Intervals and tests over seeds: Student's t, since seeds are few."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
LEVEL = 0.05
"""A difference is marked where its p-value, corrected for the number of comparisons, is below this."""

MIN_PAIRS = 3
"""Seeds below which nothing is tested: two differences nearly always agree by chance."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % confidence interval.

    Attributes:
        mean: the mean; for ratios the geometric one.
        low: lower end, NaN for fewer than two values.
        high: upper end, NaN for fewer than two values.
        num_values: values behind it.
        num_asked: values there would be, had every seed one (a target that some never reach).
    """

    mean: float
    low: float
    high: float
    num_values: int
    num_asked: int

    @property
    def half(self) -> float:
        """Half its width, NaN for fewer than two values."""
        return (self.high - self.low) / 2


def mean_interval(values: Sequence[float | None]) -> Interval:
    """Return mean ± t(0.975, n - 1) s / sqrt(n) with s the sample standard deviation.

    Args:
        values: one per seed; None and NaN have none and are counted only as asked for.
    """
    from scipy import stats

    known = _known(values)
    if not known:
        return Interval(math.nan, math.nan, math.nan, 0, len(values))
    count, mean = len(known), math.fsum(known) / len(known)
    half = math.nan
    if count > 1:
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (count - 1))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count, len(values))


def ratio_interval(over: Mapping[int, float | None], under: Mapping[int, float | None]) -> Interval:
    """Return the geometric mean of over / under, paired by seed, with exp of the t interval of the logs.

    Args:
        over: seed to a positive value (a baseline's seconds).
        under: seed to a positive value (a variant's seconds); its seeds are the ones asked for.
    """
    logs = [math.log(ratio) if ratio else None for ratio in _ratios(over, under)]
    interval = mean_interval(logs)
    return Interval(
        math.exp(interval.mean),
        math.exp(interval.low),
        math.exp(interval.high),
        interval.num_values,
        interval.num_asked,
    )


def paired_p(first: Mapping[int, float | None], second: Mapping[int, float | None], logs: bool = False) -> float | None:
    """Return the two-sided p-value of a paired t-test over the seeds that both have.

    A t-test and not Wilcoxon's signed ranks: of n seeds the latter's smallest p is 2 / 2**n, above 0.05 for all n < 6.

    Args:
        first: seed to value.
        second: seed to value.
        logs: test the logarithms of (positive) values, so their ratio.

    Returns:
        The p-value; None for fewer than :data:`MIN_PAIRS` pairs, and where all differences are equal: seeds without
        any effect are no repetitions.
    """
    from scipy import stats

    if logs:
        differences = [math.log(ratio) for ratio in _ratios(first, second) if ratio]
    else:
        pairs = [(first.get(seed), value) for seed, value in second.items()]
        differences = [a - b for a, b in pairs if a is not None and b is not None and math.isfinite(a - b)]
    if len(differences) < MIN_PAIRS:
        return None
    scale = max(abs(value) for value in differences)
    if max(differences) - min(differences) <= 1e-9 * scale:
        return 1.0 if scale == 0 else None
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return Holm's step-down corrected p-values: sorted p_i times (m - i), made monotone, at most 1.

    Args:
        p_values: name to p-value; None was not tested and doesn't count.
    """
    tested = sorted(((p, name) for name, p in p_values.items() if p is not None))
    corrected: dict[str, float | None] = dict.fromkeys(p_values)
    highest = 0.0
    for index, (p, name) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - index)))
        corrected[name] = highest
    return corrected


def is_significant(p_value: float | None) -> bool:
    """Whether a corrected p-value earns a mark."""
    return p_value is not None and p_value < LEVEL


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _ratios(over: Mapping[int, float | None], under: Mapping[int, float | None]) -> list[float | None]:
    """Return over / under for the seeds of ``under``, None where one of the two is missing or not positive."""
    pairs = [(over.get(seed), value) for seed, value in under.items()]
    return [a / b if a and b and a > 0 and b > 0 and math.isfinite(a / b) else None for a, b in pairs]
