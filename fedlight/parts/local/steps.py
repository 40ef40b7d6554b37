"""What happens around every optimizer step of a client: statistics are summed and masks are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from fedlight.core.types import ClientTask, State


class StepWatch:
    """Sums statistics over a client's steps, and keeps uncovered entries at exactly zero.

    Statistics are of the gradient g as the loss gives it, before masks, clipping and weight decay, and of the
    parameters θ before the step: Σ|g|, Σg², Σ(g·θ)² and Σg. Entries that a mask leaves out have g ≠ 0 there, which
    tells whether they should grow back; for the optimizer and for clipping their gradient is 0. The gradient
    μ·(θ - θ_start) of a proximal term is added after the statistics are taken.

    Args:
        module: the client's module.
        task: names the statistics, holds the masks and the weights that training starts from.
        mu: μ of the proximal term; 0: none.

    Attributes:
        num_steps: optimizer steps that had a gradient.
        statistics: statistic to parameter name to sums.
    """

    def __init__(self, module: pl.LightningModule, task: ClientTask, mu: float = 0.0) -> None:
        self.num_steps = 0
        # abs_change is the update itself: run_client has it.
        wanted = sorted(task.statistics & _SUMS.keys())
        trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._mu = mu
        self._starts = {parameter: task.weights[name] for name, parameter in trainable.items()} if mu else {}
        self._trainable = trainable if wanted else {}
        self.statistics: dict[str, State] = {
            statistic: {name: torch.zeros_like(parameter) for name, parameter in self._trainable.items()}
            for statistic in wanted
        }
        self._uncovered = {
            module.get_parameter(name): ~mask for name, mask in (task.masks or {}).items() if not bool(mask.all())
        }
        self._has_gradient = False

    def attach(self, optimizer: Optimizer) -> None:
        """Have :meth:`after_step` called after every step of the optimizer, whoever steps it."""
        optimizer.register_step_post_hook(self._after_step)

    def after_backward(self) -> None:
        """Note that there is a gradient to step on."""
        self._has_gradient = True

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer) -> None:
        """Take the statistics of the optimizer's gradients, add the proximal term's, then mask them."""
        if not self._has_gradient:
            return
        if self.statistics or self._starts:
            stepped = {parameter for group in optimizer.param_groups for parameter in group["params"]}
            for name, parameter in self._trainable.items():
                if parameter.grad is not None and parameter in stepped:
                    for statistic, sums in self.statistics.items():
                        _SUMS[statistic](sums[name], parameter.grad, parameter)
            for parameter in self._starts.keys() & stepped:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - self._starts[parameter], alpha=self._mu)
        for parameter, uncovered in self._uncovered.items():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(uncovered, 0)

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._has_gradient:
            self.num_steps += 1
        self._has_gradient = False
        for parameter, uncovered in self._uncovered.items():
            parameter.masked_fill_(uncovered, 0)


def _add_abs_grad(total: Tensor, gradient: Tensor, parameter: Tensor) -> None:
    total += gradient.abs()


def _add_sq_grad(total: Tensor, gradient: Tensor, parameter: Tensor) -> None:
    total.addcmul_(gradient, gradient)


def _add_gradient(total: Tensor, gradient: Tensor, parameter: Tensor) -> None:
    total += gradient


def _add_taylor(total: Tensor, gradient: Tensor, parameter: Tensor) -> None:
    product = gradient * parameter
    total.addcmul_(product, product)


_SUMS: dict[str, Callable[[Tensor, Tensor, Tensor], None]] = {
    "abs_grad": _add_abs_grad,
    "sq_grad": _add_sq_grad,
    "taylor": _add_taylor,
    "sum_grad": _add_gradient,
}
