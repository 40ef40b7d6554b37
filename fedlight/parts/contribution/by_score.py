"""Weighing by scores that another contribution gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

from fedlight.core.slots import Contribution, Part
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.contribution.shares import Shares, positive_shares


@final
class ByScore(Contribution):
    """Weigh by the scores of another: r_n ← γ r_n + (1 - γ) scale(s_n), floored and normalised over the round.

    Scores nobody itself: use it as the ``weighing`` of :class:`~fedlight.parts.Scored`. What happens in a round of
    some clients only, and where r starts: :class:`~fedlight.parts.contribution.shares.Shares`. Free; needs no server
    data.

    Args:
        scale: ``share``: s⁺ / Σ s⁺; ``minmax``: scores mapped to [0, 1] over the round, then their share (as ShapleyFL,
            Sun et al., KDD 2023, does with Shapley values); ``none``: as they are, for scores in [-1, 1].
        moving_average: γ in [0, 1); ShapleyFL's weight of what is new, .3, is 0.7 here.
        floor: smallest r before it is normalised, > 0.
    """

    def __init__(
        self, scale: Literal["share", "minmax", "none"] = "share", moving_average: float = 0.95, floor: float = 1e-3
    ) -> None:
        if scale not in ("share", "minmax", "none"):
            raise ConfigError(f"scale={scale!r} is unknown to ByScore: use 'share', 'minmax' or 'none'")
        self.scale = scale
        self._shares = Shares(moving_average, floor)

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Raise ConfigError if nobody gives it scores."""
        if parts["contribution"] is self:
            raise ConfigError(
                "contribution: ByScore weighs by the scores of another and gives none itself: use it as the weighing "
                "of Scored, whose measure gives them"
            )

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return r_n: learnt for clients seen, |D_n| / Σ |D| for the others."""
        return self._shares.weights(state, clients)

    def observe(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Move the r of the round's clients towards their scaled scores."""
        if self.scale == "none":
            self._shares.move(state, scores)
        else:
            self._shares.move(state, positive_shares(scores if self.scale == "share" else _spanned(scores)))

    def forget(self, clients: Sequence[int]) -> None:
        """Let these clients have their share of examples again."""
        self._shares.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return r of the clients seen."""
        return self._shares.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._shares.load_state_dict(state)


def _spanned(scores: Mapping[int, float]) -> dict[int, float]:
    """Return scores mapped to [0, 1]; all 1 where they are equal."""
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    return {client: (score - low) / (high - low) if high > low else 1.0 for client, score in scores.items()}
