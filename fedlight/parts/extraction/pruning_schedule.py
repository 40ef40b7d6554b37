"""When maps are revised, and how much of them may change: the same for channels and weights."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor

from fedlight.errors import ConfigError

Exchange = Literal["all", "cosine"]


@final
class PruningSchedule:
    """Rounds t ≡ 0 mod ``every`` up to ``until`` prune; each may exchange a share p_t of a map.

    ``all``: p_t = 1, the map is drawn anew. ``cosine``: p_t = initial · ½ (1 + cos(π t / until)), so maps settle; with
    ``initial`` = α this is RigL's f (Evci et al. 2020). In other rounds p_t = 0.

    Args:
        every: rounds between two prunings (ΔT).
        until: last round that prunes (T_end), counted from 0; None: never stop.
        exchange: ``all`` or ``cosine``; the latter needs ``until``.
        initial: share that round 0 may exchange, in (0, 1].

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(self, every: int, until: int | None, exchange: Exchange, initial: float = 1.0) -> None:
        if every < 1:
            raise ConfigError(f"every={every} is no number of rounds between prunings: use 1 or more")
        if until is not None and until < 0:
            raise ConfigError(f"until={until} ends pruning before the first round that prunes: use 0 or more")
        if exchange not in ("all", "cosine"):
            raise ConfigError(f"exchange={exchange!r} is not one of 'all', 'cosine'")
        if exchange == "cosine" and (until is None or until < 1):
            raise ConfigError(
                f"until={until} is no last round for exchange='cosine', by which maps settle: use 1 or more"
            )
        if not 0.0 < initial <= 1.0:
            raise ConfigError(f"exchange_share={initial} is outside (0, 1]: 1 may exchange a whole map in round 0")
        self.every = every
        self.until = until
        self.exchange = exchange
        self.initial = initial

    def share(self, round_idx: int) -> float:
        """Return the share of what is kept that this round may exchange."""
        if round_idx % self.every or (self.until is not None and round_idx > self.until):
            return 0.0
        if self.exchange == "all" or self.until is None:
            return 1.0
        return self.initial * 0.5 * (1 + math.cos(math.pi * round_idx / self.until))


def shielded(scores: Tensor, kept: Tensor, share: float, growth: Tensor | None = None) -> Tensor:
    """Lift the best ``1 - share`` of what is kept above everything else, and let the rest compete by ``growth``.

    RigL's rule: of n kept entries n - ⌊n · share⌋ are safe, by their scores; all others, those just dropped among them,
    rank below by their growth. The best k of the result are the new map.

    Args:
        scores: float[n], decides what is safe, and the order of the safe ones.
        kept: bool[n], the old map.
        share: share of the old map that may go, in [0, 1].
        growth: float[n]; None: ``scores``.
    """
    fill = scores if growth is None else growth
    ranks = torch.empty(len(fill), dtype=torch.float64, device=fill.device)
    # Ranks, since a lift added to the scores themselves could swallow what tells them apart.
    ranks[torch.argsort(fill, descending=True, stable=True)] = _down_from(len(fill), fill.device)
    old = torch.nonzero(kept).flatten()
    num_safe = math.ceil(round((1 - share) * len(old), 6))
    safe = old[torch.argsort(scores[old], descending=True, stable=True)[:num_safe]]
    ranks[safe] = len(fill) + _down_from(len(safe), fill.device)
    return ranks


def _down_from(count: int, device: torch.device) -> Tensor:
    """count, count - 1, ..., 1."""
    return torch.arange(count, 0, -1, dtype=torch.float64, device=device)
