"""What loops that train by a recipe have in common."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

from fedlight.core.slots import Local, Part
from fedlight.core.types import ClientData, Report, RoundState
from fedlight.parts.local.proximal import Proximal
from fedlight.parts.local.recipe import Expectation, Recipe
from fedlight.parts.local.work import LocalWork


class RecipeLoop(Local):
    """A local loop whose constants are a :class:`~fedlight.parts.local.recipe.Recipe`: how it runs is all that is open.

    Attributes:
        recipe: epochs or steps, optimizer and its schedule, terms of the loss, who is asked for how much.
    """

    recipe: Recipe

    @property
    def work(self) -> LocalWork | None:
        """Who is asked for less than the whole."""
        return self.recipe.work

    def with_terms(self, proximal: Proximal | None, work: LocalWork | None) -> Self:
        """Return a copy with these; raises ConfigError where the loop has its own."""
        loop = copy.copy(self)
        loop.recipe = self.recipe.with_terms(proximal, work)
        return loop

    def expect(self, expectation: Expectation) -> None:
        """Ask this of the optimizer and μ whenever a module is checked."""
        self.recipe.expect(expectation)

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Let ``work`` get to know the algorithm's parts."""
        self.recipe.meet(parts)

    def shares(self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float]) -> dict[int, float]:
        """Return the share of the work that every client is asked for; 1 without ``work``."""
        return self.recipe.shares(state, cohort, ratios)

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Let μ adapt and times be learnt."""
        self.recipe.observe(reports)

    def forget(self, clients: Sequence[int]) -> None:
        """Let times be forgotten."""
        self.recipe.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return what the proximal term and the work remember."""
        return self.recipe.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.recipe.load_state_dict(state)

    def metrics(self) -> dict[str, float]:
        """Return ``local/mu`` where μ adapts."""
        return self.recipe.metrics()

    def num_examples(self, data: ClientData, share: float = 1.0) -> int:
        """Return how many examples one round goes through: epochs · n, or steps · n / batches per epoch."""
        return self.recipe.num_examples(data, share)

    def lr_factor(self, round_idx: int) -> float:
        """Return the factor that the learning-rate schedule gives for this round."""
        return self.recipe.lr_factor(round_idx)
