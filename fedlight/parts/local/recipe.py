"""The arguments that all local loops share, and what follows from them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fedlight.core.patch import patched
from fedlight.core.slots import Part
from fedlight.core.types import ClientData, Report, RoundState
from fedlight.errors import ConfigError, UnsupportedClientError
from fedlight.parts.local.optimizers import RoundSchedule, scheduler_by_round, split_configured
from fedlight.parts.local.proximal import Proximal
from fedlight.parts.local.work import LocalWork

Fill = Literal["zero", "-inf"]

Expectation = Callable[[Optimizer, float], None]
"""Raises ConfigError unless clients train as another part counts on: by this optimizer, with this μ."""

_ROUNDING = 1e-6  # a share of 3/7 of 7 steps is 3 steps


class Recipe:
    """How long a client trains, by which optimizer, on which schedule.

    Args:
        epochs: epochs over the client's data per round; not used where ``steps`` is given.
        steps: optimizer steps per round, over as many epochs as they take.
        optimizer: from parameters to optimizer; None: the module's ``configure_optimizers``.
        lr_scheduler: from optimizer to scheduler, stepped once per round; None: the module's own, likewise by round.
        gradient_clip_norm: largest L2 norm of the gradient over all parameters.
        masked_logits: what logits of classes absent at the client become; None: they are left as they are.
        label_smoothing: ε in [0, 1) of every cross-entropy in the training step.
        proximal: the pull back to the round's start; None: none.
        work: who is asked for less than the whole; None: nobody.

    Raises:
        ConfigError: a number out of its range, or neither epochs nor steps.
    """

    def __init__(
        self,
        epochs: int | None,
        steps: int | None,
        optimizer: OptimizerCallable | None,
        lr_scheduler: LRSchedulerCallable | None,
        gradient_clip_norm: float | None,
        masked_logits: Fill | None,
        label_smoothing: float,
        proximal: Proximal | None,
        work: LocalWork | None,
    ) -> None:
        if epochs is None and steps is None:
            raise ConfigError("a local loop needs epochs or steps: set one of them to 1 or more")
        for name, value in (("epochs", epochs), ("steps", steps)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} of the local loop is {value}: use 1 or more")
        if gradient_clip_norm is not None and not gradient_clip_norm > 0:
            raise ConfigError(f"gradient_clip_norm is {gradient_clip_norm}: use a number above 0, or leave it out")
        if masked_logits not in (None, "zero", "-inf"):
            raise ConfigError(f"masked_logits is {masked_logits!r}: use 'zero' or '-inf', or leave it out")
        if not 0.0 <= label_smoothing < 1.0:
            raise ConfigError(f"label_smoothing={label_smoothing} is outside [0, 1): 0.1 is usual, 0 for none")
        if label_smoothing and masked_logits == "-inf":
            raise ConfigError(
                "label_smoothing spreads the target over all classes, and masked_logits '-inf' makes the absent ones "
                "infinitely wrong: use masked_logits 'zero', or leave label_smoothing out"
            )
        self.epochs = epochs
        self.steps = steps
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.gradient_clip_norm = gradient_clip_norm
        self.masked_logits = masked_logits
        self.label_smoothing = label_smoothing
        self.proximal = proximal
        self.work = work
        self._schedule: RoundSchedule | None = None
        self._checked = False
        self._expectation: Expectation | None = None

    @property
    def max_epochs(self) -> int:
        """Epochs after which a round ends in any case: an epoch of which the module skips every batch takes no step."""
        return self.steps if self.steps is not None else self.epochs or 1

    @property
    def mu(self) -> float:
        """μ of the proximal term in this round; 0 without one."""
        return 0.0 if self.proximal is None else self.proximal.mu

    def with_terms(self, proximal: Proximal | None, work: LocalWork | None) -> Recipe:
        """Return a copy with these; raises ConfigError where the recipe has its own."""
        for name, own, other in (("proximal", self.proximal, proximal), ("work", self.work, work)):
            if own is not None and other is not None:
                raise ConfigError(f"the algorithm sets {name}, and so does its local loop: leave it out of one of them")
        recipe = copy.copy(self)
        recipe.proximal, recipe.work = self.proximal or proximal, self.work or work
        return recipe

    def expect(self, expectation: Expectation) -> None:
        """Ask this of the optimizer and μ whenever a module is checked."""
        self._expectation = expectation

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Let ``work`` get to know the algorithm's parts."""
        if self.work is not None:
            self.work.meet(parts)

    def shares(self, state: RoundState, cohort: Sequence[int], ratios: Mapping[int, float]) -> dict[int, float]:
        """Return the share of the work that every client is asked for."""
        if self.work is None:
            return dict.fromkeys(cohort, 1.0)
        return self.work.shares(state, cohort, ratios, self.max_epochs)

    def observe(self, reports: Sequence[Report]) -> None:
        """Let μ adapt and times be learnt."""
        for part in (self.proximal, self.work):
            if part is not None:
                part.observe(reports)

    def forget(self, clients: Sequence[int]) -> None:
        """Let times be forgotten."""
        if self.work is not None:
            self.work.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return what the proximal term and the work remember."""
        parts = {"proximal": self.proximal, "work": self.work}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        for name, part in (("proximal", self.proximal), ("work", self.work)):
            if part is not None:
                part.load_state_dict(state[name])

    def metrics(self) -> dict[str, float]:
        """Return μ where it changes."""
        adaptive = self.proximal is not None and self.proximal.adaptive
        return {"local/mu": self.mu} if adaptive else {}

    def limits(self, data: ClientData, share: float) -> tuple[int, int | None]:
        """Return after how many epochs and after how many steps (None: any) a round ends at this share of the work.

        A share that is a whole number of epochs stays one; any other is rounded down to steps, but not below 1.
        """
        if share == 1.0:
            return self.max_epochs, self.steps
        if self.steps is None:
            epochs = share * self.max_epochs
            if abs(epochs - round(epochs)) < _ROUNDING and round(epochs) >= 1:
                return round(epochs), None
        all_steps = self.max_epochs * max(1, data.num_batches) if self.steps is None else self.steps
        return self.max_epochs, max(1, math.floor(share * all_steps + _ROUNDING))

    def num_examples(self, data: ClientData, share: float = 1.0) -> int:
        """Return how many examples one round goes through: E·n, or steps · n / batches per epoch."""
        epochs, steps = self.limits(data, share)
        if steps is None:
            return epochs * data.num_examples
        return round(steps * data.num_examples / max(1, data.num_batches))

    def check(self, module: pl.LightningModule, standin: Any) -> None:
        """Build the optimizer once, and learn the schedule from it.

        Args:
            module: the global module.
            standin: what ``module.trainer`` is meanwhile.

        Raises:
            ConfigError: another part counts on clients that train otherwise.
            UnsupportedClientError: several optimizers, or a schedule that can't be stepped by round.
        """
        with patched(module, _trainer=standin):
            optimizers, scheduler = self._configure(module, module.configure_optimizers)
        if self._expectation is not None:
            self._expectation(optimizers[0], self.mu)
        if scheduler is not None and self.lr_scheduler is not None:
            raise UnsupportedClientError(
                f"{type(module).__name__}.configure_optimizers returns a schedule and the local loop has an "
                "lr_scheduler: keep one of them, or give the local loop an optimizer too"
            )
        if self.lr_scheduler is not None:
            scheduler = self._make_scheduler(optimizers[0])
        self._schedule = None if scheduler is None else RoundSchedule(optimizers[0], scheduler)
        self._checked = True

    def lr_factor(self, round_idx: int) -> float:
        """Return the schedule's factor for this round; 1 without a schedule."""
        if self._schedule is None and not self._checked and self.lr_scheduler is not None:
            if self.optimizer is None:
                raise ConfigError("lr_scheduler without an optimizer needs the module's: call check(module) first")
            dummy = self.optimizer([torch.nn.Parameter(torch.zeros(1))])
            self._schedule = RoundSchedule(dummy, self._make_scheduler(dummy))
        return 1.0 if self._schedule is None else self._schedule.factor(round_idx)

    def make_optimizer(self, module: pl.LightningModule, configure: Callable[[], Any], lr_factor: float) -> Optimizer:
        """Return a fresh optimizer over the module, at this round's learning rate.

        Args:
            module: the client's module.
            configure: its ``configure_optimizers``.
            lr_factor: factor on the learning rate.
        """
        optimizers, scheduler = self._configure(module, configure)
        if scheduler is not None and self._schedule is None:
            raise ConfigError(f"the schedule of {type(module).__name__} isn't known yet: call check(module) first")
        for group in optimizers[0].param_groups:
            # A scheduler changes the learning rate when it is made, and keeps what it was.
            group["lr"] = group.get("initial_lr", group["lr"]) * lr_factor
        return optimizers[0]

    def _configure(
        self, module: pl.LightningModule, configure: Callable[[], Any]
    ) -> tuple[list[Optimizer], LRScheduler | None]:
        if self.optimizer is not None:
            return [self.optimizer([p for p in module.parameters() if p.requires_grad])], None
        optimizers, schedulers = split_configured(module, configure())
        if len(optimizers) > 1:
            raise UnsupportedClientError(
                f"{type(module).__name__}.configure_optimizers returned {len(optimizers)} optimizers, but a client has "
                "one: put all parameters into one, as parameter groups, or give the local loop an optimizer"
            )
        return optimizers, scheduler_by_round(module, schedulers)

    def _make_scheduler(self, optimizer: Optimizer) -> LRScheduler:
        assert self.lr_scheduler is not None  # noqa: S101 - callers look
        scheduler = self.lr_scheduler(optimizer)
        if not isinstance(scheduler, LRScheduler) or not isinstance(optimizer, Optimizer):
            raise ConfigError(
                f"lr_scheduler of the local loop is {type(scheduler).__name__}, which can't count rounds: use one that "
                "needs no metric"
            )
        return scheduler
