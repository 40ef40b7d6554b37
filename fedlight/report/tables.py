"""The tables of a report, as values that several formats can be written from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fedlight.report.measures import LAST_ROUNDS, Measured, Metric
from fedlight.report.statistics import MIN_PAIRS, Interval
from fedlight.report.summary import Cell, Variant, Versus
from fedlight.tracking.format import duration, percent, quantity

NOTHING = "–"


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table.

    Attributes:
        text: plain text.
        is_best: whether it is the best of its column.
        is_marked: whether it differs significantly from the baseline.
        count: ``2 of 3`` where not all seeds are behind it.
    """

    text: str
    is_best: bool = False
    is_marked: bool = False
    count: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: stem of its files' names.
        title: what it shows.
        note: how to read it: what a number is the mean of, what a mark means.
        heads: a group (may be empty) and a name per column; the first column names the variant.
        rows: one per variant.
    """

    name: str
    title: str
    note: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Entry, ...], ...]


def show(metric: Metric, value: float, signed: bool = False) -> str:
    """Return a value of the metric: accuracies in percent, without the sign that the head has."""
    if not math.isfinite(value):
        return NOTHING
    plus = "+" if signed else ""
    text = f"{100 * value:{plus}.2f}" if in_percent(metric) else f"{value:{plus}.4g}"
    return text.replace("-", "−") if "e" not in text else text


def in_percent(metric: Metric) -> bool:
    """Whether its values are shares, shown in percent."""
    return metric.tag.endswith("accuracy")


def show_target(metric: Metric, target: float) -> str:
    """Return a target as people say it: ``80 %``."""
    return f"{100 * target:g} %" if in_percent(metric) else f"{target:g}"


def make_tables(cell: Cell) -> list[Table]:
    """Return a cell's tables: what was reached, how soon, at what cost."""
    tables = [_accuracy(cell)]
    tables += [_times(cell), _wall_times(cell)] if cell.targets else []
    return [table for table in [*tables, _costs(cell)] if len(table.heads) > 1]


def _accuracy(cell: Cell) -> Table:
    metric, unit = cell.metric, " (%)" if in_percent(cell.metric) else ""
    heads = [("", "variant"), ("", "seeds"), (f"within {_seconds(cell.common_s)} s", f"final{unit}")]
    within = heads[-1][0]
    heads += [(within, f"over {cell.baseline}")] if cell.baseline else []
    heads += [(within, f"best{unit}"), ("whole run", "simulated s"), ("whole run", "rounds"), ("whole run", "final")]
    columns = [[Entry(variant.label) for variant in cell.variants]]
    columns.append([Entry(str(len(variant.rows))) for variant in cell.variants])
    columns.append(
        _bests([_value(v.final, metric) for v in cell.variants], [v.final.mean for v in cell.variants], cell)
    )
    if cell.baseline:
        columns.append([_gain(variant.gain, metric) for variant in cell.variants])
    columns.append(_bests([_value(v.best, metric) for v in cell.variants], [v.best.mean for v in cell.variants], cell))
    columns.append([Entry(_seconds(variant.end_s)) for variant in cell.variants])
    columns.append([Entry(f"{variant.mean(lambda row: row.num_rounds):.0f}") for variant in cell.variants])
    columns.append([Entry(show(metric, variant.mean(lambda row: row.end_final) or 0.0)) for variant in cell.variants])
    note = (
        f"{metric.tag}, mean over seeds ± half of its 95 % interval (Student's t). Final: mean of the last "
        f"{LAST_ROUNDS} measured rounds that ended within {_seconds(cell.common_s)} simulated seconds, the time that "
        f"all runs have ({cell.first_to_end} ended first). Whole run: the simulated time that all of a variant's runs "
        f"have, and the final value at its own end."
    )
    return Table("final", f"{metric.tag} after equal simulated time", note + _marks(cell), tuple(heads), _rows(columns))


def _times(cell: Cell) -> Table:
    heads, columns = [("", "variant")], [[Entry(variant.label) for variant in cell.variants]]
    for index, target in enumerate(cell.targets):
        group = f"to {show_target(cell.metric, target)}"
        heads.append((group, "simulated s"))
        reached = [variant.reached[index] for variant in cell.variants]
        columns.append(_fastest([_spread(one, _seconds) for one in reached], reached))
        if any(one.speed_up and one.speed_up[index].interval.num_values for one in cell.variants):
            heads.append((group, "speed-up"))
            columns.append([_speed_up(variant, index) for variant in cell.variants])
    note = (
        f"Until the first measured round whose {cell.metric.tag} is at the target or better, in the whole run; mean "
        "over the seeds that got there ± half of its 95 % interval, with their number where it is not all: the others "
        "never did, and are in no mean."
    )
    if cell.baseline:
        note += (
            f" Speed-up: simulated seconds of {cell.baseline} over its own, geometric mean over the seeds in which "
            "both got there, with the 95 % interval of the paired logarithms; left out where it never did."
        )
    return Table("time", "Time to each target", note + _marks(cell), tuple(heads), _rows(columns))


def _wall_times(cell: Cell) -> Table:
    heads, columns = [("", "variant")], [[Entry(variant.label) for variant in cell.variants]]
    for index, target in enumerate(cell.targets):
        entries = [_wall(variant, index) for variant in cell.variants]
        if any(entry.text != NOTHING for entry in entries):
            heads.append(("wall s", f"to {show_target(cell.metric, target)}"))
            columns.append(entries)
    note = (
        "The same in measured seconds of the rounds on the machine that simulated them: what a repetition takes, not "
        "what the fleet would take."
    )
    return Table("wall", "Wall time to each target", note, tuple(heads), _rows(columns))


