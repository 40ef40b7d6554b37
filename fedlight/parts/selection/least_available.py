"""Clients that are rarely there go first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch

from fedlight.core.slots import Selection
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.selection.draws import Draws, as_array


@final
class LeastAvailable(Selection):
    """Take the clients that are least likely to be there next time, so that the model hears of those who rarely come.

    A. M. Abdelmoniem, A. N. Sahu, M. Canini, S. A. Fahmy: REFL: Resource-Efficient Federated Learning. EuroSys 2023.
    Intelligent participant selection: candidates in ascending order of their probability to be available in the next
    time slot, ties shuffled, and who has taken part holds off for some rounds.

    Differs from the paper: there a client forecasts its own availability and tells the server; here the server reckons
    with what it has seen, p_n = (times there + 1) / (times looked for + 2), looking once a round. A client at work is
    not looked for. While held-off clients are all that is left, they are taken, in the same order.

    Costs O(clients) once a round, O(candidates log candidates) per call; keeps 25 bytes per client.

    Args:
        hold_off: rounds for which a client that was selected isn't while there are others, >= 0 (paper: 5).
    """

    def __init__(self, hold_off: int = 5) -> None:
        if hold_off < 0:
            raise ConfigError(f"hold_off={hold_off} is no number of rounds: use 0 or more")
        self.hold_off = hold_off
        self._draws = Draws()
        self._there = self._asked = np.zeros(0, dtype=np.int64)
        self._free_from = np.zeros(0, dtype=np.int64)  # the first round in which the client doesn't hold off
        self._at_work = np.zeros(0, dtype=np.bool_)

    def select(self, state: RoundState, candidates: Sequence[int], count: int) -> list[int]:
        """Return ``count`` different clients out of ``candidates``, the least available first."""
        generator = self._draws.next(state)
        clients = as_array(candidates)
        self._remember(len(state.num_examples))
        self._at_work[clients] = False
        if self._draws.is_first:
            self._asked += ~self._at_work
            self._there[clients] += 1
        expected = (self._there[clients] + 1) / (self._asked[clients] + 2)
        holds_off = self._free_from[clients] > state.round_idx
        order = np.lexsort((generator.random(len(clients)), expected, holds_off))
        cohort = clients[order[:count]]
        self._free_from[cohort] = state.round_idx + 1 + self.hold_off
        self._at_work[cohort] = True
        return [int(client) for client in cohort]

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn who is back."""
        self._remember(len(state.num_examples))
        self._at_work[[report.client for report in reports]] = False

    def forget(self, clients: Sequence[int]) -> None:
        """Count these clients anew."""
        if len(self._there):
            for counts in (self._there, self._asked, self._free_from):
                counts[list(clients)] = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen of every client."""
        return {
            "there": torch.from_numpy(self._there.copy()),
            "asked": torch.from_numpy(self._asked.copy()),
            "free_from": torch.from_numpy(self._free_from.copy()),
            "at_work": torch.from_numpy(self._at_work.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._there, self._asked, self._free_from, self._at_work = (
            state[name].numpy().copy() for name in ("there", "asked", "free_from", "at_work")
        )

    def _remember(self, num_clients: int) -> None:
        if len(self._there) != num_clients:
            self._there, self._asked, self._free_from = np.zeros((3, num_clients), dtype=np.int64)
            self._at_work = np.zeros(num_clients, dtype=np.bool_)
