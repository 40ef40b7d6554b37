"""Who does what when: one row per client over simulated time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from fedlight.tracking.activity import PHASES, Activity, Ints, measure
from fedlight.tracking.drawing import DPI, INK, new_figure, pixels_of, time_unit
from fedlight.tracking.jobs import AT_WORK, Jobs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS: Final = {
    "download": "#7CC4EE", "compute": "#0B5C99", "upload": "#E69F00", "waiting": "#EDEFF2", "offline": "#A3A8B2",
}  # fmt: skip
LOST_COLOR: Final = "#C4261D"
MARKERS: Final = {"left": "v", "dropped": "x", "late": "o", "rejected": "D"}
"""How the end of a job that was lost is marked, by cause; any other cause is a star."""

MAX_LABELS: Final = 40
MAX_LINES: Final = 60
"""Aggregations that get a line through all rows; of more only the upper ends are drawn."""

_WIDTH, _NUM_BINS = 11.0, int(11.0 * DPI * 0.85)


def draw_timeline(
    jobs: Jobs,
    span: tuple[float, float],
    title: str,
    num_clients: int,
    candidates: Callable[[float], Sequence[int]],
    device: Callable[[int], str],
    max_clients: int,
) -> np.ndarray | None:
    """Return a picture of what clients do between two moments: uint8[height, width, 3]; None if no time passes.

    One row per client: download, computation, upload, waiting (up, without a job), offline; colours mix where more
    than one falls into a pixel. Lost jobs are marked at the moment of their loss, aggregations are vertical lines.
    Of more than ``max_clients`` clients a sample, over all speeds, of those that have jobs is shown; below the rows,
    what all clients do.

    Args:
        jobs: jobs of the run, those that are still at work included.
        span: simulated seconds.
        title: what is shown.
        num_clients: number of all clients.
        candidates: who is up at a moment.
        device: name of a client's device class.
        max_clients: most rows.
    """
    if not span[1] > span[0]:
        return None
    shown = jobs[(jobs["event_s"] > span[0]) & (jobs["dispatched_s"] <= span[1])]
    clients = np.arange(num_clients) if num_clients <= max_clients else np.unique(shown["client"])
    rows = choose_rows(clients, jobs, device, max_clients)
    jobs = shown
    ascending = np.sort(rows)
    activity = measure(jobs, ascending, span, num_clients, candidates, _NUM_BINS)
    place = np.searchsorted(ascending, rows)
    height = min(13.0, 2.9 + 0.2 * max(4, len(rows)))
    figure = new_figure(_WIDTH, height)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[max(1.0, height - 2.4), 1.0])
    unit_s, unit = time_unit(span[1])
    many = num_clients > len(rows)
    upper.set_title(
        title + (f" ({len(rows)} of {num_clients:,} clients)" if many else ""),
        loc="left", fontsize=11, fontweight="bold", pad=30,
    )  # fmt: skip
    _draw_rows(upper, activity, place, unit_s, [f"{client}  {device(int(client))}" for client in rows])
    causes = _mark_lost(upper, jobs, rows, unit_s)
    _mark_aggregations((upper, lower), jobs, span, unit_s)
    _draw_totals(lower, activity, unit_s)
    lower.set_xlabel(f"simulated time, {unit}")
    _legend(upper, causes, bool(activity.num_offline.any()))
    for axes in (upper, lower):
        axes.set_xlim(span[0] / unit_s, span[1] / unit_s)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return pixels_of(figure)


def choose_rows(clients: Ints, jobs: Jobs, device: Callable[[int], str], max_clients: int) -> Ints:
    """Return clients in the order of rows: those of one device class together, fast classes and clients first.

    How fast they are is the mean time of their jobs over the run. Of too many clients every n-th in that order.
    """
    present, index = np.unique(jobs["client"], return_inverse=True)
    total_s = sum(jobs[f"{phase}_s"] for phase in PHASES)
    own_s = np.bincount(index, weights=total_s) / np.bincount(index) if len(jobs) else np.zeros(0)
    seconds = dict(zip(present.tolist(), own_s.tolist(), strict=True))
    of_class: dict[str, list[float]] = {}
    for client in clients.tolist():
        of_class.setdefault(device(client), []).append(seconds.get(client, np.inf))
    pace = {name: float(np.median(values)) for name, values in of_class.items()}
    ordered = sorted(clients.tolist(), key=lambda n: (pace[device(n)], device(n), seconds.get(n, np.inf), n))
    chosen = np.array(ordered, dtype=np.int64)
    if len(chosen) > max_clients:
        chosen = chosen[np.linspace(0, len(chosen) - 1, max_clients).round().astype(np.int64)]
    return chosen


def _draw_rows(axes: Axes, activity: Activity, place: Ints, unit_s: float, labels: list[str]) -> None:
    from matplotlib.colors import to_rgb

    waiting = np.clip(1.0 - activity.phases.sum(0) - activity.offline, 0.0, 1.0)
    shares = np.concatenate([activity.phases, waiting[None], activity.offline[None]])[:, place]
    picture = np.einsum("sct,sk->ctk", shares, np.array([to_rgb(color) for color in COLORS.values()]))
    extent = (activity.edges[0] / unit_s, activity.edges[-1] / unit_s, len(place) - 0.5, -0.5)
    axes.imshow(np.clip(picture, 0.0, 1.0), aspect="auto", interpolation="nearest", extent=extent)
    axes.hlines(
        np.arange(0.5, len(place) - 0.5), *extent[:2], color="white", linewidth=1.5 if len(place) <= 40 else 0.7
    )
    step = max(1, -(-len(labels) // MAX_LABELS))
    axes.set_yticks(range(0, len(labels), step), labels=labels[::step], fontsize=8)
    axes.set_ylabel("client")


def _mark_lost(axes: Axes, jobs: Jobs, rows: Ints, unit_s: float) -> list[str]:
    """Mark lost jobs, and return their causes."""
    place = {int(client): row for row, client in enumerate(rows)}
    causes = [cause for cause in dict.fromkeys(jobs["cause"].tolist()) if cause not in ("", AT_WORK)]
    for cause in causes:
        lost = jobs[jobs["cause"] == cause]
        shown = [(job["event_s"] / unit_s, place[int(job["client"])]) for job in lost if int(job["client"]) in place]
        if shown:
            x, y = zip(*shown, strict=True)
            size = 26.0 if len(shown) <= 200 else 9.0
            axes.scatter(x, y, marker=MARKERS.get(cause, "*"), s=size, color=LOST_COLOR, linewidths=1.3, zorder=4)
    return causes


def _mark_aggregations(panels: tuple[Axes, Axes], jobs: Jobs, span: tuple[float, float], unit_s: float) -> None:
    done = jobs[jobs["cause"] != AT_WORK]
    moments = np.unique(done["aggregated_s"])
    moments = moments[(moments >= span[0]) & (moments <= span[1])] / unit_s
    if len(moments) <= MAX_LINES:
        for axes in panels:
            axes.vlines(
                moments, 0, 1, transform=axes.get_xaxis_transform(), color=INK, linewidth=0.8, alpha=0.75, clip_on=False
            )
    else:
        upper = panels[0]
        upper.plot(
            moments, np.ones(len(moments)), transform=upper.get_xaxis_transform(), linestyle="", marker="|",
            markersize=5, color=INK, alpha=max(0.15, MAX_LINES / len(moments)), clip_on=False,
        )  # fmt: skip


def _draw_totals(axes: Axes, activity: Activity, unit_s: float) -> None:
    from matplotlib.ticker import MaxNLocator

    centres = (activity.edges[:-1] + activity.edges[1:]) / 2 / unit_s
    waiting = np.clip(activity.num_clients - activity.totals.sum(0) - activity.num_offline, 0.0, None)
    layers = np.concatenate([activity.totals, waiting[None], activity.num_offline[None]])
    axes.stackplot(centres, layers, colors=list(COLORS.values()), linewidth=0)
    axes.set_ylim(0, activity.num_clients)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True, prune="lower"))
    axes.set_ylabel("all clients")
    axes.tick_params(axis="y", labelsize=8)


def _legend(axes: Axes, causes: list[str], with_offline: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [
        Patch(color=color, label=name) for name, color in COLORS.items() if name != "offline" or with_offline
    ]
    for cause in causes:
        marker = MARKERS.get(cause, "*")
        handles.append(Line2D([], [], linestyle="", marker=marker, color=LOST_COLOR, label=f"lost: {cause}"))
    handles.append(Line2D([], [], color=INK, linewidth=0.8, label="the server moves"))
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(handles), frameon=False, fontsize=8,
        handlelength=1.2, columnspacing=1.2, borderaxespad=0.9,
    )  # fmt: skip
