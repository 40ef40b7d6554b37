"""How often clients take part, how late their updates are, what energy goes where, how much of the time is waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from fedlight.tracking.drawing import INK, NOTHING, PALETTE, new_figure, pixels_of, time_unit
from fedlight.tracking.format import percent
from fedlight.tracking.history import History
from fedlight.tracking.jobs import Jobs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BINS: Final = 40
MAX_CLASSES: Final = len(PALETTE)
"""Device classes with a colour of their own."""


def draw_participation(jobs: Jobs, num_clients: int, device: Callable[[int], str]) -> np.ndarray:
    """Return a histogram of how many updates of each client came back well, by device class."""
    back = jobs["client"][jobs["cause"] == ""]
    counts = np.bincount(back, minlength=num_clients)
    classes = np.array([device(client) for client in range(len(counts))])
    axes = _axes("How often clients take part", "updates that came back from a client", "clients")
    _stack(axes, counts, classes)
    share = float((counts > 0).mean())
    _note(axes, f"mean {counts.mean():.3g}, {percent(share)} of {len(counts):,} clients took part")
    return _finish(axes)


def draw_staleness(jobs: Jobs) -> np.ndarray | None:
    """Return a histogram of the versions by which the model had moved on, by device class; None if it never had."""
    back = jobs[jobs["cause"] == ""]
    if not len(back) or not back["staleness"].any():
        return None
    axes = _axes("How late updates are", "versions by which the model had moved on", "updates")
    _stack(axes, back["staleness"], back["device"])
    median, late = np.percentile(back["staleness"], [50, 95])
    _note(axes, f"mean {back['staleness'].mean():.3g}, median {median:.0f}, 95 % at most {late:.0f}")
    return _finish(axes)


def draw_energy(jobs: Jobs) -> np.ndarray | None:
    """Return the joules spent over simulated time, by device class and for nothing; None if the fleet doesn't know."""
    total = float(jobs["energy_j"].sum())
    if not total > 0:
        return None
    jobs = jobs[np.argsort(jobs["event_s"], kind="stable")]
    unit_s, unit = time_unit(float(jobs["event_s"][-1]))
    scale, prefix = (1.0, "J") if total < 3000 else (1e3, "kJ") if total < 3e6 else (1e6, "MJ")
    axes = _axes("Energy spent", f"simulated time, {unit}", f"energy, {prefix}")
    names = _names(jobs["device"])
    shown = _grouped(jobs["device"], names)
    layers = [np.cumsum(np.where(shown == name, jobs["energy_j"], 0.0)) / scale for name in names]
    axes.stackplot(jobs["event_s"] / unit_s, layers, labels=names, colors=PALETTE, linewidth=0, alpha=0.9)
    wasted = np.cumsum(np.where(jobs["cause"] != "", jobs["energy_j"], 0.0)) / scale
    if wasted[-1] > 0:
        axes.plot(jobs["event_s"] / unit_s, wasted, color=INK, linestyle=(0, (3, 1.5)), label="for lost jobs")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, float(jobs["event_s"][-1]) / unit_s)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _note(
        axes,
        f"{total / scale:.3g} {prefix}, {percent(float(jobs['energy_j'][jobs['cause'] != ''].sum()) / total)} lost",
    )
    return _finish(axes)


def draw_waiting(history: History) -> np.ndarray | None:
    """Return the share of waiting over simulated time; None if no time has passed.

    Args:
        history: rows ``waiting`` (share of each round) and ``end_s`` (simulated time at its end).
    """
    table = dict(zip(history.rows, history.matrix().astype(np.float64), strict=True))
    ends_s = table["end_s"]
    if not ends_s[-1] > 0:
        return None
    unit_s, unit = time_unit(ends_s[-1])
    spans = np.diff(np.concatenate([[0.0], ends_s]))
    mean = np.cumsum(table["waiting"] * spans) / np.maximum(np.cumsum(spans), 1e-12)
    axes = _axes("How much of the time clients wait", f"simulated time, {unit}", "share of waiting")
    edges = np.concatenate([[0.0], ends_s]) / unit_s
    axes.stairs(table["waiting"], edges, fill=True, color=NOTHING, label="of a round")
    axes.plot(ends_s / unit_s, mean, color=PALETTE[0], linewidth=1.8, label="so far")
    axes.set_ylim(0, 1)
    axes.set_xlim(0, float(edges[-1]))
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    _note(axes, f"{percent(float(mean[-1]))} so far")
    return _finish(axes)


def _axes(title: str, x_label: str, y_label: str) -> Axes:
    axes: Axes = new_figure(8.0, 3.6).add_subplot()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _note(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="right", fontsize=8.5, color="#4a5160")


def _finish(axes: Axes) -> np.ndarray:
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101 - axes of new_figure have one
    return pixels_of(figure)


def _names(classes: np.ndarray) -> list[str]:
    """Return the device classes to colour, by name; beyond the palette the rarest are ``other``."""
    names, counts = np.unique(classes, return_counts=True)
    if len(names) <= MAX_CLASSES:
        return [str(name) for name in names]
    return [*sorted(str(name) for name in names[np.argsort(-counts, kind="stable")[: MAX_CLASSES - 1]]), "other"]


def _grouped(classes: np.ndarray, names: list[str]) -> np.ndarray:
    grouped: np.ndarray = np.where(np.isin(classes, names), classes, "other")
    return grouped


def _stack(axes: Axes, values: np.ndarray, classes: np.ndarray) -> None:
    """Draw a histogram of whole numbers, stacked by device class; bins hold equally many of the numbers."""
    from matplotlib.ticker import MaxNLocator

    low, high = int(values.min()), int(values.max())
    step = max(1, -(-(high - low + 1) // MAX_BINS))
    edges = np.arange(low, high + step + 1, step) - 0.5
    names = _names(classes)
    shown = _grouped(classes, names)
    axes.hist(
        [values[shown == name] for name in names], bins=list(edges), stacked=True, label=names,
        color=list(PALETTE[: len(names)]), rwidth=0.9,
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.legend(frameon=False, fontsize=8)
