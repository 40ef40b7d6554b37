"""The proximal term: a pull back to the weights that a round started from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from fedlight.core.types import Report
from fedlight.errors import ConfigError

_LOSS = "train/loss"


@final
class Proximal:
    """Adds (μ/2)·‖w - w_t‖² to every client's loss, w_t being the weights that it was sent.

    Li et al. 2020 (FedProx), section 3, equation 2. Its gradient μ·(w - w_t) is added to that of the loss before
    clipping and before the optimizer, as if the term stood in the loss: momentum and adaptive step sizes see it
    (Flower's convention; FedNova's authors add it after the momentum buffer). It covers trainable parameters, in the
    shape of the client's submodel; running statistics aren't pulled. Logged losses are those of the module, without it.

    μ may adapt (section 5.3.2): + ``step`` after a round in which the training loss (mean over the round's clients by
    examples) rose, - ``step`` after ``patience`` falls in a row, never below 0.

    Args:
        mu: μ >= 0 at first; 0 is FedAvg. The paper's grid: 0.001, 0.01, 0.1, 1.
        adaptive: whether μ changes by the training loss.
        step: by how much, > 0.
        patience: falls in a row before μ does, >= 1.

    Raises:
        ConfigError: a number out of its range.
    """

    def __init__(self, mu: float = 0.01, adaptive: bool = False, step: float = 0.1, patience: int = 5) -> None:
        if not 0.0 <= mu < float("inf"):
            raise ConfigError(f"mu={mu} of the proximal term is no pull: use 0 (none) or more, for example 0.01")
        if not 0.0 < step < float("inf"):
            raise ConfigError(f"step={step} of the proximal term must be above 0: 0.1 is the paper's")
        if patience < 1:
            raise ConfigError(f"patience={patience} of the proximal term must be 1 or more: 5 is the paper's")
        self.mu = float(mu)
        self.adaptive = adaptive
        self.step = step
        self.patience = patience
        self._loss: float | None = None
        self._num_falls = 0

    def observe(self, reports: Sequence[Report]) -> None:
        """Adapt μ to the round's training loss."""
        told = [report for report in reports if report.accepted and _LOSS in report.metrics]
        total = sum(report.num_examples for report in told)
        if not self.adaptive or total == 0:
            return
        # In order of clients: the order of return must not show in the last bits.
        told = sorted(told, key=lambda report: report.client)
        loss = sum(report.num_examples * report.metrics[_LOSS] for report in told) / total
        before, self._loss = self._loss, loss
        if before is None:
            return
        self._num_falls = self._num_falls + 1 if loss < before else 0
        if loss > before:
            self.mu += self.step
        elif self._num_falls == self.patience:
            self.mu = max(0.0, self.mu - self.step)
            self._num_falls = 0

    def state_dict(self) -> dict[str, Any]:
        """Return μ and what its next change depends on."""
        return {"mu": self.mu, "loss": self._loss, "num_falls": self._num_falls}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.mu, self._loss, self._num_falls = state["mu"], state["loss"], state["num_falls"]
