"""Availability as it was measured: intervals from a file, over and over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np

from fedlight.errors import ConfigError, DataError
from fedlight.fleet.assignment import assigned
from fedlight.fleet.availability import Availability
from fedlight.fleet.draws import Bools, Floats, Ints, cells
from fedlight.fleet.trace_file import number, read_entries, read_table

_Intervals = list[tuple[float, float]]


@final
class TraceAvailability(Availability):
    """Every client follows one of the traces in a file, which begins again when it ends.

    A CSV file has the columns ``trace`` (a name), ``up_s`` and ``down_s``, one interval a row, in any order. A file
    that ends in .json or .pkl is read as FedScale's, {client: {active: [...], inactive: [...], finish_time, duration,
    model}}: up in [active_k, inactive_k) of t mod finish_time; who is inactive first was up from 0 on, and who is
    active last stays up to finish_time (Lai et al. 2022; the times are Yang et al.'s, 2021, FLASH). Clients draw their
    trace from the run's seed, none twice while there are more.

    Only the traces in use are kept, as one array: 16 bytes per interval.

    Args:
        path: the file.
        period_s: when a CSV file's traces begin again; None: at its last ``down_s``. Not for FedScale's, which say.
        start_s: where in the traces the run begins, >= 0, in seconds of the file.
        scale: simulated seconds per second of the file, > 0: 0.001 plays a day in 86 s.
        shuffle: draw who follows which trace; else client k follows trace k.
    """

    def __init__(
        self,
        path: str,
        period_s: float | None = None,
        start_s: float = 0.0,
        scale: float = 1.0,
        shuffle: bool = True,
    ) -> None:
        if period_s is not None and not 0 < period_s < np.inf:
            raise ConfigError(f"period_s={period_s} is no period: give seconds above 0, or null")
        if not 0 <= start_s < np.inf:
            raise ConfigError(f"start_s={start_s} is no place in a trace: give seconds, at least 0")
        if not 0 < scale < np.inf:
            raise ConfigError(f"scale={scale} is no scale: give simulated seconds per second of the file, above 0")
        self.path = path
        self.period_s = period_s
        self.start_s = start_s
        self.scale = scale
        self.shuffle = shuffle

    def setup(self, num_clients: int, seed: int) -> None:
        """Read the file and draw every client's trace.

        Raises:
            DataError: the file is missing or holds what can't be; names the row or entry and the column.
        """
        traces = self._table() if Path(self.path).suffix == ".csv" else self._entries()
        mine = assigned(len(traces), num_clients, seed, "availability", self.shuffle)
        used, self._trace_of = np.unique(mine, return_inverse=True)
        edges = [_edges(traces[index][0], traces[index][1], self.start_s) for index in used]
        self._period_s = self.scale * np.array([traces[index][1] for index in used])
        self._edges_s: Floats = self.scale * np.concatenate([np.zeros(0), *edges])
        self._first = np.concatenate([[0], np.cumsum([len(one) for one in edges])]).astype(np.int64)

    def status(self, clients: Ints, times_s: Floats) -> tuple[Bools, Floats]:
        """Return who is within an interval, and the trace's next edge or its end."""
        trace = self._trace_of[clients]
        period_s = self._period_s[trace]
        cycle = cells(times_s, period_s)
        begin_s = cycle * period_s
        first, end = self._first[trace], self._first[trace + 1]
        passed = self._search(first, end, times_s, begin_s)
        until_s = (cycle + 1) * period_s
        more = np.flatnonzero(passed < end)
        # No edge is later than the next cycle's begin, except by rounding.
        until_s[more] = np.minimum(begin_s[more] + self._edges_s[passed[more]], until_s[more])
        until_s[first == end] = np.inf
        up: Bools = (passed - first) % 2 == 1
        return up, until_s

    def _search(self, first: Ints, end: Ints, times_s: Floats, begin_s: Floats) -> Ints:
        """Return where in [first, end] each client's first edge after its time is: bisection, all clients at once."""
        low, high = first.copy(), end.copy()
        open_ = np.flatnonzero(low < high)
        while len(open_):
            middle = (low[open_] + high[open_]) // 2
            passed = begin_s[open_] + self._edges_s[middle] <= times_s[open_]
            low[open_[passed]] = middle[passed] + 1
            high[open_[~passed]] = middle[~passed]
            open_ = open_[low[open_] < high[open_]]
        return low

    def _table(self) -> list[tuple[_Intervals, float]]:
        columns = ("trace", "up_s", "down_s")
        table = read_table(self.path, columns, texts=("trace",))
        missing = [name for name in columns if name not in table]
        if missing:
            raise DataError(f"{self.path}: there is no column {missing[0]}; columns are {', '.join(columns)}")
        period_s = self.period_s or max(table["down_s"])
        intervals: dict[str, _Intervals] = {}
        for index, (name, up_s, down_s) in enumerate(zip(*(table[name] for name in columns), strict=True)):
            fault = _fault(up_s, down_s, period_s)
            if fault:
                raise DataError(f"{self.path}, row {index + 1} of its data: {fault}")
            intervals.setdefault(name, []).append((up_s, down_s))
        return [(_merged(one), period_s) for one in intervals.values()]

    def _entries(self) -> list[tuple[_Intervals, float]]:
        if self.period_s is not None:
            raise ConfigError(f"period_s={self.period_s}: FedScale's traces say their finish_time; leave it out")
        entries = read_entries(self.path, ("active", "inactive", "finish_time"), ("duration", "model"))
        return [self._entry(entry, f"{self.path}, entry {name}") for name, entry in entries.items()]

    def _entry(self, entry: Any, where: str) -> tuple[_Intervals, float]:
        period_s = number(entry["finish_time"], f"{where}, key finish_time")
        if period_s <= 0:
            raise DataError(f"{where}, key finish_time: {period_s:g} is not above 0")
        times: dict[str, list[float]] = {}
        for key in ("active", "inactive"):
            values = entry[key]
            if not isinstance(values, Sequence) or isinstance(values, str):
                raise DataError(f"{where}, key {key}: is {type(values).__name__}, not a list of seconds")
            times[key] = [number(value, f"{where}, key {key}, place {k}") for k, value in enumerate(values)]
        ups, downs = times["active"], times["inactive"]
        if downs and (not ups or downs[0] < ups[0]):
            ups = [0.0, *ups]
        if len(ups) == len(downs) + 1:
            downs = [*downs, period_s]
        if len(ups) != len(downs):
            raise DataError(f"{where}: {len(ups)} times active and {len(downs)} inactive don't alternate")
        turns = [turn for pair in zip(ups, downs, strict=True) for turn in pair]
        if any(before > after for before, after in pairwise(turns)) or (turns and turns[0] < 0):
            raise DataError(f"{where}: active and inactive don't alternate in time")
        inside = [(min(up_s, period_s), min(down_s, period_s)) for up_s, down_s in zip(ups, downs, strict=True)]
        return _merged([(up_s, down_s) for up_s, down_s in inside if up_s < down_s]), period_s


def _fault(up_s: float, down_s: float, period_s: float) -> str:
    """Return what keeps two times from being an interval of a trace, and the way out; empty if nothing does."""
    if up_s < 0:
        return f"up_s {up_s:g} is before the start of the trace: give seconds from its start, 0 or more"
    if not up_s < down_s:
        return f"up_s {up_s:g} is not below down_s {down_s:g}: a client must be up before it goes down"
    if not down_s <= period_s:
        return f"down_s {down_s:g} is beyond period_s {period_s:g}: raise period_s, or end the interval within it"
    return ""


def _merged(intervals: _Intervals) -> _Intervals:
    """Return the intervals in order, those that touch or overlap as one."""
    merged: _Intervals = []
    for up_s, down_s in sorted(intervals):
        if merged and up_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], down_s))
        else:
            merged.append((up_s, down_s))
    return merged


def _edges(intervals: _Intervals, period_s: float, start_s: float) -> Floats:
    """Return the times at which a trace that begins at ``start_s`` turns up, down, up, ... within its period.

    A last one at the period's end is left out: whether the client is up then, the next period says.
    """
    shift_s = start_s % period_s
    turned: _Intervals = []
    for up_s, down_s in intervals:
        if down_s > shift_s:
            turned.append((max(up_s, shift_s) - shift_s, down_s - shift_s))
        if up_s < shift_s:
            turned.append((up_s - shift_s + period_s, min(down_s, shift_s) - shift_s + period_s))
    edges = [edge for pair in _merged(turned) for edge in pair]
    if edges and edges[-1] >= period_s:
        edges.pop()
    return np.array(edges, dtype=np.float64)