def _wall(variant: Variant, index: int) -> Entry:
    """Return the measured seconds to a target; a dash where it got there and no seconds were logged."""
    wall = variant.reached_wall[index]
    if variant.reached[index].num_values and not wall.num_values:
        return Entry(NOTHING)
    return _spread(wall, _seconds)


def _costs(cell: Cell) -> Table:
    within = f"within {_seconds(cell.common_s)} s"
    makers: list[tuple[str, str, Callable[[Measured], float | None], Callable[[float], str]]] = [
        (within, "sent by clients", _cost("uplink_bytes"), lambda value: quantity(value, "B")),
        (within, "sent to clients", _cost("downlink_bytes"), lambda value: quantity(value, "B")),
        (within, "training work", _cost("macs"), lambda value: quantity(value, "MAC")),
        (within, "energy", _cost("energy_j"), lambda value: quantity(value, "J")),
        (within, "waiting", lambda row: row.waiting, percent),
        ("machine", "wall time", lambda row: row.wall_s, duration),
        ("machine", "peak memory", lambda row: row.peak_memory_bytes, lambda value: quantity(value, "B")),
    ]
    heads, columns, absent = [("", "variant")], [[Entry(variant.label) for variant in cell.variants]], []
    for group, name, read, say in makers:
        means = [variant.mean(read) for variant in cell.variants]
        if any(mean is not None for mean in means):
            heads.append((group, name))
            columns.append([Entry(NOTHING if mean is None else say(mean)) for mean in means])
        else:
            absent.append(name)
    note = (
        "Means over seeds. Waiting: share of the simulated time in which clients neither computed nor sent. "
        "Machine: of the whole run, on the machine that simulated it."
    )
    if absent:
        note += f" Not logged: {', '.join(absent)}."
        note += " Energy needs a fleet that knows its devices' joules." if "energy" in absent else ""
    return Table("cost", "What it cost", note, tuple(heads), _rows(columns))


def _cost(name: str) -> Callable[[Measured], float | None]:
    return lambda row: row.costs.get(name)


def _rows(columns: Sequence[Sequence[Entry]]) -> tuple[tuple[Entry, ...], ...]:
    return tuple(zip(*columns, strict=True))


def _marks(cell: Cell) -> str:
    if cell.baseline is None:
        return ""
    if not any(len(variant.rows) >= MIN_PAIRS for variant in cell.variants if variant.label != cell.baseline):
        return f" Fewer than {MIN_PAIRS} seeds: nothing is tested, and nothing is marked."
    return (
        f" * differs from {cell.baseline}: p < 0.05 in a paired t-test over at least {MIN_PAIRS} seeds, corrected by "
        "Holm over the variants."
    )


def _value(interval: Interval, metric: Metric) -> Entry:
    if not interval.num_values:  # no round ended within the common time
        return Entry(NOTHING)
    return _spread(interval, lambda value: show(metric, value))


def _spread(interval: Interval, say: Callable[[float], str]) -> Entry:
    """Return ``mean ± half``, with the count where some seeds have no value."""
    if not interval.num_values:
        return Entry("never" if interval.num_asked else NOTHING, count=_count(interval))
    text = say(interval.mean)
    if math.isfinite(interval.half):
        text += f" ± {say(interval.half)}"
    return Entry(text, count=_count(interval))


def _count(interval: Interval) -> str:
    if interval.num_values == interval.num_asked or interval.num_asked < 2:
        return ""
    return f"{interval.num_values} of {interval.num_asked}"


def _gain(versus: Versus | None, metric: Metric) -> Entry:
    if versus is None:
        return Entry("baseline")
    interval = versus.interval
    if not interval.num_values:
        return Entry(NOTHING)
    half = f" ± {show(metric, interval.half)}" if math.isfinite(interval.half) else ""
    text = show(metric, interval.mean, signed=True) + half
    return Entry(text, is_marked=versus.is_significant, count=_count(interval))


def _speed_up(variant: Variant, index: int) -> Entry:
    if variant.speed_up is None:
        return Entry("baseline")
    versus = variant.speed_up[index]
    interval = versus.interval
    if not interval.num_values:
        return Entry(NOTHING)
    text = f"{_three(interval.mean)}×"
    if math.isfinite(interval.low) and math.isfinite(interval.high):
        text += f" [{_three(interval.low)}, {_three(interval.high)}]"
    return Entry(text, is_marked=versus.is_significant, count=_count(interval))


def _three(value: float) -> str:
    """Return three digits, and no more than make sense."""
    if value >= 100 or value < 0.01:
        return (
            f"{value:.3g}" if value < 1e4 and value >= 0.01 else f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
        )
    return f"{value:.3g}"


def _seconds(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _bests(entries: list[Entry], means: Sequence[float], cell: Cell) -> list[Entry]:
    known = [mean for mean in means if math.isfinite(mean)]
    if len(known) < 2:
        return entries
    best = max(known) if cell.metric.mode == "max" else min(known)
    return [replace(entry, is_best=mean == best) for entry, mean in zip(entries, means, strict=True)]


def _fastest(entries: list[Entry], reached: Sequence[Interval]) -> list[Entry]:
    """Mark the least time among those that got there with every seed."""
    whole = [one.mean for one in reached if one.num_values and one.num_values == one.num_asked]
    if not whole or len(entries) < 2:
        return entries
    return [
        replace(entry, is_best=one.num_values == one.num_asked and one.mean == min(whole))
        for entry, one in zip(entries, reached, strict=True)
    ]
