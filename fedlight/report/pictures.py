"""Pictures of a cell's metric: over simulated time, over bytes, and the front of what is best by when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedlight.report.measures import Curve
from fedlight.report.style import FAINT, INK, Look, drawing, new_figure, save
from fedlight.report.summary import Cell
from fedlight.report.tables import in_percent, show_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GIGA, MEGA = 1e9, 1e6
CUT_OFF = 0.05
"""Share of the plotted time whose worst values may lie outside the frame."""


@dataclass(frozen=True)
class Picture:
    """One picture of a page, or why there is none.

    Attributes:
        name: stem of its files' names.
        title: what it shows.
        note: how to read it; where there is no picture, why.
        svg: the picture as an element of a page, empty where there is none.
    """

    name: str
    title: str
    note: str
    svg: str = ""


def step_at(at: np.ndarray, positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return what a step function has at some places: the value of the last position at or before each, else NaN."""
    index = np.searchsorted(positions, at, side="right") - 1
    found: np.ndarray = np.where(index >= 0, values[np.maximum(index, 0)], np.nan)
    return found


def band(curves: Sequence[Curve], axis: Callable[[Curve], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return places where any run's value changes, float64[n], and every run's value there, float64[runs, n].

    Places end where the first run ends: a mean over fewer runs would jump.
    """
    axes = [axis(curve) for curve in curves]
    places = np.unique(np.concatenate(axes))
    places = places[(places >= max(one[0] for one in axes)) & (places <= min(one[-1] for one in axes))]
    if not places.size:
        places = np.array([max(one[0] for one in axes)])
    return places, np.stack([step_at(places, one, curve.values) for one, curve in zip(axes, curves, strict=True)])


def draw_over_time(cell: Cell, look: dict[str, Look], folder: Path, name: str) -> Picture:
    """Draw the metric over simulated time, with a band over seeds."""
    note = (
        "Mean over seeds as a step function of simulated time (a round's value holds until the next round ends), as "
        "far as all of a variant's seeds go; band: lowest to highest seed. "
        f"Dotted: the common time, {cell.common_s:.4g} s; thin horizontal lines: the targets. The frame leaves out the "
        "worst values of the first rounds."
    )
    with drawing(name):
        figure, axes = _curves(cell, look, lambda curve: curve.simulated_s, "simulated seconds")
        axes.axvline(cell.common_s, color=INK, linewidth=0.6, linestyle=":")
        return Picture(name, f"{cell.metric.tag} over simulated time", note, save(figure, folder, name))


def draw_over_bytes(cell: Cell, look: dict[str, Look], folder: Path, name: str) -> Picture:
    """Draw the metric over the bytes sent both ways."""
    title = f"{cell.metric.tag} over bytes"
    if not all(np.isfinite(curve.sent_bytes).all() for curve in cell.curves):
        return Picture(name, title, "Left out: not all runs have logged the bytes that they sent.")
    note = "The same over the bytes sent by and to all clients since the start."
    size, unit = (GIGA, "GB") if max(curve.sent_bytes[-1] for curve in cell.curves) >= GIGA else (MEGA, "MB")
    with drawing(name):
        figure, _ = _curves(cell, look, lambda curve: curve.sent_bytes / size, f"{unit} sent both ways")
        return Picture(name, title, note, save(figure, folder, name))


def draw_front(cell: Cell, look: dict[str, Look], folder: Path, name: str) -> Picture:
    """Draw the best value by time, and the front: who holds it when."""
    title = f"Pareto front of {cell.metric.tag} and time"
    note = (
        "Best mean value so far (thin), and over all variants (thick): no variant is at once better and sooner than a "
        "point of the thick line. Dots: the best of each variant, and when it had it."
    )
    from matplotlib.ticker import LogLocator, NullFormatter

    with drawing(name):
        figure, (axes,) = new_figure(7.2, 3.7)
        places = np.unique(np.concatenate([curve.simulated_s for curve in cell.curves]))
        tops = []
        for variant in cell.variants:
            at, values = band(cell.curves_of(variant.label), lambda curve: curve.simulated_s)
            top = cell.metric.best_so_far(_shown(cell, values.mean(axis=0)))
            tops.append(np.where(places <= at[-1], step_at(places, at, top), np.nan))
            one = look[variant.label]
            axes.step(at, top, where="post", color=one.color, linestyle=one.dashes, linewidth=0.8, alpha=0.8)
            first = int(np.argmax(top == top[-1]))
            axes.plot(at[first], top[first], one.marker, color=one.color, markersize=5, label=variant.label)
        _front(axes, cell, look, places, np.stack(tops))
        _finish(axes, cell, "simulated seconds")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        # Powers of ten as such: mathematical text is off, since labels may hold any sign.
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        return Picture(name, title, note, save(figure, folder, name))


def front(tops: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the best value by each place, float64[places], and which variant had it first, int64[places].

    Args:
        tops: float64[variants, places], best value so far of each variant, NaN where it has none.
        mode: ``max`` or ``min``: which way values get better.
    """
    signed = np.where(np.isfinite(tops), tops if mode == "max" else -tops, -np.inf)
    best, holder = np.full(tops.shape[1], np.nan), np.full(tops.shape[1], -1)
    reached, who = -np.inf, -1
    for place in range(tops.shape[1]):
        leader = int(np.argmax(signed[:, place]))
        if signed[leader, place] > reached:
            reached, who = float(signed[leader, place]), leader
        if who >= 0:
            best[place], holder[place] = (reached if mode == "max" else -reached), who
    return best, holder


def _front(axes: Axes, cell: Cell, look: dict[str, Look], places: np.ndarray, tops: np.ndarray) -> None:
    best, holder = front(tops, cell.metric.mode)
    starts = [i for i in range(len(places)) if holder[i] >= 0 and (i == 0 or holder[i] != holder[i - 1])]
    for start, end in zip(starts, [*starts[1:], len(places) - 1], strict=True):
        color = look[cell.variants[holder[start]].label].color
        axes.step(places[start : end + 1], best[start : end + 1], where="post", color=color, linewidth=3, alpha=0.9)


def _curves(cell: Cell, look: dict[str, Look], axis: Callable[[Curve], np.ndarray], label: str) -> tuple[Figure, Axes]:
    figure, (axes,) = new_figure(7.2, 3.7)
    end = max(axis(curve)[-1] for curve in cell.curves)
    shown = []
    for variant in cell.variants:
        curves, one = cell.curves_of(variant.label), look[variant.label]
        places, values = band(curves, axis)
        values = _shown(cell, values)
        evenly = np.linspace(places[0], places[-1], max(2, round(200 * (places[-1] - places[0]) / end)))
        shown.append(step_at(evenly, places, values.mean(axis=0)))
        # The baseline lies above the others: it is what they are looked at against.
        order = 3 if variant.label == cell.baseline else 2
        if len(curves) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(places, low, high, step="post", color=one.color, alpha=0.16, linewidth=0)
        axes.step(
            places,
            values.mean(axis=0),
            where="post",
            color=one.color,
            linestyle=one.dashes,
            label=variant.label,
            zorder=order,
            # Without it, a single place would not be seen.
            marker=one.marker if len(places) == 1 else None,
            markersize=4,
        )
    shown.append(np.array(_heights(cell)))
    _frame(axes, cell, np.concatenate(shown))
    _targets(axes, cell)
    _finish(axes, cell, label)
    axes.set_xlim(left=0)
    return figure, axes


def _heights(cell: Cell) -> list[float]:
    return [100 * target if in_percent(cell.metric) else target for target in cell.targets]


def _frame(axes: Axes, cell: Cell, values: np.ndarray) -> None:
    """Cut off the worst twentieth of the time: the first rounds would squeeze all that differs."""
    low, high = float(values.min()), float(values.max())
    if cell.metric.mode == "max":
        low = min([float(np.quantile(values, CUT_OFF)), *_heights(cell)])
    else:
        high = max([float(np.quantile(values, 1 - CUT_OFF)), *_heights(cell)])
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def _targets(axes: Axes, cell: Cell) -> None:
    low, high = axes.get_ylim()
    before = -np.inf
    for target, height in sorted(zip(cell.targets, _heights(cell), strict=True)):
        axes.axhline(height, color=FAINT, linewidth=0.9, zorder=1)
        # Of targets close to each other, one label can be read.
        if height - before > 0.045 * (high - low):
            place = (1.005, height)
            axes.annotate(
                show_target(cell.metric, target), place, xycoords=("axes fraction", "data"), va="center", fontsize=7.5
            )
            before = height


def _shown(cell: Cell, values: np.ndarray) -> np.ndarray:
    return 100 * values if in_percent(cell.metric) else values


def _finish(axes: Axes, cell: Cell, label: str) -> None:
    axes.set_xlabel(label)
    axes.set_ylabel(cell.metric.tag + (" (%)" if in_percent(cell.metric) else ""))
    columns = 1 if len(cell.variants) <= 12 else 2
    # Beside the curves: inside, it would hide some.
    axes.legend(loc="center left", bbox_to_anchor=(1.07, 0.5), ncols=columns, borderaxespad=0)
