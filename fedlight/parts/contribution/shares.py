"""Who counts how much, learnt from round to round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch

from fedlight.core.types import RoundState
from fedlight.errors import ConfigError


@final
class Shares:
    """Every client's share r_n of the whole, moved by what a round says of it.

    r_n ← γ r_n + (1 - γ) s_n, floored, and normalised over the round's clients. r starts at the share of examples. In a
    round of some clients only, their r are normalised over these clients for the update above and scaled back to what
    they summed to before, so the others' shares stay what they were.

    Args:
        moving_average: γ in [0, 1).
        floor: smallest r before it is normalised, > 0.
        start: what a client's first score is averaged with: ``samples``: its share of examples; ``nothing``: 0.

    Raises:
        ConfigError: an option is outside its range.
    """

    def __init__(self, moving_average: float, floor: float, start: Literal["samples", "nothing"] = "samples") -> None:
        if not 0.0 <= moving_average < 1.0:
            raise ConfigError(
                f"moving_average={moving_average} is outside [0, 1): 0 forgets at once, 0.95 as CGSV publishes"
            )
        if not 0.0 < floor < 1.0:
            raise ConfigError(
                f"floor={floor} is outside (0, 1): use a small number, or a weight could reach 0; 1e-3, say"
            )
        if start not in ("samples", "nothing"):
            raise ConfigError(f"start={start!r} is unknown: use 'samples' or 'nothing'")
        self.moving_average = moving_average
        self.floor = floor
        self.start = start
        self._learnt: dict[int, float] = {}  # they and the others' sample shares sum to 1
        self._samples: dict[int, float] = {}  # |D_n| / Σ |D| of the same clients

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return r_n: learnt for clients seen, |D_n| / Σ |D| for the others."""
        samples = _sample_shares(state, clients)
        return {client: self._learnt.get(client, samples[client]) for client in clients}

    def move(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Move the r of the round's clients towards their scores."""
        if not scores:
            return
        clients = sorted(scores)
        shares = self.weights(state, clients)
        mass = sum(shares.values())
        old = shares if self.start == "samples" else {client: self._learnt.get(client, 0.0) for client in clients}
        gamma = self.moving_average
        moved = {c: max(self.floor, gamma * old[c] / mass + (1 - gamma) * scores[c]) for c in clients}
        scale = mass / sum(moved.values())
        self._learnt.update({client: scale * share for client, share in moved.items()})
        self._samples.update(_sample_shares(state, clients))

    def forget(self, clients: Sequence[int]) -> None:
        """Let these clients have their share of examples again; what the others have learnt keeps its proportions."""
        for client in clients:
            self._learnt.pop(client, None)
            self._samples.pop(client, None)
        if self._learnt:
            scale = sum(self._samples.values()) / sum(self._learnt.values())
            self._learnt = {client: scale * share for client, share in self._learnt.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return r of the clients seen."""
        return {
            "clients": torch.tensor(list(self._learnt), dtype=torch.int64),
            "shares": torch.tensor(list(self._learnt.values()), dtype=torch.float64),
            "samples": torch.tensor([self._samples[client] for client in self._learnt], dtype=torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        clients = state["clients"].tolist()
        self._learnt = dict(zip(clients, state["shares"].tolist(), strict=True))
        self._samples = dict(zip(clients, state["samples"].tolist(), strict=True))


def _sample_shares(state: RoundState, clients: Sequence[int]) -> dict[int, float]:
    total = float(state.num_examples.sum())
    return {client: float(state.num_examples[client]) / total for client in clients}


def positive_shares(scores: Mapping[int, float]) -> dict[int, float]:
    """Return s⁺ / Σ s⁺, with s⁺ = max(s, 0); equal shares where nobody's is above 0."""
    total = sum(max(score, 0.0) for score in scores.values())
    if total <= 0:
        return dict.fromkeys(scores, 1 / len(scores)) if scores else {}
    return {client: max(score, 0.0) / total for client, score in scores.items()}
