"""The direction in which a round's updates point together, and how well one of them agrees with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, final

from torch import Tensor

from fedlight.core.types import Reduce, State
from fedlight.errors import ConfigError
from fedlight.parts.sums import TotalSum, norm
from fedlight.submodels.coverage import Coverage

Support = Literal["covered", "full"]
"""Where a cosine is taken: on the client's own entries, or on all of them, its uncovered ones being zero."""


def checked_support(support: Support, part: str) -> Support:
    """Return ``support``, or raise :class:`~fedlight.errors.ConfigError` if it is no such choice."""
    if support not in ("covered", "full"):
        raise ConfigError(f"support={support!r} is unknown to {part}: use 'covered' or 'full'")
    return support


@final
class MeanDirection:
    """U = Σ r_n Δ_n / ‖Δ_n‖ over a round, zero where a client covers nothing; streams into one full accumulator."""

    def __init__(self) -> None:
        self._sum = TotalSum()
        self.values: State = {}
        self._length = 0.0

    def begin(self, like: Mapping[str, Tensor]) -> None:
        """Start anew, for tensors of the shapes and devices of ``like``."""
        self._sum.begin(like)

    def add(self, coverage: Coverage, delta: Mapping[str, Tensor], weight: float) -> None:
        """Add r_n u_n; an update of zeros adds nothing."""
        length = norm(delta)
        if length > 0:
            self._sum.add(coverage, delta, weight / length)

    def finish(self, reduce: Reduce) -> None:
        """Close U over all processes."""
        self.values = dict(self._sum.finish(reduce))
        self._length = norm(self.values)

    def cosine(self, coverage: Coverage, delta: Mapping[str, Tensor], support: Support) -> float:
        """Return cos(u_n, M_n U), or cos(u_n, U) for full support, in [-1, 1]; 0 for an update of zeros."""
        product = covered = 0.0
        for name, value in delta.items():
            if name in self.values:
                own = coverage.gather(name, self.values[name])
                product += float((own * value).sum())
                covered += float(own.square().sum()) if support == "covered" else 0.0
        scale = norm(delta) * (math.sqrt(covered) if support == "covered" else self._length)
        return max(-1.0, min(1.0, product / scale)) if scale > 0 else 0.0
