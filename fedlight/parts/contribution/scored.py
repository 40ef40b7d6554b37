"""Measuring by one rule and weighing by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

from fedlight.core.coalitions import Coalitions, Member
from fedlight.core.slots import Contribution
from fedlight.core.types import Reduce, RoundState, Summarise, Update
from fedlight.errors import ConfigError
from fedlight.parts.contribution.plain import SampleCount
from fedlight.parts.sums import in_float32
from fedlight.submodels.coverage import Coverage


@final
class Scored(Contribution):
    """Score clients by one contribution, and weigh them by another.

    What the scores drive are independent choices: the weights (:class:`~fedlight.parts.ByScore` as ``weighing``), a
    bandit's reward (``Reward(value="contribution")``), who is selected (``ByContribution``); none of them, and they are
    only logged.

    Costs what both cost. If both need the round's updates, every process gets them all.

    Args:
        measure: gives the scores; the weights that it would give are used within it only.
        weighing: gives the weights, and sees the scores of ``measure`` unless it scores clients itself; None:
            :class:`~fedlight.parts.SampleCount`.

    Raises:
        ConfigError: the measure gives no scores; both ask clients for a summary of their data.
    """

    def __init__(self, measure: Contribution, weighing: Contribution | None = None) -> None:
        self.measure = measure
        self.weighing = weighing or SampleCount()
        if not measure.gives_scores:
            raise ConfigError(
                f"measure={type(measure).__name__} gives no scores: measure by one that does, CosineGradient say, and "
                f"use {type(measure).__name__} as weighing"
            )
        parts = (self.measure, self.weighing)
        if all(type(part).summary is not Contribution.summary for part in parts):
            raise ConfigError(
                f"measure={type(measure).__name__} and weighing={type(weighing).__name__} both ask clients for a "
                "summary of their data, and a client gives one: use SampleCount or ByScore as weighing"
            )
        self.statistics = measure.statistics | self.weighing.statistics
        self.needs_server_data = any(getattr(part, "needs_server_data", False) for part in parts)
        self.needs: Literal["nothing", "own", "all"] = "all" if self.weighing.gives_scores else measure.needs
        self._own_weights: dict[int, float] = {}
        self._own_scores: dict[int, float] = {}

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return the weights of the one that weighs."""
        own = self.measure.weights(state, clients)
        self._own_weights = {client: in_float32(weight) for client, weight in own.items()}  # as the server's are
        return self.weighing.weights(state, clients)

    def summary(self, client: int) -> Summarise | None:
        """Ask the client what either of them asks."""
        return self.measure.summary(client) or self.weighing.summary(client)

    def begin(self, state: RoundState) -> None:
        """Start a round."""
        self.measure.begin(state)
        self.weighing.begin(state)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Let each take in the update with its own weight."""
        self.measure.add(coverage, update, self._own_weights[update.client])
        self.weighing.add(coverage, update, weight)

    def finish(self, reduce: Reduce) -> None:
        """Close the pass over all processes."""
        self.measure.finish(reduce)
        self.weighing.finish(reduce)

    def score(self, coverage: Coverage, update: Update) -> float | None:
        """Return the measure's score."""
        return self.measure.score(coverage, update)

    def score_cohort(self, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
        """Return the measure's scores, and keep those of the one that weighs for itself."""
        self._own_scores = _scores(self.weighing, state, coalitions)
        return _scores(self.measure, state, coalitions)

    def observe(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Let each remember its own scores; who weighs without scoring sees the measure's."""
        self.measure.observe(state, scores)
        self.weighing.observe(state, self._own_scores if self.weighing.gives_scores else scores)

    def metrics(self) -> dict[str, float]:
        """Return what both tell."""
        return {**self.measure.metrics(), **self.weighing.metrics()}

    def forget(self, clients: Sequence[int]) -> None:
        """Let both forget them."""
        self.measure.forget(clients)
        self.weighing.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return what both remember."""
        return {"measure": self.measure.state_dict(), "weighing": self.weighing.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.measure.load_state_dict(state["measure"])
        self.weighing.load_state_dict(state["weighing"])


def _scores(part: Contribution, state: RoundState, coalitions: Coalitions) -> dict[int, float]:
    if part.needs == "all":
        return part.score_cohort(state, coalitions)
    scored = {member.update.client: _score(part, member) for member in coalitions.members}
    return {client: score for client, score in scored.items() if score is not None}


def _score(part: Contribution, member: Member) -> float | None:
    return part.score(member.job.coverage, member.update)
