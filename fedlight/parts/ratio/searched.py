"""The ratio that a search for the best size has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from fedlight.core.slots import Importance, Part, Ratio, Scores
from fedlight.core.types import Report, RoundState, Work
from fedlight.errors import ConfigError
from fedlight.parts.extraction.size_search import RoundTime, SizeSearch
from fedlight.parts.importance import Magnitude
from fedlight.parts.time_model import TimeModel


@final
class SearchedRatio(Ratio):
    """Has :class:`SizeSearch` revise the shared map when that is due, and gives every client its ratio.

    The search needs T(M) = c + Σ t_j. Its coefficients are given, or learned: a :class:`TimeModel` is fitted to the
    observed times, and the mean client of the cohort sets them. Until somebody has come back the map stays.

    The search is the algorithm's extraction, and g² its importance.

    Args:
        fixed_s: c, seconds of a round without any weight; None: learned, like the other two.
        s_per_mac: seconds per multiply-accumulate of one example's forward pass, over a whole round.
        s_per_byte: seconds per byte of the submodel, both ways together.
        forgetting: weight of an observed time after one more of the same client, in (0, 1].
    """

    def __init__(
        self,
        fixed_s: float | None = None,
        s_per_mac: float | None = None,
        s_per_byte: float | None = None,
        forgetting: float = 0.9,
    ) -> None:
        given = {"fixed_s": fixed_s, "s_per_mac": s_per_mac, "s_per_byte": s_per_byte}
        missing = [key for key, value in given.items() if value is None]
        if 0 < len(missing) < 3:
            raise ConfigError(f"{missing[0]} is missing: give fixed_s, s_per_mac and s_per_byte, or none to learn them")
        for key, value in given.items():
            if value is not None and not value >= 0:
                raise ConfigError(f"{key}={value} is no time: use 0 or more")
        self._sizes = Magnitude()
        self._given = None if missing else RoundTime(fixed_s or 0.0, s_per_mac or 0.0, s_per_byte or 0.0)
        self._times = TimeModel(forgetting)

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Find the search; raises ConfigError if the extraction is none."""
        self._search = SizeSearch.among(parts, self)
        importance = parts["importance"]
        assert isinstance(importance, Importance)  # noqa: S101 - that slot's kind
        self._importance = importance

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the ratio of the map that all share."""
        if cohort and self._search.is_due(state.round_idx) and (self._given is not None or len(self._times)):
            scores = Scores.of(self._importance, state, cohort[0])
            self._search.revise(state, scores, self._given or self._learned(state, cohort), self._sizes)
        return dict.fromkeys(cohort, self._search.ratio)

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn from how long the clients took."""
        self._times.learn(reports)

    def forget(self, clients: Sequence[int]) -> None:
        """Drop times."""
        self._times.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt of the clients' times."""
        return {"times": self._times.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._times.load_state_dict(state["times"])

    def _learned(self, state: RoundState, cohort: Sequence[int]) -> RoundTime:
        """Return the mean client's coefficients, per MAC and byte of the submodel instead of the round's work."""
        cost = self._search.cost(state.plan, self._search.ratio)
        rows = []
        for client in cohort:
            work, device = state.price(client, self._search.ratio), state.device(client)
            fixed_s = self._times.predict_s(client, Work(0.0, 0, 0), device)
            compute_s = self._times.predict_s(client, Work(work.macs, 0, 0), device) - fixed_s
            links = Work(0.0, work.download_bytes, work.upload_bytes)
            link_s = self._times.predict_s(client, links, device) - fixed_s
            rows.append((fixed_s, compute_s / max(1, cost.macs), link_s / max(1, cost.num_bytes)))
        fixed_s, s_per_mac, s_per_byte = np.mean(rows, axis=0).tolist()
        return RoundTime(fixed_s, s_per_mac, s_per_byte)
