"""When what is kept of a client is dropped: nothing has gone to it or come from it for too long."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fedlight.core.types import Job, Report
from fedlight.errors import ConfigError


class Expiry:
    """Remembers when clients were last met, and tells who has been silent for longer than a time to live.

    A result that is back counts from its return, a lost job from its dispatch: a map may have been drawn for it then.

    Args:
        ttl_s: simulated seconds, > 0; None: nothing expires, and nothing is remembered.
    """

    def __init__(self, ttl_s: float | None) -> None:
        if ttl_s is not None and not ttl_s > 0:
            raise ConfigError(f"state_ttl_s={ttl_s} is no time to live: give simulated seconds above 0, or null")
        self._ttl_s = ttl_s
        self._heard_s: dict[int, float] = {}

    def hear(self, reports: Sequence[Report], lost: Sequence[Job] = ()) -> None:
        """Take in who is back, and when, and who was sent off for nothing."""
        if self._ttl_s is None:
            return
        times_s = [(report.client, report.finish_s) for report in reports]
        for client, at_s in times_s + [(job.client, job.dispatched_s) for job in lost]:
            self._heard_s[client] = max(at_s, self._heard_s.get(client, 0.0))

    def expired(self, now_s: float, busy: Collection[int]) -> list[int]:
        """Return the clients whose time is up, ascending, once each; those at work have time."""
        if self._ttl_s is None:
            return []
        silent = sorted(
            client for client, at_s in self._heard_s.items() if at_s + self._ttl_s < now_s and client not in busy
        )
        for client in silent:
            del self._heard_s[client]
        return silent

    def state_dict(self) -> dict[str, Any]:
        """Return when everybody was last met."""
        return {"heard_s": dict(self._heard_s)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._heard_s = dict(state["heard_s"])
