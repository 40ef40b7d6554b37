"""Contribution by each client's own model on the server's own examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch

from fedlight.core.slots import Contribution
from fedlight.core.types import RoundState, Update
from fedlight.parts.contribution.judge import Judge
from fedlight.parts.contribution.plain import sample_counts
from fedlight.submodels.coverage import Coverage


@final
class HeldOutAccuracy(Contribution):
    """Score a client by its own model on the server's examples: v(θ + Δ_n), θ kept where it covers nothing.

    The individual measure of L. Lyu, X. Xu, Q. Wang: Collaborative Fairness in Federated Learning, 2020 (CFFL), which
    takes each client's share of their sum (``Scored`` with ``ByScore(scale="share")``). Costs one pass over the
    server's examples per client, shared out over processes. Needs server data. Weighs by examples.

    Args:
        judge: by what; None: ``val/accuracy`` on all of the server's examples.
    """

    needs: Literal["own"] = "own"
    needs_server_data = True

    def __init__(self, judge: Judge | None = None) -> None:
        self.judge = judge or Judge("val/accuracy")
        self._state: RoundState | None = None

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)

    def begin(self, state: RoundState) -> None:
        """Start a round."""
        self._state = state

    def score(self, coverage: Coverage, update: Update) -> float | None:
        """Return v(θ + Δ_n); None if it isn't finite."""
        assert self._state is not None  # noqa: S101 - begin comes first
        moved = dict(self._state.weights)
        with torch.no_grad():
            for name, value in (*update.delta.items(), *update.buffers.items()):
                moved[name] = moved[name].clone(memory_format=torch.contiguous_format)
                coverage.scatter_add_(name, moved[name], value, 1.0)
        score = self.judge.utility(self._state, moved)
        return score if math.isfinite(score) else None

    def observe(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Let go of the round."""
        self._state = None
