"""Training without a Trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlight.core.patch import patched
from fedlight.core.records import Records
from fedlight.core.seeds import torch_generator
from fedlight.core.slots import LocalResult
from fedlight.core.standin import NoTrainer
from fedlight.core.types import ClientData, ClientTask
from fedlight.errors import UnsupportedClientError
from fedlight.parts.local.logits import LogitMask, masked_logits
from fedlight.parts.local.proximal import Proximal
from fedlight.parts.local.recipe import Fill, Recipe
from fedlight.parts.local.recipe_loop import RecipeLoop
from fedlight.parts.local.refusals import refuse_overridden, refuse_untrainable
from fedlight.parts.local.smoothing import SmoothedLabels, smoothed_labels
from fedlight.parts.local.steps import StepWatch
from fedlight.parts.local.work import LocalWork

_NO_TRAINER = "LeanLoop has no Trainer: use fedlight.parts.local.TrainerLoop, or leave it out"


@final
class LeanLoop(RecipeLoop):
    """Trains a LightningModule by its own hooks, without the cost of a Trainer per client.

    Calls ``configure_optimizers``, ``training_step`` and every hook of a batch in Lightning's order, catches
    ``self.log``, and gives the same weights as :class:`TrainerLoop` bit for bit. The optimizer is fresh in every round,
    so no momentum comes over from another global model (spec of FedAvg: McMahan et al. 2017, algorithm 1).
    ``self.trainer`` knows ``current_epoch`` and ``global_step`` of this client's round; all else of it is refused.

    Args:
        epochs: epochs over the client's data per round, >= 1; not used where ``steps`` is given.
        steps: optimizer steps per round, >= 1, over as many epochs as they take.
        optimizer: from parameters to optimizer; None: the module's own ``configure_optimizers``.
        lr_scheduler: from optimizer to scheduler; stepped once per round, its factor on the learning rate holds for
            the whole round. None: the scheduler that ``configure_optimizers`` returns, if any, likewise by round.
        gradient_clip_norm: gradients are scaled down to this L2 norm over all parameters.
        masked_logits: logits of the classes that a client doesn't have become 0 (``zero``, HeteroFL) or -∞ (``-inf``);
            None: they are left as they are.
        label_smoothing: ε in [0, 1): targets of every cross-entropy in the training step become (1 - ε)·onehot + ε/K.
        proximal: the pull back to the weights that the client was sent; None: none.
        work: who is asked for less than the whole work, in epochs or (where those don't divide) in steps; None: nobody.

    Raises:
        ConfigError: a number out of its range, or neither epochs nor steps.
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
    ) -> None:
        self.recipe = Recipe(
            epochs, steps, optimizer, lr_scheduler, gradient_clip_norm, masked_logits, label_smoothing, proximal, work
        )

    def check(self, module: pl.LightningModule) -> None:
        """Raise UnsupportedClientError, with the hook's name, if the module needs what only a Trainer does."""
        refuse_untrainable(module)
        refuse_overridden(module)
        self.recipe.check(module, NoTrainer(type(module).__name__, _NO_TRAINER))

    def fit(self, module: pl.LightningModule, data: ClientData, task: ClientTask) -> LocalResult:
        """Train ``module`` in place."""
        recipe, records, watch = self.recipe, Records(), StepWatch(module, task, self.recipe.mu)
        trainer = NoTrainer(type(module).__name__, _NO_TRAINER)
        with ExitStack() as lent:
            lent.enter_context(patched(module, log=records.log, _trainer=trainer))
            mask = lent.enter_context(masked_logits(module, data, task, recipe.masked_logits))
            smoothed = lent.enter_context(smoothed_labels(module, recipe.label_smoothing))
            optimizer = recipe.make_optimizer(module, module.configure_optimizers, task.lr_factor)
            watch.attach(optimizer)
            run = _Run(module, optimizer, records, watch, recipe.gradient_clip_norm, (mask, smoothed))
            generator = torch_generator(task.seed, task.round_idx, task.client, "batches")
            max_epochs, max_steps = recipe.limits(data, task.share)
            for epoch in range(max_epochs):
                trainer.current_epoch = epoch
                run.epoch(data.epoch(generator), trainer, max_steps)
                records.end_epoch(reset=True)
                if max_steps is not None and trainer.global_step >= max_steps:
                    break
        labels = None if mask is None else mask.present
        return LocalResult(watch.num_steps, records.results(), watch.statistics, labels)


class _Run:
    """One client's batches; the order of hooks is that of lightning.pytorch.loops.training_epoch_loop."""

    def __init__(
        self,
        module: pl.LightningModule,
        optimizer: Optimizer,
        records: Records,
        watch: StepWatch,
        clip_norm: float | None,
        checks: Sequence[LogitMask | SmoothedLabels | None],
    ) -> None:
        self._module = module
        self._optimizer = optimizer
        self._records = records
        self._watch = watch
        self._clip_norm = clip_norm
        self._checks = [check for check in checks if check is not None]
        self._device = next(module.parameters()).device
        self._takes_idx = is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2)

    def epoch(self, batches: Any, trainer: NoTrainer, steps: int | None) -> None:
        """Train one epoch, or up to the given number of steps."""
        module, records = self._module, self._records
        for batch_idx, sent in enumerate(batches):
            batch = module.on_before_batch_transfer(sent, 0)
            batch = module.transfer_batch_to_device(batch, self._device, 0)
            batch = module.on_after_batch_transfer(batch, 0)
            records.begin_batch(batch)
            if module.on_train_batch_start(batch, batch_idx) == -1:
                return
            outputs = self._step(batch, batch_idx)
            trainer.global_step += 1
            module.on_train_batch_end(outputs, batch, batch_idx)
            records.end_batch(outputs)
            if trainer.global_step == steps:
                return

    def _step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        outputs: dict[str, Any] = {}

        def closure() -> Any:
            step_output = self._module.training_step(*((batch, batch_idx) if self._takes_idx else (batch,)))
            for check in self._checks:
                check.check_used()
            loss = self._read(step_output, outputs)
            self._backward(loss)
            return loss

        self._optimizer.step(closure)
        return outputs

    def _backward(self, loss: Tensor | None) -> None:
        module, optimizer, watch = self._module, self._optimizer, self._watch
        module.on_before_zero_grad(optimizer)
        optimizer.zero_grad()
        if loss is not None:
            module.on_before_backward(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            watch.after_backward()
            module.on_after_backward()
        watch.before_step(optimizer)
        module.on_before_optimizer_step(optimizer)
        if self._clip_norm is not None:
            stepped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(stepped, self._clip_norm)

    def _read(self, step_output: Any, outputs: dict[str, Any]) -> Tensor | None:
        """Return the loss, and fill in what ``on_train_batch_end`` gets."""
        if step_output is None:
            return None
        found = step_output if isinstance(step_output, Mapping) else {"loss": step_output}
        loss = found.get("loss")
        if not isinstance(loss, Tensor):
            raise UnsupportedClientError(
                f"{type(self._module).__name__}.training_step returned {type(step_output).__name__} without a loss: "
                "return a tensor, a dict with a tensor under 'loss', or None to skip the batch"
            )
        outputs.update(found)
        outputs["loss"] = loss.detach().clone()
        return loss
