"""Clients that leave the fleet and others that join it."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.fleet.availability import Availability
from fedlight.fleet.draws import Bools, Draws, Floats, Ints, cells

_AHEAD = 32
"""Intervals that are looked ahead for a change before the answer is 'sure up to here'."""


@final
class JoinLeave(Availability):
    """In every interval a share of the members leaves and as many of the others join.

    Every registered client is a member or not: a Markov chain in steps of ``interval_s`` with P(leave) = ``leave`` and
    P(join) = leave · present / (1 - present), so that on average the fraction ``present`` are members from the start
    on. A member stays for a geometric time, 1 / leave intervals on average. Each client's intervals begin at a moment
    of their own, so that the fleet changes little by little. Who comes back has its data still; what the server keeps
    of it may have expired (``model.state_ttl_s``).

    Args:
        interval_s: simulated seconds, > 0.
        leave: probability that a member leaves within an interval, in (0, 1 - present].
        present: fraction of the registered clients that are members on average, in (0, 1).
    """

    def __init__(self, interval_s: float, leave: float = 0.1, present: float = 0.8) -> None:
        if not 0.0 < interval_s < np.inf:
            raise ConfigError(f"interval_s={interval_s} is no interval: give simulated seconds above 0")
        if not 0.0 < present < 1.0:
            raise ConfigError(f"present={present} is outside (0, 1): 0.8 means that a fifth of the clients are away")
        if not 0.0 < leave <= 1.0 - present + 1e-12:
            raise ConfigError(
                f"leave={leave} is outside (0, {1 - present:g}]: no more can leave than there are others to join; "
                "lower present"
            )
        self.interval_s = interval_s
        self.leave = leave
        self.present = present
        # The chain is one that forgets: with this probability a step draws membership anew, by the share present.
        self._renewal = min(1.0, leave / (1.0 - present))

    def setup(self, num_clients: int, seed: int) -> None:
        """Draw where everybody's intervals begin."""
        everybody = np.arange(num_clients, dtype=np.int64)
        self._offset_s = -self.interval_s * Draws(seed, "join/offset").uniform(everybody, np.zeros(1, np.int64))
        self._renewals = Draws(seed, "join/renewal")
        self._members = Draws(seed, "join/member")

    def status(self, clients: Ints, times_s: Floats) -> tuple[Bools, Floats]:
        """Return who is a member, and the client's next interval in which that is drawn anew."""
        offset_s = self._offset_s[clients]
        now = cells(times_s, self.interval_s, offset_s)
        drawn_at = now.copy()
        open_ = self._open(clients, drawn_at)
        while len(open_):
            drawn_at[open_] -= 1
            open_ = open_[self._open(clients[open_], drawn_at[open_])]
        up = self._members.uniform(clients, drawn_at) < self.present
        following = now + 1
        open_ = self._open(clients, following)
        for _ in range(_AHEAD):
            if not len(open_):
                break
            following[open_] += 1
            open_ = open_[self._open(clients[open_], following[open_])]
        return up, offset_s + following * self.interval_s

    def _open(self, clients: Ints, intervals: Ints) -> Ints:
        """Return the places of those whose membership is not drawn anew in this interval (the first always is)."""
        return np.flatnonzero((intervals > 0) & (self._renewals.uniform(clients, intervals) >= self._renewal))
