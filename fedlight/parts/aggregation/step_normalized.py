"""FedNova's sum: updates per unit of local work, times the mean work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from fedlight.core.slots import Aggregation, Part
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.errors import ConfigError
from fedlight.parts.aggregation.scaling import mean_, summed
from fedlight.parts.local import RecipeLoop
from fedlight.parts.sums import CoveredSum, TotalSum, in_float32
from fedlight.submodels.coverage import Coverage

_EPS = 1e-6


@final
class StepNormalized(Aggregation):
    """The official sum of FedNova: U = τ_eff Σ p m Δ / ‖a‖₁ with τ_eff = Σ p ‖a‖₁ and p the weights normalised.

    ‖a‖₁ says how many gradients a client's update is worth (:func:`normalizer`). Where it is the same for all clients
    this is the mean over all of them, FedAvg's at ratio 0 (Wang et al. 2020, FedNova, equations 7 and 8). Under
    submodels the sum goes by coordinate: ‖a‖₁ counts steps, so it corrects unequal work and no coverage, and an entry
    that a client doesn't hold counts as unchanged, as in :class:`~fedlight.parts.ResidualRecovery`. Float buffers that
    travel are merged by their coverage mean, since they don't grow with the steps.

    An update without a step moves nothing, and counts with ‖a‖₁ = 0 in τ_eff. What ‖a‖₁ is computed with must be what
    clients train with, which the first round is refused without.

    Args:
        momentum: ρ of the clients' SGD, in [0, 1); it must be the one that clients train with.
        lr_mu: η μ, learning rate times the factor of the clients' proximal term, in [0, 1); 0 without such a term.
        proximal_tau: τ_eff = Σ p τ where ``lr_mu`` > 0, as the official code has it; else Σ p ‖a‖₁ in all cases.
    """

    def __init__(self, momentum: float = 0.0, lr_mu: float = 0.0, proximal_tau: bool = True) -> None:
        for key, value in (("momentum", momentum), ("lr_mu", lr_mu)):
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"{key}={value} of StepNormalized is outside [0, 1)")
        self.momentum = momentum
        self.lr_mu = lr_mu
        self.proximal_tau = proximal_tau
        self._parameters = TotalSum()
        self._buffers = CoveredSum()
        self._like: Mapping[str, Tensor] = {}
        self._sums = [0.0, 0.0]  # Σ a, Σ a times work

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Have the local loop ask :meth:`expect` of the clients' optimizer."""
        local = parts["local"]
        if isinstance(local, RecipeLoop):
            local.expect(self.expect)

    def expect(self, optimizer: Optimizer, mu: float) -> None:
        """Raise ConfigError unless clients train by SGD with this momentum and this η μ."""
        if not isinstance(optimizer, torch.optim.SGD):
            raise ConfigError(
                f"FedNova's normaliser is that of SGD, and clients train by {type(optimizer).__name__}: use "
                "torch.optim.SGD"
            )
        for group in optimizer.param_groups:
            self._expect_group(group, mu)

    def _expect_group(self, group: Mapping[str, Any], mu: float) -> None:
        own, lr = float(group["momentum"]), float(group.get("initial_lr", group["lr"]))
        if not math.isclose(own, self.momentum, abs_tol=_EPS):
            raise ConfigError(
                f"momentum={self.momentum:g} of the algorithm isn't that of the clients' SGD, {own:g}: set it to that"
            )
        for key in ("nesterov", "dampening"):
            if own and group[key]:
                raise ConfigError(f"{key}={group[key]} of the clients' SGD isn't in FedNova's normaliser: leave it out")
        if not self.lr_mu and mu:
            raise ConfigError(f"the local loop pulls with mu={mu:g} unknown to FedNova: give mu and lr to it instead")
        if self.lr_mu and not mu:
            raise ConfigError(f"lr_mu={self.lr_mu:g} of StepNormalized is of a local loop with a proximal term: add it")
        if mu and not math.isclose(lr * mu, self.lr_mu, rel_tol=_EPS):
            raise ConfigError(
                f"lr={self.lr_mu / mu:g} of the algorithm isn't that of the clients' SGD, {lr:g}: set it to {lr:g}"
            )

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._like = state.weights
        self._sums = [0.0, 0.0]
        self._parameters.begin(state.weights)
        self._buffers.begin(state.weights, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        worth = normalizer(update.num_steps, self.momentum, self.lr_mu)
        work = float(update.num_steps) if self.lr_mu > 0 and self.proximal_tau else worth
        self._sums = [self._sums[0] + weight, self._sums[1] + in_float32(weight * work)]
        self._parameters.add(coverage, update.delta, weight / worth if worth > 0 else 0.0)
        self._buffers.add(coverage, update.buffers, weight)

    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights; empty if no process had an update."""
        weight, work = summed(self._sums, self._like, reduce)
        merged = {
            name: total.mul_(work / weight / weight).to(self._like[name].dtype)
            for name, total in self._parameters.finish(reduce)
        }
        for name, total, count in self._buffers.finish(reduce):
            merged[name] = mean_(total, count).to(self._like[name].dtype)
        return merged


def normalizer(num_steps: int, momentum: float = 0.0, lr_mu: float = 0.0) -> float:
    """Return ‖a‖₁, the weight that τ steps give to their gradients together, in units of η.

    By the recursion of SGD itself, with gradients of 1: v ← ρ v + 1 - η μ A and A ← A + v. Without momentum and
    proximal term A = τ; with momentum alone Σ_{s=1..τ} (1 - ρ^s) / (1 - ρ); with the term alone
    Σ_{s=0..τ-1} (1 - η μ)^s (Wang et al. 2020, section 4 and the official code). With both, this is what SGD with the
    term in its loss does; the official code adds both sums up, which counts twice.

    Args:
        num_steps: τ, >= 0.
        momentum: ρ in [0, 1).
        lr_mu: η μ in [0, 1).
    """
    if momentum == lr_mu == 0.0:
        return float(num_steps)
    worth, velocity = 0.0, 0.0
    for _ in range(num_steps):
        velocity = momentum * velocity + 1.0 - lr_mu * worth
        worth += velocity
    return worth
