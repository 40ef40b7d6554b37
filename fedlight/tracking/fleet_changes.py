"""How a fleet changes over simulated time, as a picture: one panel per axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fedlight.core.fleet import Departure, Fleet
from fedlight.core.types import Work
from fedlight.tracking.drawing import INK, NOTHING, PALETTE, new_figure, pixels_of, time_unit
from fedlight.tracking.format import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMES: Final = 300
"""Moments at which availability and speed are asked for."""

DEPARTURES: Final = 40, 16
"""Moments from which jobs are sent for the picture, and clients at each."""


def draw_changes(fleet: Fleet, num_clients: int, until_s: float, work: Work) -> np.ndarray | None:
    """Return a picture of what changes in [0, until_s], uint8[height, width, 3]; None if nothing does.

    Args:
        fleet: set up; it is asked, and not changed.
        num_clients: number of clients.
        until_s: end of the picture, simulated seconds, > 0.
        work: of the jobs whose losses and shares are drawn, say one of the run's.
    """
    panels = {name: panel for name, panel in _PANELS.items() if name in fleet.changes()}
    if not panels or not until_s > 0:
        return None
    figure = new_figure(8.0, 0.5 + 2.1 * len(panels))
    unit_s, unit = time_unit(until_s)
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, panel) in zip(all_axes, panels.items(), strict=True):
        panel(axes, fleet, num_clients, until_s, unit_s, work)
        axes.set_title(f"{name}: {fleet.changes()[name]}", loc="left", fontsize=8, color=INK, wrap=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.set_xlim(0, until_s / unit_s)
    all_axes[-1].set_xlabel(f"simulated time, {unit}")
    return pixels_of(figure)


def _availability(axes: Axes, fleet: Fleet, num_clients: int, until_s: float, unit_s: float, work: Work) -> None:
    times_s = np.linspace(0.0, until_s, TIMES)
    shares = np.array([len(fleet.candidates(float(time_s))) for time_s in times_s]) / num_clients
    axes.fill_between(times_s / unit_s, shares, color=NOTHING, step="post")
    axes.step(times_s / unit_s, shares, color=PALETTE[0], linewidth=1.4, where="post")
    axes.axhline(float(shares.mean()), color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.annotate(f"mean {percent(float(shares.mean()))}", (1.0, 1.0), xycoords="axes fraction", ha="right", fontsize=8)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("share up")


def _responsiveness(axes: Axes, fleet: Fleet, num_clients: int, until_s: float, unit_s: float, work: Work) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    times_s = np.linspace(0.0, until_s, TIMES)
    one = Work(1e9, 0, 0)
    for place, client in enumerate(_some(num_clients, 5)):
        seconds = [fleet.expected_timing(client, one, float(time_s)).compute_s for time_s in times_s]
        label = f"client {client} ({fleet.device(client)})"
        axes.step(times_s / unit_s, 1.0 / np.array(seconds), color=PALETTE[place], where="post", label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("speed, GMAC/s")
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _connectivity(axes: Axes, fleet: Fleet, num_clients: int, until_s: float, unit_s: float, work: Work) -> None:
    departures = _departures(fleet, until_s)
    fates = [fleet.fate(departure, work) for departure in departures]
    lost: Mapping[str, list[tuple[Departure, float]]] = {"dropped": [], "left": []}
    for departure, fate in zip(departures, fates, strict=True):
        if fate.lost_s is not None and fate.timing.total_s > 0 and fate.cause in lost:
            lost[fate.cause].append((departure, (fate.lost_s - departure.now_s) / fate.timing.total_s))
    axes.axhspan(0, 1, color=NOTHING, alpha=0.4)
    for place, (cause, jobs) in enumerate(lost.items()):
        if jobs:
            x = [departure.now_s / unit_s for departure, _ in jobs]
            label = f"{cause} ({percent(len(jobs) / len(departures))})"
            axes.scatter(x, [part for _, part in jobs], s=10, color=PALETTE[place + 2], label=label)
    axes.set_ylim(0, 1)
    axes.set_ylabel("lost after part\nof the job's time")
    if any(lost.values()):
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _completeness(axes: Axes, fleet: Fleet, num_clients: int, until_s: float, unit_s: float, work: Work) -> None:
    departures = _departures(fleet, until_s)
    shares = [fleet.share(departure) for departure in departures]
    axes.scatter([departure.now_s / unit_s for departure in departures], shares, s=8, color=PALETTE[4], alpha=0.7)
    axes.axhline(float(np.mean(shares)), color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.annotate(
        f"mean {percent(float(np.mean(shares)))}", (1.0, 1.0), xycoords="axes fraction", ha="right", fontsize=8
    )
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("share of the work\nthat jobs do")


def _departures(fleet: Fleet, until_s: float) -> list[Departure]:
    """Return jobs from evenly spaced moments by some of those who are up then."""
    moments, clients = DEPARTURES
    departures = []
    for round_idx, time_s in enumerate(np.linspace(0.0, until_s, moments)):
        up = fleet.candidates(float(time_s))
        departures += [Departure(int(up[k]), round_idx, float(time_s)) for k in _some(len(up), clients)]
    return departures or [Departure(0, 0, 0.0)]


def _some(count: int, most: int) -> list[int]:
    """Return up to ``most`` of the numbers below ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist() if count else []


_Panel = Callable[[Any, Fleet, int, float, float, Work], None]
_PANELS: Final[Mapping[str, _Panel]] = {
    "availability": _availability,
    "responsiveness": _responsiveness,
    "connectivity": _connectivity,
    "completeness": _completeness,
}
