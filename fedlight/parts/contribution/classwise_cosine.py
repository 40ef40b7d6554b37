"""Contribution by agreement on every class: cosines of the last layer's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor

from fedlight.core.slots import Contribution
from fedlight.core.types import Reduce, RoundState, State, Update
from fedlight.errors import ConfigError
from fedlight.parts.contribution.direction import Support, checked_support
from fedlight.parts.contribution.shares import Shares
from fedlight.parts.sums import TotalSum
from fedlight.submodels.coverage import Coverage


@final
class ClasswiseCosine(Contribution):
    """Weigh a client by how well it agrees with everyone on each class (CSSV of ShapFed).

    s_n = (1/C) Σ_c cos(Δ_n[c], U[c]), with Δ[c] the row (weights and bias) of class c in the last layer and
    U = Σ_n r_n Δ_n; a row of zeros counts 0. r_n ← μ r_n + (1 - μ) s_n, floored and normalised as
    :class:`~fedlight.parts.contribution.shares.Shares` says.

    N. Tastan, S. Fares, T. Aremu, S. Horváth, K. Nandakumar: Redefining Contributions: Shapley-Driven Federated
    Learning. IJCAI 2024. Its personalised broadcast isn't built here.

    The last layer is what holds one row per output of the model (``SubmodelPlan.output_rows``). Costs O(N · last layer)
    and an accumulator of it; updates are held until the round ends. Needs no server data.

    Args:
        support: ``covered``: the cosine on the inputs of the last layer that the client holds; ``full``: on all.
        moving_average: μ in [0, 1).
        floor: smallest r before it is normalised, > 0.

    Raises:
        ConfigError: an option is outside its range, or (in the first round) the model has no such layer.
    """

    needs: Literal["own"] = "own"

    def __init__(self, support: Support = "covered", moving_average: float = 0.9, floor: float = 1e-3) -> None:
        self.support = checked_support(support, "ClasswiseCosine")
        self._shares = Shares(moving_average, floor)
        self._sum = TotalSum()
        self._rows: tuple[str, ...] = ()
        self._merged: State = {}

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return r_n: learnt for clients seen, |D_n| / Σ |D| for the others."""
        return self._shares.weights(state, clients)

    def begin(self, state: RoundState) -> None:
        """Start a round."""
        self._rows = tuple(state.plan.output_rows)
        if not self._rows:
            raise ConfigError(
                "ClasswiseCosine compares the rows of the last layer, and this model has no layer with one row per "
                "output: use CosineGradient as algorithm.contribution"
            )
        self._sum.begin({name: state.weights[name] for name in self._rows})

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Add r_n Δ_n of the last layer to U."""
        self._sum.add(coverage, self._last_layer(update), weight)

    def finish(self, reduce: Reduce) -> None:
        """Close U over all processes."""
        self._merged = dict(self._sum.finish(reduce))

    def score(self, coverage: Coverage, update: Update) -> float:
        """Return s_n in [-1, 1]."""
        delta = self._last_layer(update)
        if not delta:
            return 0.0
        own = _rows({name: value.double() for name, value in delta.items()})
        held = _rows({name: coverage.gather(name, self._merged[name]) for name in delta})
        against = held if self.support == "covered" else _rows({name: self._merged[name] for name in delta})
        scale = own.norm(dim=1) * against.norm(dim=1)
        cosines = torch.where(scale > 0, (own * held).sum(1) / scale.clamp(min=1e-300), 0.0)
        return float(cosines.clamp(-1.0, 1.0).mean())

    def observe(self, state: RoundState, scores: Mapping[int, float]) -> None:
        """Move the r of the round's clients towards their scores."""
        self._shares.move(state, scores)

    def forget(self, clients: Sequence[int]) -> None:
        """Let these clients have their share of examples again."""
        self._shares.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return r of the clients seen."""
        return self._shares.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._shares.load_state_dict(state)

    def _last_layer(self, update: Update) -> State:
        return {name: update.delta[name] for name in self._rows if name in update.delta}


def _rows(state: Mapping[str, Tensor]) -> Tensor:
    """Return [C, entries of a row], all tensors side by side."""
    return torch.cat([value.reshape(len(value), -1) for value in state.values()], dim=1)
