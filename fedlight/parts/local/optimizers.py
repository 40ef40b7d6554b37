"""What a module's ``configure_optimizers`` returned, and a learning-rate schedule that counts rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fedlight.errors import UnsupportedClientError

_SHAPES = "return an optimizer, or a dict of optimizer and lr_scheduler, or a pair of lists"


def split_configured(module: pl.LightningModule, configured: Any) -> tuple[list[Optimizer], list[Any]]:
    """Return the optimizers and the schedulers of any shape that Lightning accepts.

    Raises:
        UnsupportedClientError: there is no optimizer in it.
    """
    optimizers: list[Any] = []
    schedulers: list[Any] = []
    entries = configured if isinstance(configured, list | tuple) else [configured]
    if len(entries) == 2 and isinstance(entries[0], list | tuple):
        optimizers = list(entries[0])
        schedulers = list(entries[1]) if isinstance(entries[1], list | tuple) else [entries[1]]
    else:
        for entry in entries:
            found = entry if isinstance(entry, dict) else {"optimizer": entry}
            optimizers.append(found.get("optimizer"))
            schedulers += [found["lr_scheduler"]] if found.get("lr_scheduler") is not None else []
    if not optimizers or not all(isinstance(optimizer, Optimizer) for optimizer in optimizers):
        raise UnsupportedClientError(f"{type(module).__name__}.configure_optimizers returned no optimizer: {_SHAPES}")
    return optimizers, schedulers


def scheduler_by_round(module: pl.LightningModule, schedulers: Sequence[Any]) -> LRScheduler | None:
    """Return the one scheduler that can be stepped once per round, None where there is none.

    Raises:
        UnsupportedClientError: it counts steps, waits for a metric, or there are several.
    """
    if not schedulers:
        return None
    name = type(module).__name__
    options = dict(schedulers[0]) if isinstance(schedulers[0], dict) else {"scheduler": schedulers[0]}
    scheduler = options.pop("scheduler", None)
    way_out = "give the local loop an lr_scheduler (stepped once per round) and return the optimizer alone"
    if len(schedulers) > 1:
        raise UnsupportedClientError(f"{name}.configure_optimizers returned {len(schedulers)} schedulers: {way_out}")
    if isinstance(scheduler, ReduceLROnPlateau) or not isinstance(scheduler, LRScheduler):
        kind = type(scheduler).__name__
        raise UnsupportedClientError(
            f"{name}.configure_optimizers returned {kind}, which can't count rounds: {way_out}"
        )
    if options.get("interval", "epoch") != "epoch" or options.get("frequency", 1) != 1:
        raise UnsupportedClientError(
            f"{name}.configure_optimizers returned a schedule that doesn't step once per epoch; a round stands for an "
            f"epoch here: {way_out}"
        )
    return scheduler


class RoundSchedule:
    """Factors on the learning rate, one per round: lr(t) / lr_base, from a scheduler stepped once per round.

    Each factor is computed once. Clients' own optimizers start afresh in every round, so the scheduler turns an
    optimizer here that trains nothing.

    Args:
        optimizer: what the scheduler was made for; its parameters are let go.
        scheduler: stepped once per round.
    """

    def __init__(self, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        for group in optimizer.param_groups:
            group["params"] = [torch.nn.Parameter(torch.zeros(1))]
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._factors = [self._factor()]

    def factor(self, round_idx: int) -> float:
        """Return the factor of one round; raises UnsupportedClientError if parameter groups differ in it."""
        while len(self._factors) <= round_idx:
            self._optimizer.step()
            self._scheduler.step()
            self._factors.append(self._factor())
        return self._factors[round_idx]

    def _factor(self) -> float:
        groups = [group for group in self._optimizer.param_groups if group["initial_lr"]]
        factors = [float(group["lr"]) / float(group["initial_lr"]) for group in groups] or [1.0]
        if max(factors) - min(factors) > 1e-9 * max(factors):
            raise UnsupportedClientError(
                f"{type(self._scheduler).__name__} changes the learning rates of its parameter groups by different "
                f"factors, from {min(factors):g} to {max(factors):g}: use one schedule for all groups"
            )
        return factors[0]
