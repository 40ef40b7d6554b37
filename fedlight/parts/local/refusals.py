"""What a local loop can't honour in a module, said before the first round."""

from __future__ import annotations

from collections.abc import Iterable

import lightning.pytorch as pl
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import nn

from fedlight.errors import UnsupportedClientError

TRAINER_HOOKS = (
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "configure_gradient_clipping",
    "clip_gradients",
    "lr_scheduler_step",
    "on_fit_start",
    "on_fit_end",
    "on_train_start",
    "on_train_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "train_dataloader",
    "configure_callbacks",
    "configure_model",
    "configure_sharded_model",
    "prepare_data",
    "setup",
    "teardown",
)
"""Hooks of a LightningModule that only a Trainer calls."""

_WAY_OUT = "use fedlight.parts.local.TrainerLoop, or leave it out"


def refuse_untrainable(module: pl.LightningModule) -> None:
    """Raise UnsupportedClientError for what no loop can train: no training step, or layers that span processes."""
    name = type(module).__name__
    if type(module).training_step is pl.LightningModule.training_step:
        raise UnsupportedClientError(f"{name} has no training_step: define training_step(self, batch, batch_idx)")
    if is_param_in_hook_signature(module.training_step, "dataloader_iter", explicit=True):
        raise UnsupportedClientError(f"{name}.training_step takes dataloader_iter: take (self, batch, batch_idx)")
    for path, part in module.named_modules():
        if isinstance(part, nn.SyncBatchNorm):
            raise UnsupportedClientError(
                f"{path} of {name} is SyncBatchNorm, but processes train different clients: use BatchNorm"
            )


def refuse_overridden(module: pl.LightningModule, hooks: Iterable[str] = TRAINER_HOOKS) -> None:
    """Raise UnsupportedClientError if the module needs manual optimisation, or fills one of these hooks."""
    name = type(module).__name__
    if not module.automatic_optimization:
        raise UnsupportedClientError(f"{name} optimises manually, which LeanLoop can't run: {_WAY_OUT}")
    for hook in hooks:
        own = hook in module.__dict__ or getattr(type(module), hook) is not getattr(pl.LightningModule, hook)
        if own:
            raise UnsupportedClientError(f"{name} overrides {hook}, which LeanLoop doesn't call: {_WAY_OUT}")
