"""Training with a Trainer of the client's own."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, final

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.optim import Optimizer

from fedlight.core.patch import patched
from fedlight.core.records import Records
from fedlight.core.seeds import torch_generator
from fedlight.core.slots import LocalResult
from fedlight.core.standin import NoTrainer
from fedlight.core.types import ClientData, ClientTask
from fedlight.errors import ConfigError, UnsupportedClientError
from fedlight.parts.local.logits import LogitMask, masked_logits
from fedlight.parts.local.proximal import Proximal
from fedlight.parts.local.recipe import Fill, Recipe
from fedlight.parts.local.recipe_loop import RecipeLoop
from fedlight.parts.local.refusals import refuse_untrainable
from fedlight.parts.local.smoothing import SmoothedLabels, smoothed_labels
from fedlight.parts.local.steps import StepWatch
from fedlight.parts.local.work import LocalWork

_SET_HERE = frozenset(
    {
        "accelerator", "strategy", "devices", "num_nodes", "logger", "max_epochs", "max_steps", "gradient_clip_val",
        "gradient_clip_algorithm", "enable_checkpointing", "plugins", "use_distributed_sampler", "barebones",
    }
)  # fmt: skip


@final
class TrainerLoop(RecipeLoop):
    """Trains a LightningModule by a Trainer per client and round, for modules that need one.

    Honours what :class:`LeanLoop` refuses: manual optimisation, hooks of an epoch or a fit, callbacks. It gives the
    same weights for the same seed, bit for bit, and costs some 10 ms more per client. The Trainer runs in this process
    on the module's device, logs to no logger, writes nothing and knows nothing of the server's other processes.
    With manual optimisation the module steps its own optimizers, at its own learning rates.

    Args:
        epochs: as for :class:`LeanLoop`, and so are the next eight.
        steps: optimizer steps per round.
        optimizer: from parameters to optimizer.
        lr_scheduler: from optimizer to scheduler, stepped once per round.
        gradient_clip_norm: largest L2 norm of the gradient.
        masked_logits: what logits of absent classes become.
        label_smoothing: ε of every cross-entropy in the training step.
        proximal: the pull back to the weights that the client was sent.
        work: who is asked for less than the whole work.
        trainer_kwargs: further arguments of ``lightning.Trainer``; callbacks are copied for each client.

    Raises:
        ConfigError: a number out of its range, or an argument of the Trainer that the loop sets itself.
    """

    def __init__(
        self,
        epochs: int | None = 1,
        steps: int | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        gradient_clip_norm: float | None = None,
        masked_logits: Fill | None = None,
        label_smoothing: float = 0.0,
        proximal: Proximal | None = None,
        work: LocalWork | None = None,
        trainer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.recipe = Recipe(
            epochs, steps, optimizer, lr_scheduler, gradient_clip_norm, masked_logits, label_smoothing, proximal, work
        )
        self._trainer_kwargs = dict(trainer_kwargs or {})
        taken = sorted(_SET_HERE & self._trainer_kwargs.keys())
        if taken:
            raise ConfigError(
                f"trainer_kwargs of TrainerLoop holds {taken[0]}, which the loop sets itself: leave it out"
            )

    def check(self, module: pl.LightningModule) -> None:
        """Raise UnsupportedClientError if not even a Trainer can train the module as it is."""
        refuse_untrainable(module)
        name = type(module).__name__
        if module.automatic_optimization:
            reason = "configure_optimizers is called once before there is a Trainer, to learn the schedule by round"
            self.recipe.check(module, NoTrainer(name, reason))
            return
        for argument in ("optimizer", "lr_scheduler", "gradient_clip_norm"):
            if getattr(self.recipe, argument) is not None:
                raise UnsupportedClientError(
                    f"{name} optimises manually, so {argument} of TrainerLoop has no effect: leave it out"
                )

    def fit(self, module: pl.LightningModule, data: ClientData, task: ClientTask) -> LocalResult:
        """Train ``module`` in place."""
        recipe, records, watch = self.recipe, Records(then=module.log), StepWatch(module, task, self.recipe.mu)
        device = next(module.parameters()).device
        configure = module.configure_optimizers

        def configured() -> Optimizer:
            return recipe.make_optimizer(module, configure, task.lr_factor)

        with ExitStack() as lent:
            lent.enter_context(patched(module, log=records.log))
            if module.automatic_optimization:
                lent.enter_context(patched(module, configure_optimizers=configured))
            mask = lent.enter_context(masked_logits(module, data, task, recipe.masked_logits))
            smoothed = lent.enter_context(smoothed_labels(module, recipe.label_smoothing))
            lent.enter_context(_quiet())
            trainer = self._trainer(
                device, _Observer(records, watch, (mask, smoothed)), *recipe.limits(data, task.share)
            )
            generator = torch_generator(task.seed, task.round_idx, task.client, "batches")
            trainer.fit(module, train_dataloaders=_Epochs(data, generator))
            # A Trainer is a web of references that waits for garbage collection: what weighs is let go at once.
            trainer.strategy.optimizers = []
            module.to(device)
        labels = None if mask is None else mask.present
        return LocalResult(watch.num_steps, records.results(), watch.statistics, labels)

    def _trainer(
        self, device: torch.device, observer: pl.Callback, max_epochs: int, max_steps: int | None
    ) -> pl.Trainer:
        defaults: dict[str, Any] = {
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            # A fit sets this switch of the whole process.
            "detect_anomaly": torch.is_anomaly_enabled(),
        }
        arguments = {**defaults, **self._trainer_kwargs}
        callbacks = copy.deepcopy(arguments.pop("callbacks", None)) or []
        return pl.Trainer(
            **arguments,
            callbacks=[observer, *(callbacks if isinstance(callbacks, list) else [callbacks])],
            accelerator="gpu" if device.type == "cuda" else device.type,
            strategy=SingleDeviceStrategy(device=device),
            devices=1,
            # Named, so that a cluster's or torchrun's variables of the outer run aren't read.
            plugins=[LightningEnvironment()],
            logger=False,
            enable_checkpointing=False,
            max_epochs=max_epochs,
            max_steps=-1 if max_steps is None else max_steps,
            gradient_clip_val=self.recipe.gradient_clip_norm,
            gradient_clip_algorithm="norm",
            use_distributed_sampler=False,
        )


class _Observer(pl.Callback):
    """Tells the records and the step watch what the Trainer does."""

    def __init__(self, records: Records, watch: StepWatch, checks: Sequence[LogitMask | SmoothedLabels | None]) -> None:
        self._records = records
        self._watch = watch
        self._checks = [check for check in checks if check is not None]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for optimizer in trainer.optimizers:
            self._watch.attach(optimizer)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, idx: int) -> None:
        self._records.begin_batch(batch)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._watch.after_backward()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        for check in self._checks:
            check.check_used()
        self._watch.before_step(optimizer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning divides the loss by the batches that it sums gradients over.
        self._records.end_batch(outputs, trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._records.end_epoch(reset=False)


class _Epochs:
    """A client's batches as a loader, in the order of the lean loop."""

    def __init__(self, data: ClientData, generator: torch.Generator) -> None:
        self._data = data
        self._generator = generator

    def __len__(self) -> int:
        return self._data.num_batches

    def __iter__(self) -> Iterator[Any]:
        return self._data.epoch(self._generator)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep a Trainer's advice to itself: it would come once per client and round."""
    talkers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [talker.level for talker in talkers]
    for talker in talkers:
        talker.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", ".*treespec, LeafSpec", FutureWarning)  # lightning 2.6 under torch 2.15
            yield
    finally:
        for talker, level in zip(talkers, levels, strict=True):
            talker.setLevel(level)
