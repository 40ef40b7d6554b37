"""What clients do at every moment, as shares of time: the numbers behind a timeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fedlight.tracking.jobs import Jobs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PHASES: Final = ("download", "compute", "upload")
NUM_SAMPLES: Final = 240
"""Moments of a timeline at which the fleet is asked who is up."""


@dataclass(frozen=True)
class Activity:
    """What clients do over a stretch of simulated time.

    Attributes:
        edges: float64[bins + 1], simulated seconds.
        clients: int64[rows], the clients that are shown one by one.
        phases: float64[3, rows, bins], share of each bin that a client downloads, computes, uploads.
        offline: float64[rows, bins], share of each bin that a client is neither up nor at work.
        totals: float64[3, bins], how many of all clients download, compute, upload, mean over each bin.
        num_offline: float64[bins], how many of all clients are offline.
        num_clients: number of all clients.
    """

    edges: Floats
    clients: Ints
    phases: Floats
    offline: Floats
    totals: Floats
    num_offline: Floats
    num_clients: int


def measure(
    jobs: Jobs,
    clients: Ints,
    span: tuple[float, float],
    num_clients: int,
    candidates: Callable[[float], Sequence[int]],
    num_bins: int,
) -> Activity:
    """Return what clients do between two moments.

    Args:
        jobs: all jobs that touch the stretch.
        clients: those to show one by one, ascending.
        span: where it begins and ends, simulated seconds.
        num_clients: number of all clients.
        candidates: who is up at a moment, ascending.
        num_bins: bins of equal length.
    """
    edges = np.linspace(*span, num_bins + 1)
    width = edges[1] - edges[0]
    phases = np.zeros((len(PHASES), len(clients), num_bins))
    totals = np.zeros((len(PHASES), num_bins))
    order = np.argsort(jobs["client"], kind="stable")
    begins = np.searchsorted(jobs["client"][order], clients, side="left")
    ends = np.searchsorted(jobs["client"][order], clients, side="right")
    for index, (begin_s, end_s) in enumerate(phase_spans(jobs)):
        totals[index] = np.diff(_time_within(begin_s, end_s, edges)) / width
        for row, (first, last) in enumerate(zip(begins, ends, strict=True)):
            mine = order[first:last]
            phases[index, row] = np.diff(_time_within(begin_s[mine], end_s[mine], edges)) / width
    down, num_down = _down(clients, span, num_clients, candidates, num_bins)
    offline = np.clip(down - phases.sum(0), 0.0, 1.0)
    num_offline = np.clip(num_down, 0.0, num_clients - totals.sum(0))
    return Activity(edges, clients, phases, offline, totals, num_offline, num_clients)


def phase_spans(jobs: Jobs) -> list[tuple[Floats, Floats]]:
    """Return begin and end of every job's download, computation and upload; a loss ends them early."""
    spans, begin_s = [], jobs["dispatched_s"].astype(np.float64)
    for phase in PHASES:
        end_s = begin_s + jobs[f"{phase}_s"]
        spans.append((np.minimum(begin_s, jobs["event_s"]), np.minimum(end_s, jobs["event_s"])))
        begin_s = end_s
    return spans


def _time_within(begin_s: Floats, end_s: Floats, moments: Floats) -> Floats:
    """Return Σ over intervals of the time within them until each moment: the integral of how many are open."""
    if not len(begin_s):
        return np.zeros(len(moments))
    times = np.concatenate([begin_s, end_s])
    order = np.argsort(times, kind="stable")
    times = times[order]
    num_open = np.cumsum(np.repeat([1.0, -1.0], len(begin_s))[order])
    area = np.concatenate([[0.0], np.cumsum(num_open[:-1] * np.diff(times))])
    within: Floats = np.interp(moments, times, area)
    return within


def _down(
    clients: Ints,
    span: tuple[float, float],
    num_clients: int,
    candidates: Callable[[float], Sequence[int]],
    num_bins: int,
) -> tuple[Floats, Floats]:
    """Return who of some clients is down, float64[rows, bins] of 0 and 1, and how many of all, float64[bins]."""
    samples = min(NUM_SAMPLES, num_bins)
    step = (span[1] - span[0]) / samples
    down, num_down = np.zeros((len(clients), samples)), np.zeros(samples)
    for index in range(samples):
        up = candidates(span[0] + (index + 0.5) * step)
        num_down[index] = num_clients - len(up)
        if num_down[index] > 0:
            down[:, index] = ~np.isin(clients, np.asarray(up), assume_unique=True)
    sample = np.minimum((np.arange(num_bins) * samples) // num_bins, samples - 1)
    return down[:, sample], num_down[sample]
