"""The list of who is up, kept while simulated time moves on."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from fedlight.fleet.availability import Availability
from fedlight.fleet.draws import Floats, Ints

HORIZON_S = 31 * 86_400.0
"""Simulated seconds without anybody after which nobody is taken to come any more: a month."""

MAX_CHANGES = 2_000
"""Likewise, changes of one client's status without its coming."""

_STEPS = 200
_SOONEST = 256


@final
class Attendance:
    """Who is up at a time, by an availability, for any number of clients.

    Holds a flag and the end of its validity for every client (17 bytes with the list of those up). Moving on costs one
    comparison per client and a question for each whose status may have changed; going back in time asks everybody
    anew. Answers are those of the availability itself, whatever was asked before.

    Args:
        availability: set up for the run.
        num_clients: number of clients.
    """

    def __init__(self, availability: Availability, num_clients: int) -> None:
        self._availability = availability
        self._now_s = -math.inf
        self._up = np.zeros(num_clients, dtype=np.bool_)
        self._until_s = np.full(num_clients, -np.inf)
        self._list: Ints = np.zeros(0, dtype=np.int64)

    def up(self, now_s: float) -> Ints:
        """Return int64[], ascending and read-only: the clients that are up at this time."""
        if now_s < self._now_s:
            self._until_s[:] = -np.inf
        self._now_s = now_s
        changed = np.flatnonzero(self._until_s <= now_s)
        if len(changed):
            up, self._until_s[changed] = self._availability.status(changed, np.full(len(changed), now_s))
            if len(changed) == len(self._up) or (up != self._up[changed]).any():
                self._up[changed] = up
                self._list = np.flatnonzero(self._up)
                self._list.flags.writeable = False
        return self._list

    def next_up_s(self, now_s: float) -> float | None:
        """Return the first time after ``now_s`` at which a client that is down then comes up; None: never.

        Never means not within :data:`HORIZON_S` and :data:`MAX_CHANGES` of each, or that no client ever changes again.
        """
        self.up(now_s)
        down = np.flatnonzero(~self._up)
        if len(down) == len(self._up):
            # The usual question: time runs from change to change, which is where the run goes anyway.
            for _ in range(_STEPS):
                next_s = float(self._until_s.min(initial=math.inf))
                if next_s >= now_s + HORIZON_S:
                    return None
                if len(self.up(next_s)):
                    return next_s
            self.up(now_s)
        return self._search(down, now_s)

    def down_s(self, client: int, now_s: float, until_s: float) -> float | None:
        """Return the first time in [now_s, until_s] at which the client is not up; None if it is up all along."""
        clients, times_s = np.array([client]), np.array([now_s])
        while times_s[0] <= until_s:
            up, times_after_s = self._availability.status(clients, times_s)
            if not up[0]:
                return float(times_s[0])
            times_s = times_after_s
        return None

    def _search(self, clients: Ints, now_s: float) -> float | None:
        """Follow clients that are down to their next time up, those that change soonest first: they bound the rest."""
        times_s: Floats = self._until_s[clients]
        horizon_s = now_s + HORIZON_S
        best_s = horizon_s
        if len(clients) > _SOONEST:
            soonest = np.argpartition(times_s, _SOONEST)[:_SOONEST]
            best_s = self._follow(clients[soonest], times_s[soonest], best_s)
        best_s = self._follow(clients, times_s, best_s)
        return best_s if best_s < horizon_s else None

    def _follow(self, clients: Ints, times_s: Floats, best_s: float) -> float:
        """Return the first time before ``best_s`` at which one of these comes up; ``best_s`` if none does."""
        for _ in range(MAX_CHANGES):
            nearer = times_s < best_s
            clients, times_s = clients[nearer], times_s[nearer]
            if not len(clients):
                break
            up, until_s = self._availability.status(clients, times_s)
            best_s = min(best_s, float(times_s[up].min(initial=best_s)))
            clients, times_s = clients[~up], until_s[~up]
        return best_s
