"""Importance mixed from the global model and the client's own data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.errors import ConfigError
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.returned import StatisticName, checked_decay, checked_name, unit_sums
from fedlight.parts.importance.units import UnitSums
from fedlight.submodels.coverage import Coverage
from fedlight.submodels.structure import Group

_UNSEEN = -1.0  # statistics are never negative


@final
class MixedImportance(Importance):
    """Capability decides how many units a client gets, its data decide which: s_n = (1 - w_t) · s + w_t · own_n.

    own_{n,u} is the mean of a statistic over the entries of unit u and the steps of client n on its own data, smoothed
    over the rounds in which it held the unit. Per group it is scaled so that its mean over these units is that of the
    global scores s, so the two compare and w is a share. Units that the client never held, and clients that were never
    seen, take the global score. With ``weight=0`` (and ``end_weight=0``) it is the global importance.

    w_t goes from ``weight`` to ``end_weight`` over ``anneal_rounds`` rounds: w_t = end + (weight - end) · f(t), f = 1 -
    x (``linear``) or ½ (1 + cos(π x)) (``cosine``), x = min(1, t / anneal_rounds).

    A single weight's score is the global one's times max(0, s_{n,u} / s_u) for each unit u that owns it, so its units
    compare as units do. Costs a float32 per unit for every client ever seen, in checkpoints too.

    Args:
        global_importance: s; None: :class:`Magnitude`.
        own: statistic of the client's own data: ``abs_grad``, ``sq_grad``, ``taylor`` or ``abs_change``.
        weight: w_0 in [0, 1].
        end_weight: w after ``anneal_rounds``; None: ``weight``, which never changes then.
        anneal_rounds: rounds of the way; needed where ``end_weight`` is given.
        annealing: ``linear`` or ``cosine``.
        decay: weight of the past in a client's own statistics, in [0, 1).
    """

    personal = True

    def __init__(
        self,
        global_importance: Importance | None = None,
        own: StatisticName = "taylor",
        weight: float = 0.5,
        end_weight: float | None = None,
        anneal_rounds: int | None = None,
        annealing: Literal["linear", "cosine"] = "cosine",
        decay: float = 0.5,
    ) -> None:
        for key, value in (("weight", weight), ("end_weight", weight if end_weight is None else end_weight)):
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{key}={value} is outside [0, 1]: 0 is the global importance, 1 the client's own")
        if (end_weight is None) != (anneal_rounds is None) or (anneal_rounds is not None and anneal_rounds < 1):
            raise ConfigError(
                f"end_weight={end_weight} with anneal_rounds={anneal_rounds}: give both, with 1 round or more, or none"
            )
        if annealing not in ("linear", "cosine"):
            raise ConfigError(f"annealing={annealing!r} is unknown: use 'linear' or 'cosine'")
        self.common = global_importance or Magnitude()
        self.own = own
        self.weight = weight
        self.end_weight = weight if end_weight is None else end_weight
        self.anneal_rounds = anneal_rounds
        self.annealing = annealing
        self.decay = checked_decay(decay)
        self.statistics = self.common.statistics | checked_name(own, "own")
        self.needs_server_data = self.common.needs_server_data
        self._rows: dict[int, Tensor] = {}  # client: float32[num_units], -1 where it never held the unit

    @property
    def growth(self) -> Importance | None:
        """What the global importance says."""
        return self.common.growth

    def share(self, round_idx: int) -> float:
        """Return w_t."""
        if self.anneal_rounds is None:
            return self.weight
        way = min(1.0, round_idx / self.anneal_rounds)
        left = 1.0 - way if self.annealing == "linear" else 0.5 * (1.0 + math.cos(math.pi * way))
        return self.end_weight + (self.weight - self.end_weight) * left

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return float64[num_units] for one client."""
        common, share = self.common.scores(state, client), self.share(state.round_idx)
        row = self._rows.get(client)
        if row is None or share == 0.0:
            return common
        own = _on_scale(row.to(torch.float64), common, state.plan.groups)
        return torch.where(row >= 0, (1.0 - share) * common + share * own, common)

    def check_entries(self) -> None:
        """Raise ConfigError if the global importance has none."""
        self.common.check_entries()

    def entries(self, state: RoundState, client: int) -> State:
        """Return the global scores of single weights, times how much their units matter more to this client."""
        entries = self.common.entries(state, client)
        if client not in self._rows or self.share(state.round_idx) == 0.0:
            return entries
        common = self.common.scores(state, client)
        factors = torch.where(common > 0, self.scores(state, client) / common, 1.0).clamp(min=0.0)
        factors = torch.cat([factors, torch.ones(1, dtype=factors.dtype)])  # owner -1 finds the last
        return {name: _scaled(value, factors, state.plan.structure.axes.get(name)) for name, value in entries.items()}

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; every process lays out a row per client of all processes."""
        self.common.begin(state, jobs)
        self._of_units = UnitSums(state.plan.structure)
        self._index = {client: at for at, client in enumerate(dict.fromkeys(job.client for job in jobs))}
        self._sums = torch.zeros(2, len(self._index), state.plan.num_units, dtype=torch.float64)
        self._device = next(iter(state.weights.values())).device

    def add(self, coverage: Coverage, update: Update) -> None:
        """Take in one client's statistics; none of them if their sums aren't finite."""
        self.common.add(coverage, update)
        sums = unit_sums(self._of_units, self.own, coverage, update)
        if sums is not None:
            self._sums[:, self._index[update.client]] += sums

    def finish(self, reduce: Reduce) -> None:
        """Close the round and smooth."""
        self.common.finish(reduce)
        sums = self._sums.to(self._device)  # NCCL sums on GPUs only
        reduce(sums)
        totals, steps = sums.cpu()
        for client, at in self._index.items():
            held = steps[at] > 0
            if not bool(held.any()):
                continue
            news = (totals[at] / steps[at].clamp(min=1.0)).to(torch.float32)
            old = self._rows.get(client, torch.full_like(news, _UNSEEN))
            mixed = torch.where(old < 0, news, self.decay * old + (1.0 - self.decay) * news)
            self._rows[client] = torch.where(held, mixed, old)

    def forget(self, clients: Sequence[int]) -> None:
        """Drop what their data said."""
        self.common.forget(clients)
        for client in clients:
            self._rows.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """Return the global importance's memory, and a row for every client seen."""
        rows = [self._rows[client] for client in self._rows]
        return {
            "common": self.common.state_dict(),
            "clients": torch.tensor(list(self._rows), dtype=torch.int64),
            "rows": torch.stack(rows) if rows else torch.zeros(0, 0),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.common.load_state_dict(state["common"])
        self._rows = {client: row.clone() for client, row in zip(state["clients"].tolist(), state["rows"], strict=True)}

    def metrics(self) -> dict[str, float]:
        """Return what the global importance tells."""
        return self.common.metrics()


def _on_scale(own: Tensor, common: Tensor, groups: Sequence[Group]) -> Tensor:
    """Scale own scores by group so that their mean over the units ever held (>= 0) is that of the common ones."""
    scaled = own.clone()
    for group in groups:
        seen = own[group.units] >= 0
        mean = float(own[group.units][seen].mean()) if bool(seen.any()) else 0.0
        if mean > 0:
            scaled[group.units] *= float(common[group.units][seen].mean()) / mean
        else:  # the client's data say nothing of this group
            scaled[group.units] = common[group.units]
    return scaled


def _scaled(value: Tensor, factors: Tensor, axes: Sequence[Tensor | None] | None) -> Tensor:
    for dim, axis in enumerate(axes or ()):
        if axis is not None:
            shape = [1] * dim + [-1] + [1] * (value.dim() - dim - 1)
            value = value * factors[axis].to(value).view(shape)
    return value
