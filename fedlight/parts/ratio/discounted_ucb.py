"""One bandit per client: its arms are ratios, its reward is value gained over distance from the mean time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
import torch

from fedlight.core.seeds import numpy_generator
from fedlight.core.slots import Ratio
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.ratio.arms import discounted, upper_bounds
from fedlight.parts.ratio.fixed import check_ratios

_MAX_ARMS = 6
_WAYS_OUT = {
    "contribution": "the algorithm's contribution scores no client; use one that does (CosineGradient), or "
    "value='local_loss'",
    "local_loss": "no client reports train/loss; return the loss from training_step, log it under that tag, or use "
    "value='contribution'",
}


@final
class DiscountedUCB(Ratio):
    """Per client, play argmax_j R̄_n(λ, j) + bonus, and learn R_n = Δvalue_n / max(|T_n - T̄|, floor · T̄).

    Index: see :func:`~fedlight.parts.ratio.arms.upper_bounds`; λ is ``discount``. Arms that a client never played come
    first, in an order drawn from (seed, round, client). Three guards (docs/algorithms/fedlight.md): the denominator
    can't fall below ``floor`` of the mean time, where it would explode for the client nearest to it; rewards of a round
    are mapped to [0, 1] (smallest to largest; ½ where all are equal), since they shrink as training slows; and there
    are at most 6 arms, since a client plays some tens of times.

    A client gives a reward from its second accepted return on: Δvalue compares it with the one before. A play whose
    update was rejected, or whose value isn't finite, is rewarded 0, the worst: an arm that diverges must not stay
    unplayed. One agent per client that was ever chosen: 2 numbers per arm and 3 more.

    Args:
        ratios: the arms, each in [0, 1).
        discount: λ in (0, 1]; 1 never forgets.
        bonus_scale: factor on the bonus, >= 0; 1 is the textbook, which at these horizons is close to random play.
        value: ``contribution``: rise of the client's contribution score; ``local_loss``: fall of its ``train/loss``.
        by: ``round``: the past fades with every round of the run; ``play``: with every play of the client.
        floor: smallest denominator, as a fraction of the mean time, > 0.
    """

    def __init__(
        self,
        ratios: list[float] | None = None,
        discount: float = 0.98,
        bonus_scale: float = 1.0,
        value: Literal["contribution", "local_loss"] = "contribution",
        by: Literal["round", "play"] = "round",
        floor: float = 0.1,
    ) -> None:
        self.ratios = check_ratios([0.0, 0.2, 0.4, 0.6, 0.8] if ratios is None else ratios, "ratios")
        if len(self.ratios) > _MAX_ARMS:
            raise ConfigError(
                f"ratios has {len(self.ratios)} arms, which a client can't try out: use {_MAX_ARMS} or fewer"
            )
        if not 0.0 < discount <= 1.0:
            raise ConfigError(f"discount={discount} is outside (0, 1]: 1 never forgets")
        if bonus_scale < 0.0:
            raise ConfigError(f"bonus_scale={bonus_scale} is negative: 0 never explores, 1 is the textbook")
        if value not in ("contribution", "local_loss"):
            raise ConfigError(f"value={value!r} is unknown to DiscountedUCB: use 'contribution' or 'local_loss'")
        if by not in ("round", "play"):
            raise ConfigError(f"by={by!r} is unknown to DiscountedUCB: use 'round' or 'play'")
        if floor <= 0.0:
            raise ConfigError(f"floor={floor} would let rewards explode: use a number above 0, for example 0.1")
        self.discount = discount
        self.bonus_scale = bonus_scale
        self.value = value
        self.by = by
        self.floor = floor
        self._row: dict[int, int] = {}
        self._counts = np.zeros((0, len(self.ratios)))
        self._sums = np.zeros((0, len(self.ratios)))
        self._since = np.zeros(0, dtype=np.int64)  # round up to which counts and sums are discounted
        self._value = np.zeros(0)  # last value, NaN before the first
        self._round_idx = 0

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the ratio of every client's best arm."""
        self._register(cohort)
        rows = np.array([self._row[client] for client in cohort], dtype=np.int64)
        elapsed = np.ones_like(rows) if self.by == "play" else np.maximum(state.round_idx - self._since[rows], 0)
        bounds = upper_bounds(
            discounted(self._counts[rows], self.discount, elapsed),
            discounted(self._sums[rows], self.discount, elapsed),
            self.bonus_scale,
        )
        chosen = {}
        for client, of_client in zip(cohort, bounds, strict=True):
            best = np.flatnonzero(of_client == of_client.max())
            arm = best[0]
            if len(best) > 1:
                arm = best[numpy_generator(state.seed, state.round_idx, client, "ratio").integers(len(best))]
            chosen[client] = self.ratios[arm]
        return chosen

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Reward the arms of the clients that have just finished.

        Raises:
            ConfigError: clients were accepted, and no value has ever come from anyone.
        """
        self._round_idx = state.round_idx
        accepted = [report for report in reports if report.accepted]
        valued = [(report, value) for report in accepted if (value := self._value_of(report)) is not None]
        if accepted and not valued and bool(np.isnan(self._value).all()):
            raise ConfigError(f"DiscountedUCB has nothing to learn from: {_WAYS_OUT[self.value]}")
        failed = [report for report in reports if not report.accepted]
        failed += [report for report, value in valued if not math.isfinite(value)]
        finite = [(report, value) for report, value in valued if math.isfinite(value)]
        self._register([report.client for report in (*failed, *(report for report, _ in finite))])
        for report in failed:
            self._reward(report, 0.0, state.round_idx)
        gains: list[tuple[Report, float]] = []
        for report, value in finite:
            row = self._row[report.client]
            if not np.isnan(self._value[row]):
                gains.append((report, value - self._value[row]))
            self._value[row] = value
        if gains:
            self._reward_gains(reports, gains, state.round_idx)

    def metrics(self) -> dict[str, float]:
        """Return discounted plays and mean reward of every arm, over all clients."""
        elapsed = np.zeros_like(self._since) if self.by == "play" else self._round_idx - self._since
        plays = discounted(self._counts, self.discount, elapsed).sum(axis=0)
        rewards = discounted(self._sums, self.discount, elapsed).sum(axis=0)
        tags = {}
        for ratio, play, reward in zip(self.ratios, plays, rewards, strict=True):
            tags[f"bandit/plays/{ratio:g}"] = float(play)
            if play > 0:
                tags[f"bandit/reward/{ratio:g}"] = float(reward / play)
        return tags

    def state_dict(self) -> dict[str, Any]:
        """Return what every client's bandit knows."""
        return {
            "clients": torch.tensor(list(self._row), dtype=torch.int64),
            "counts": torch.from_numpy(self._counts.copy()),
            "sums": torch.from_numpy(self._sums.copy()),
            "since": torch.from_numpy(self._since.copy()),
            "value": torch.from_numpy(self._value.copy()),
            "round_idx": self._round_idx,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back; raises ConfigError for another number of arms."""
        if state["counts"].shape[1] != len(self.ratios):
            raise ConfigError(
                f"the checkpoint's bandits have {state['counts'].shape[1]} arms, ratios has {len(self.ratios)}: "
                "resume with the ratios of that run"
            )
        self._row = {client: row for row, client in enumerate(state["clients"].tolist())}
        self._counts, self._sums = state["counts"].numpy().copy(), state["sums"].numpy().copy()
        self._since, self._value = state["since"].numpy().copy(), state["value"].numpy().copy()
        self._round_idx = state["round_idx"]

    def _register(self, clients: Sequence[int]) -> None:
        new = [client for client in dict.fromkeys(clients) if client not in self._row]
        if not new:
            return
        self._row.update({client: len(self._row) + index for index, client in enumerate(new)})
        zeros = np.zeros((len(new), len(self.ratios)))
        self._counts, self._sums = np.concatenate([self._counts, zeros]), np.concatenate([self._sums, zeros])
        self._since = np.concatenate([self._since, np.zeros(len(new), dtype=np.int64)])
        self._value = np.concatenate([self._value, np.full(len(new), np.nan)])

    def _value_of(self, report: Report) -> float | None:
        if self.value == "contribution":
            return report.contribution
        loss = report.metrics.get("train/loss")
        return None if loss is None else -loss

    def _reward_gains(self, reports: Sequence[Report], gains: Sequence[tuple[Report, float]], round_idx: int) -> None:
        mean_s = float(np.mean([report.timing.total_s for report in reports]))
        distance_s = np.array([abs(report.timing.total_s - mean_s) for report, _ in gains])
        rewards = np.array([gain for _, gain in gains]) / np.maximum(distance_s, max(self.floor * mean_s, 1e-12))
        for (report, _), reward in zip(gains, _to_unit_range(rewards), strict=True):
            self._reward(report, float(reward), round_idx)

    def _reward(self, report: Report, reward: float, round_idx: int) -> None:
        if report.ratio not in self.ratios:
            return  # a job from before a change of the arms
        row, arm = self._row[report.client], self.ratios.index(report.ratio)
        elapsed = 1 if self.by == "play" else round_idx - self._since[row]
        self._counts[row] *= self.discount**elapsed
        self._sums[row] *= self.discount**elapsed
        self._counts[row, arm] += 1.0
        self._sums[row, arm] += reward
        self._since[row] = round_idx


def _to_unit_range(rewards: np.ndarray) -> np.ndarray:
    span = float(rewards.max() - rewards.min())
    return (rewards - rewards.min()) / span if span > 0 else np.full_like(rewards, 0.5)
