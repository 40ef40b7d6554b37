"""Settings that can't mean what they say in a federated run, refused before anything is computed."""

from __future__ import annotations

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.pytorch.utilities.model_helpers import is_overridden

from fedlight.errors import CheckpointError, ConfigError, UnsupportedClientError

LIMITS = ("max_epochs", "max_steps")
"""Settings of the Trainer that limit the rounds."""


def check_trainer(trainer: Namespace) -> None:
    """Raise ConfigError where a setting of the Trainer would train nothing, or is the clients' own."""
    for key in LIMITS:
        value = trainer.get(key)
        if value is not None and (value == 0 or value < -1):
            raise ConfigError(f"trainer.{key} is {value}, which trains nothing; give a number of rounds, 1 or more")
    if trainer.get("limit_train_batches") == 0:
        raise ConfigError("trainer.limit_train_batches is 0, which trains nothing; leave it out")
    clip = trainer.get("gradient_clip_val")
    if clip:
        raise ConfigError(
            f"trainer.gradient_clip_val is {clip:g}, but the Trainer's steps are rounds of the server; to clip on the "
            f"clients set gradient_clip_norm: {clip:g} of the local loop (model.algorithm.local, say a LeanLoop)"
        )
    batches = trainer.get("accumulate_grad_batches")
    if batches not in (None, 1):
        raise ConfigError(
            f"trainer.accumulate_grad_batches is {batches}, but the Trainer's steps are rounds of the server; raise "
            "data.batch_size, or the epochs of the local loop (model.algorithm.local, say a LeanLoop)"
        )


def check_evaluation(subcommand: str, ckpt_path: str | None, init_weights: str | None) -> None:
    """Raise CheckpointError if ``validate`` or ``test`` would score weights that nobody has trained."""
    if subcommand in ("validate", "test") and ckpt_path is None and init_weights is None:
        raise CheckpointError(
            f"fedlight {subcommand} needs --ckpt_path CKPT (a run keeps its own as <logs>/checkpoints/last.ckpt), or "
            "--model.init_weights FILE; without them the weights are random"
        )


def check_step(subcommand: str, client: pl.LightningModule) -> None:
    """Raise UnsupportedClientError if the module lacks the step that ``validate`` or ``test`` would call."""
    step = {"validate": "validation_step", "test": "test_step"}.get(subcommand)
    if step is not None and not is_overridden(step, client, pl.LightningModule):
        raise UnsupportedClientError(
            f"{type(client).__name__} has no {step}, so fedlight {subcommand} has nothing to log; add one"
        )
