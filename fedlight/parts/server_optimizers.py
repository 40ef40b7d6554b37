"""Server optimizers that torch doesn't have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from fedlight.errors import ConfigError

Rule = Literal["adagrad", "adam", "yogi"]


@final
class FedOpt(Optimizer):
    """FedAdagrad, FedAdam or FedYogi to the letter: no bias correction, and a second moment that starts at τ².

    With Δ the aggregate update: m ← β₁ m + (1 - β₁) Δ, and

    - ``adagrad``: v ← v + Δ²
    - ``adam``: v ← β₂ v + (1 - β₂) Δ²
    - ``yogi``: v ← v - (1 - β₂) Δ² sign(v - Δ²)

    then θ ← θ + lr · m / (√v + τ), with m = 0 and v = τ² at first (Reddi et al. 2021, Adaptive Federated Optimization,
    algorithm 2). τ is the degree of adaptivity: large ones make it SGD with lr / 2τ. For ``model.server_optimizer``;
    docs/server_optimizers.md says how torch's own differ.

    Args:
        params: what is optimised; gradients are -Δ, as the server sets them.
        lr: server learning rate, > 0.
        rule: how the second moment moves.
        betas: β₁ and β₂, each in [0, 1). The paper takes β₁ = 0 with ``adagrad``.
        tau: τ > 0; the paper's grid is 10⁻⁵ to 10⁻¹, 10⁻³ its usual choice.

    Raises:
        ConfigError: a constant out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        rule: Rule = "yogi",
        betas: tuple[float, float] = (0.9, 0.99),
        tau: float = 1e-3,
    ) -> None:
        if rule not in ("adagrad", "adam", "yogi"):
            raise ConfigError(f"server_optimizer: rule={rule!r} is unknown to FedOpt: use 'adagrad', 'adam' or 'yogi'")
        for key, value in (("lr", lr), ("tau", tau)):
            if not value > 0:
                raise ConfigError(f"server_optimizer: {key}={value} of FedOpt must be above 0")
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ConfigError(f"server_optimizer: betas={tuple(betas)} of FedOpt must each lie in [0, 1)")
        super().__init__(params, {"lr": lr, "rule": rule, "betas": tuple(betas), "tau": tau})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return what ``closure``, if any, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta, tau = group["betas"][0], group["tau"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["m"] = torch.zeros_like(parameter)
                    state["v"] = torch.full_like(parameter, tau**2)
                state["m"].lerp_(-parameter.grad, 1 - beta)
                _move_(state["v"], parameter.grad.square(), group["rule"], group["betas"][1])
                parameter.addcdiv_(state["m"], state["v"].sqrt() + tau, value=group["lr"])
        return loss


def _move_(v: Tensor, square: Tensor, rule: Rule, beta: float) -> None:
    if rule == "adagrad":
        v.add_(square)
    elif rule == "adam":
        v.lerp_(square, 1 - beta)
    else:
        v.addcmul_(square, torch.sign(v - square), value=beta - 1)
