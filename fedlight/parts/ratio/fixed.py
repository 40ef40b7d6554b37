"""Ratios that nothing is learnt for: one for all, one per level, and the random control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.shares import check_shares
from fedlight.core.slots import Ratio
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError


def check_ratio(value: float, key: str) -> float:
    """Return a pruning ratio if it lies in [0, 1); raises ConfigError that names ``key``."""
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"{key}={value} is outside [0, 1): it is the fraction removed, 0 keeps everything")
    return float(value)


def check_ratios(values: Sequence[float], key: str) -> list[float]:
    """Return ratios if each lies in [0, 1), there is one at least, and none comes twice; else raises ConfigError."""
    if not values:
        raise ConfigError(f"{key} is empty: give at least one ratio in [0, 1)")
    if len(set(values)) < len(values):
        raise ConfigError(f"{key}={list(values)} holds a ratio twice: give each once")
    return [check_ratio(value, f"{key}[{index}]") for index, value in enumerate(values)]


@final
class Fixed(Ratio):
    """The same ratio for every client in every round.

    Args:
        ratio: fraction removed, in [0, 1); 0 trains the full model.
    """

    def __init__(self, ratio: float = 0.0) -> None:
        self.ratio = check_ratio(ratio, "ratio")

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the ratio for every client."""
        return dict.fromkeys(cohort, self.ratio)


@final
class FromRound(Ratio):
    """No pruning before a round, and the same ratio for every client from then on.

    Args:
        ratio: fraction removed, in [0, 1).
        prune_round: first round at that ratio, counted from 0.
    """

    def __init__(self, ratio: float, prune_round: int) -> None:
        self.ratio = check_ratio(ratio, "ratio")
        if prune_round < 0:
            raise ConfigError(f"prune_round={prune_round} is no round: they are counted from 0")
        self.prune_round = prune_round

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return 0 or the ratio for every client."""
        return dict.fromkeys(cohort, self.ratio if state.round_idx >= self.prune_round else 0.0)


@final
class PerLevel(Ratio):
    """A few levels of ratio, and a share of the clients at each (Diao et al. 2021, HeteroFL, §4).

    Args:
        levels: ratios, each in [0, 1).
        shares: share of the clients at each level, fractions that sum to 1 or counts (4, 3, 3); None: equal shares.
        mode: ``static`` ties a client to a level for good, with shares as exact as whole clients allow; ``dynamic``
            draws every client's level anew each round, each with the probability of its share.
    """

    def __init__(
        self,
        levels: list[float],
        shares: list[float] | None = None,
        mode: Literal["static", "dynamic"] = "static",
    ) -> None:
        self.levels = check_ratios(levels, "levels")
        shares = [1.0] * len(levels) if shares is None else shares
        if len(shares) != len(levels):
            raise ConfigError(f"shares has {len(shares)} entries for {len(levels)} levels: give one share per level")
        if min(shares) < 0 or sum(shares) <= 0:
            raise ConfigError(f"shares={shares} are no shares: use numbers >= 0, not all 0")
        check_shares([f"level {level:g}:" for level in self.levels], shares, "shares of PerLevel")
        if mode not in ("static", "dynamic"):
            raise ConfigError(f"mode={mode!r} is unknown to PerLevel: use 'static' or 'dynamic'")
        self.shares = [share / sum(shares) for share in shares]
        self.mode = mode
        self._level_of = np.zeros(0, dtype=np.int64)
        self._seed: int | None = None

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the ratio of every client's level."""
        if self.mode == "static":
            num_clients = len(state.num_examples)
            if self._seed != state.seed or len(self._level_of) != num_clients:
                self._seed, self._level_of = state.seed, self._assign(state.seed, num_clients)
            return {client: self.levels[self._level_of[client]] for client in cohort}
        return {
            client: self.levels[_generator(state, client).choice(len(self.levels), p=self.shares)] for client in cohort
        }

    def _assign(self, seed: int, num_clients: int) -> npt.NDArray[np.int64]:
        borders = np.round(np.cumsum(self.shares) * num_clients)[:-1]
        by_place = np.searchsorted(borders, np.arange(num_clients), side="right")
        return numpy_generator(seed, -1, SERVER, "levels").permutation(by_place)


@final
class RandomChoice(Ratio):
    """A control for bandits: every client draws one of the ratios, uniformly, in every round.

    Args:
        ratios: what is drawn from, each in [0, 1); give it the arms of the bandit that it is compared to.
    """

    def __init__(self, ratios: list[float]) -> None:
        self.ratios = check_ratios(ratios, "ratios")

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return a ratio from (seed, round, client)."""
        return {client: self.ratios[_generator(state, client).integers(len(self.ratios))] for client in cohort}


def _generator(state: RoundState, client: int) -> np.random.Generator:
    return numpy_generator(state.seed, state.round_idx, client, "ratio")
