"""What a play was worth: value gained over time, guarded, and mapped to a range that bandits can compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final, get_args

import numpy as np
import torch

from fedlight.core.seeds import SERVER
from fedlight.core.slots import Contribution, Part
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.ratio.bandits.bandit import Floats

Value = Literal["contribution", "local_loss", "global_loss"]
Per = Literal["gap", "own_s", "round_s", "one"]
Normalise = Literal["none", "minmax", "rank", "tanh"]

_LOSS = "train/loss"
_NO_LOSS = "no client reports train/loss; return the loss from training_step, or log it under that tag"
_WAYS_OUT = {
    "contribution": "the algorithm's contribution scores no client; use one that does (CosineGradient), or "
    "value='local_loss'",
    "local_loss": f"{_NO_LOSS}, or use value='contribution'",
    "global_loss": f"{_NO_LOSS}, or use value='contribution'",
}
_WINDOW = 20  # rounds that the reward of a whole round is compared with


@final
class Reward:
    """R = Δvalue / max(d, floor · T̄), mapped to [0, 1].

    Δvalue: ``contribution``: rise of the client's contribution score since its last return; ``local_loss``: fall of its
    ``train/loss`` since then; ``global_loss``: fall of the round's mean ``train/loss``, weighted by examples, since the
    round before, the same for all clients.
    d: ``gap``: |T_n - T̄|, the distance from the round's mean time (Jiang et al. 2022, FedMP); ``own_s``: T_n;
    ``round_s``: simulated seconds of the round; ``one``: 1. The floor keeps d from 0, where R would explode for the
    client nearest to the mean.
    Mapping, of the rewards of a round's clients, or of a whole round's reward among the last 20 rounds' (rewards shrink
    as training slows): ``minmax``: smallest to 0 and largest to 1, ½ where all are equal; ``rank``: by order, ties
    sharing their mean; ``tanh``: ½ (1 + tanh(R / mean |R|)); ``none``: as they are.

    A value is compared with the one before, so a client's first return, and the first round, give no reward. A play
    whose update was rejected, or whose value isn't finite, earns the worst: 0, or the smallest of 0 and the others'
    unmapped rewards. One number per client seen.

    Args:
        value: what is gained.
        per: what it is divided by.
        floor: smallest denominator, as a fraction of the mean time (of 1 s for ``one``), > 0.
        normalise: how rewards are mapped.
    """

    def __init__(
        self, value: Value = "local_loss", per: Per = "gap", floor: float = 0.1, normalise: Normalise = "minmax"
    ) -> None:
        for key, given, known in (("value", value, Value), ("per", per, Per), ("normalise", normalise, Normalise)):
            if given not in get_args(known):
                raise ConfigError(f"{key}={given!r} is unknown to Reward: use one of {', '.join(get_args(known))}")
        if not 0.0 < floor < math.inf:
            raise ConfigError(f"floor={floor} would let rewards explode: use a number above 0, for example 0.1")
        self.value: Value = value
        self.per: Per = per
        self.floor = floor
        self.normalise: Normalise = normalise
        self._last: dict[int, float] = {}  # last value by client; the round's under SERVER
        self._recent: list[float] = []  # unmapped rewards of whole rounds

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Raise ConfigError if the contribution is what counts, and the algorithm's scores nobody."""
        contribution = parts["contribution"]
        silent = isinstance(contribution, Contribution) and not contribution.gives_scores
        if self.value == "contribution" and silent:
            raise ConfigError(f"ratio: value='contribution' of Reward: {_WAYS_OUT[self.value]}")

    def of_clients(self, state: RoundState, reports: Sequence[Report]) -> list[tuple[Report, float]]:
        """Return the reward of every play that earned one, clients that failed first.

        Raises:
            ConfigError: clients were accepted, and no value has ever come from anyone.
        """
        gains, failed = self._gains(reports)
        rewards = np.array([gain for _, gain in gains]) / self._denominators(state, reports, [r for r, _ in gains])
        mapped = _mapped(rewards, rewards, self.normalise)
        worst = min(0.0, float(mapped.min(initial=0.0)))
        earned = [(report, float(reward)) for (report, _), reward in zip(gains, mapped, strict=True)]
        return [*((report, worst) for report in failed), *earned]

    def of_round(self, state: RoundState, reports: Sequence[Report]) -> float | None:
        """Return one reward for a whole round: the clients' mean gain, weighted by examples; None where there is none.

        Raises:
            ConfigError: clients were accepted, and no value has ever come from anyone.
        """
        gains, failed = self._gains(reports)
        if not gains:
            return min([0.0, *self._recent] if self.normalise == "none" else [0.0]) if failed else None
        gain = np.average([gain for _, gain in gains], weights=[report.num_examples for report, _ in gains])
        reward = float(gain / self._denominators(state, reports, [gains[0][0]])[0])
        self._recent = [*self._recent, reward][-_WINDOW:]
        return float(_mapped(np.array([reward]), np.array(self._recent), self.normalise)[0])

    def check_common(self) -> None:
        """Raise ConfigError if a whole round has no such denominator."""
        if self.per not in ("round_s", "one"):
            raise ConfigError(f"per={self.per!r} is a client's own: one reward for all needs per='round_s' or 'one'")

    def forget(self, clients: Sequence[int]) -> None:
        """Drop last values."""
        for client in clients:
            self._last.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """Return the last values and the last rounds' rewards."""
        return {
            "clients": torch.tensor(list(self._last), dtype=torch.int64),
            "values": torch.tensor(list(self._last.values()), dtype=torch.float64),
            "recent": list(self._recent),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._last = dict(zip(state["clients"].tolist(), state["values"].tolist(), strict=True))
        self._recent = list(state["recent"])

    def _gains(self, reports: Sequence[Report]) -> tuple[list[tuple[Report, float]], list[Report]]:
        """Return the gain of every client that has one, and the clients that failed."""
        accepted = [report for report in reports if report.accepted]
        valued = [(report, value) for report in accepted if (value := self._value_of(report)) is not None]
        if accepted and not valued and not self._last:
            raise ConfigError(f"the bandit has nothing to learn from: {_WAYS_OUT[self.value]}")
        failed = [report for report in reports if not report.accepted]
        failed += [report for report, value in valued if not math.isfinite(value)]
        finite = [(report, value) for report, value in valued if math.isfinite(value)]
        if self.value == "global_loss" and finite:
            mean = float(np.average([v for _, v in finite], weights=[report.num_examples for report, _ in finite]))
            fall = self._rise(SERVER, mean)
            return [] if fall is None else [(report, fall) for report, _ in finite], failed
        if self.value == "global_loss":
            return [], failed
        rises = [(report, self._rise(report.client, value)) for report, value in finite]
        return [(report, rise) for report, rise in rises if rise is not None], failed

    def _value_of(self, report: Report) -> float | None:
        if self.value == "contribution":
            return report.contribution
        loss = report.metrics.get(_LOSS)
        return None if loss is None else -loss

    def _rise(self, client: int, value: float) -> float | None:
        before = self._last.get(client)
        self._last[client] = value
        return None if before is None else value - before

    def _denominators(self, state: RoundState, reports: Sequence[Report], of: Sequence[Report]) -> Floats:
        times_s = np.array([report.timing.total_s for report in reports])
        mean_s = float(times_s.mean()) if len(times_s) else 0.0
        own_s = np.array([report.timing.total_s for report in of])
        if self.per == "one":
            return np.ones(len(of))
        if self.per == "gap":
            values = np.abs(own_s - mean_s)
        elif self.per == "own_s":
            values = own_s
        else:
            values = np.full(len(of), max(report.finish_s for report in reports) - state.now_s if reports else 0.0)
        return np.maximum(values, max(self.floor * mean_s, 1e-12))


def _mapped(values: Floats, among: Floats, how: Normalise) -> Floats:
    """Map values by how they stand among others."""
    if how == "none" or not len(values):
        return values
    low, span = float(among.min()), float(among.max() - among.min())
    if how == "tanh":
        scale = float(np.abs(among).mean())
        return 0.5 * (1.0 + np.tanh(values / scale)) if scale > 0 else np.full_like(values, 0.5)
    if span <= 0:
        return np.full_like(values, 0.5)
    if how == "minmax":
        return (values - low) / span
    below = (among[None, :] < values[:, None]).sum(axis=1)
    equal = (among[None, :] == values[:, None]).sum(axis=1)
    ranks: Floats = (below + 0.5 * (equal - 1)) / (len(among) - 1)
    return ranks
