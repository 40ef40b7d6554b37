"""What a set of weights is worth, by the server's own examples."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Literal, final

from torch import Tensor

from fedlight.core.coalitions import Coalitions
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError


@final
class Judge:
    """Utility v(θ) = ± one number that the client's ``validation_step`` logs of the server's examples.

    Args:
        metric: its name.
        higher_is_better: whether v is the number itself or minus it; None: minus it where the name says loss or error.
        half: which of the server's examples: ``all``, or ``holdout`` where the server also trains on the other half.
    """

    def __init__(
        self,
        metric: str = "val/loss",
        higher_is_better: bool | None = None,
        half: Literal["all", "holdout"] = "all",
    ) -> None:
        if half not in ("all", "holdout"):
            raise ConfigError(f"half={half!r} is unknown to Judge: use 'all' or 'holdout'")
        self.metric = metric
        self.half = half
        falls = any(word in metric.lower() for word in ("loss", "error", "mse", "mae"))
        self.sign = (-1.0 if falls else 1.0) if higher_is_better is None else (1.0 if higher_is_better else -1.0)

    def utility(self, state: RoundState, weights: Mapping[str, Tensor]) -> float:
        """Return v of a full state dict; raises ConfigError where the server holds no data, or the metric isn't logged.

        Not finite where the model is broken.
        """
        if state.desk is None:
            raise ConfigError("the server holds no examples to judge by: set data.server_fraction above 0 (0.05, say)")
        return self.sign * state.desk.score(weights, self.metric, self.half)


@final
class CoalitionValue:
    """v(S), the utility of θ_S, each set judged once.

    A set whose model is broken (its utility isn't finite) counts as having learnt nothing: v(∅).

    Attributes:
        num_evaluations: passes over the server's examples so far.
    """

    def __init__(self, judge: Judge, state: RoundState, coalitions: Coalitions) -> None:
        self._judge = judge
        self._state = state
        self._coalitions = coalitions
        self._known: dict[frozenset[int], float] = {}
        self.num_evaluations = 0

    def __call__(self, clients: Collection[int]) -> float:
        """Return v(S)."""
        key = frozenset(clients)
        if key not in self._known:
            self.num_evaluations += 1
            value = self._judge.utility(self._state, self._coalitions.weights(key))
            if not math.isfinite(value):
                value = self(()) if key else 0.0
            self._known[key] = value
        return self._known[key]
