"""Masked cross-entropy over a module that knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from fedlight.core.patch import patched
from fedlight.core.types import ClientData, ClientTask
from fedlight.errors import DataError, UnsupportedClientError
from fedlight.parts.local.recipe import Fill


class LogitMask:
    """Stands in for a module's ``forward`` and overwrites the logits of the classes that a client doesn't have.

    With z' = z where the class is present and 0 (or -∞) where it is absent, any cross-entropy of the output is the
    masked one. The gradient of absent logits is exactly 0 in both cases. Filled with 0, absent classes stay in the
    softmax's denominator with weight e⁰; filled with -∞ they leave it, and label smoothing can't be used.
    Source: Diao et al. 2021 (HeteroFL), section 3, fill 0.

    Args:
        module: its forward must return raw logits, [batch, ..., num_classes].
        data: the client's data, with label counts.
        task: for its client's number.
        fill: ``zero`` or ``-inf``.

    Raises:
        DataError: the data have no class labels.
    """

    def __init__(self, module: pl.LightningModule, data: ClientData, task: ClientTask, fill: Fill) -> None:
        counts = data.label_counts()
        if counts is None:
            raise DataError(
                f"masked_logits (HeteroFL's default) needs class labels, and the data of client {task.client} have "
                "none: leave it out by `--model.algorithm.local LeanLoop`, or use a labelled data set"
            )
        self.present: Tensor = counts > 0
        self._absent = ~self.present.to(next(module.parameters()).device)
        self._fill = 0.0 if fill == "zero" else -torch.inf
        self._forward = module.forward
        self._name = type(module).__name__
        self.num_calls = 0

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call the module's forward and mask what it returns."""
        logits = self._forward(*args, **kwargs)
        self.num_calls += 1
        if not isinstance(logits, Tensor) or logits.ndim < 2 or logits.shape[-1] != len(self._absent):
            what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise UnsupportedClientError(
                f"masked_logits needs {self._name}.forward to return logits [batch, ..., {len(self._absent)}], it "
                f"returned {what}: change forward, or leave masked_logits out"
            )
        return logits.masked_fill(self._absent, self._fill)

    def check_used(self) -> None:
        """Raise UnsupportedClientError if a training step went by without a call: its loss was not masked."""
        if not self.num_calls:
            raise UnsupportedClientError(
                f"masked_logits needs {self._name}.training_step to get its logits from self(...), which it didn't "
                "call: call self(...) there, or leave masked_logits out"
            )


@contextmanager
def masked_logits(
    module: pl.LightningModule, data: ClientData, task: ClientTask, fill: Fill | None
) -> Iterator[LogitMask | None]:
    """Mask the module's ``forward`` meanwhile; None where there is nothing to fill."""
    if fill is None:
        yield None
        return
    mask = LogitMask(module, data, task, fill)
    with patched(module, forward=mask.forward):
        yield mask
