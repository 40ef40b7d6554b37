"""FedDU's server update: train on the server's own data, and go as far that way as they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from fedlight.core.desk import ServerDesk, merged
from fedlight.core.slots import Local, ServerUpdate
from fedlight.core.types import Report, RoundState, State
from fedlight.errors import ConfigError, DataError
from fedlight.parts.local import LeanLoop


@final
class DynamicServerUpdate(ServerUpdate):
    """w ← w + a (w_srv - w), where w_srv comes from w by training on the server's data: FedDU's update.

    a = (1 - acc) · n₀ D' / (n₀ D' + n' D₀) · C · decay^t, with n₀ the server's examples and n' those of the round's
    clients, D' and D₀ the non-IID degrees of both (:func:`non_iid_degree`, plus ``eps``) and acc the accuracy of w on
    the server's data (Zhang et al. 2022, FedDU, equations 2 to 5; for plain SGD a = τ_eff / τ, and w moves by τ_eff
    times the mean gradient). So the server helps much while the model is poor, the round's clients are one-sided and
    its own data aren't.

    The server's data are halved: it trains on one half, n₀ of them, and acc is measured on the other, which it never
    trains on. The accuracy is never that of validation or test data. Takes E epochs of the server's half and one
    evaluation a round; simulated time doesn't count the server's work. Clients tell the server how many examples of
    each class they have.

    Args:
        local: how the server trains; None: one epoch of the lean loop, by the client module's own optimizer.
        scale: C >= 0; 0 leaves the weights alone.
        decay: in (0, 1].
        min_step: with a at or below this the server doesn't train, >= 0.
        metric: name that ``validation_step`` logs the accuracy by.
        eps: > 0, added to both degrees: of two that are 0 the quotient would be undefined, and is n₀ / (n₀ + n').

    Raises:
        ConfigError: a constant out of its range.
    """

    needs_server_data = True

    def __init__(
        self,
        local: Local | None = None,
        scale: float = 1.0,
        decay: float = 0.999,
        min_step: float = 0.001,
        metric: str = "val/accuracy",
        eps: float = 1e-4,
    ) -> None:
        if not 0 <= scale < math.inf:
            raise ConfigError(f"scale={scale} of DynamicServerUpdate must be at least 0: 1 is the paper's")
        if not 0 < decay <= 1:
            raise ConfigError(f"decay={decay} of DynamicServerUpdate is outside (0, 1]: 0.999 is the authors'")
        if not min_step >= 0:
            raise ConfigError(f"min_step={min_step} of DynamicServerUpdate must be at least 0: 0.001 is the authors'")
        if not eps > 0:
            raise ConfigError(f"eps={eps} of DynamicServerUpdate must be above 0, 0.0001 for example")
        self.local = local or LeanLoop(epochs=1)
        self.scale = scale
        self.decay = decay
        self.min_step = min_step
        self.metric = metric
        self.eps = eps
        self._population: Tensor | None = None
        self._told: dict[str, float] = {}

    def apply(
        self, state: RoundState, reports: Sequence[Report], aggregate: Mapping[str, Tensor], weights: State
    ) -> State:
        """Return the weights after the server's own training.

        Raises:
            DataError: the data have no class labels, or the server's can't be halved.
        """
        desk, self._told = state.desk, {}
        clients = [report.client for report in reports if report.accepted]
        if self.scale == 0 or not clients or desk is None:
            return weights
        accuracy = desk.score(weights, self.metric, "holdout")
        step = self._step(state, desk, clients, accuracy)
        self._told = {"server/step": step, "server/accuracy": accuracy}
        if step <= self.min_step:
            return weights
        update = desk.train(weights, self.local, state.round_idx, "train")
        return merged(weights, {**update.delta, **update.buffers}, step) if update.is_finite() else weights

    def metrics(self) -> dict[str, float]:
        """Return a and acc of the last round."""
        return self._told

    def _step(self, state: RoundState, desk: ServerDesk, clients: Sequence[int], accuracy: float) -> float:
        own = desk.examples("train")
        if self._population is None:
            self._population = _counts(desk, range(len(state.num_examples)))
        degree = non_iid_degree(_counts(desk, clients), self._population) + self.eps
        own_degree = non_iid_degree(_labelled(own.label_counts()), self._population) + self.eps
        num_theirs = float(sum(int(state.num_examples[client]) for client in clients))
        share = own.num_examples * degree / (own.num_examples * degree + num_theirs * own_degree)
        return (1 - accuracy) * share * self.scale * self.decay**state.round_idx


def non_iid_degree(counts: Tensor, population: Tensor) -> float:
    """Return the Jensen-Shannon divergence in bits between two distributions of labels, in [0, 1].

    D(P) = ½ KL(P ‖ M) + ½ KL(P̄ ‖ M) with M = ½ (P + P̄); a class without examples adds nothing.

    Args:
        counts: [num_classes], examples of each class.
        population: [num_classes], those of all clients together.
    """
    one, other = (value.to(torch.float64) / value.sum() for value in (counts, population))
    middle = 0.5 * (one + other)
    # xlogy(0, 0) is 0.
    bits = (torch.xlogy(part, part / middle.clamp(min=1e-300)).sum() for part in (one, other))
    return max(0.0, 0.5 * float(sum(bits)) / float(torch.log(torch.tensor(2.0, dtype=torch.float64))))


def _counts(desk: ServerDesk, clients: Iterable[int]) -> Tensor:
    return torch.stack([_labelled(desk.client_label_counts(client)) for client in clients]).sum(0)


def _labelled(counts: Tensor | None) -> Tensor:
    if counts is None:
        raise DataError(
            "DynamicServerUpdate (FedDU) compares mixes of class labels, and the data have none: use another "
            "algorithm, or a labelled data set"
        )
    return counts
