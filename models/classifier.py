"""The training, validation and test steps that all classifiers here share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from fedlight.errors import ConfigError


class Classifier(LightningModule, ABC):
    """A classifier trained by cross-entropy and SGD; subclasses hold the layers and fill in ``forward``.

    A batch is ``(inputs, targets)``. Logits may have positions between the batch and the class dim (one prediction per
    token): then the targets have them too, and every position counts as one example.

    Args:
        num_classes: number of classes, at least 2.
        example_input: a batch of 2 inputs, by which a tool can trace the network.
        lr: learning rate of SGD.
        momentum: momentum of SGD, in [0, 1).
        weight_decay: L2 penalty of SGD.
        label_smoothing: share of the target mass that is spread over all classes, in [0, 1].
        class_names: names of the classes in the order of the logits.
        log_squared_loss: whether training also logs ``train/squared_loss``, the mean of the squared losses of single
            examples.

    Raises:
        ConfigError: there are names for another number of classes.
    """

    def __init__(
        self,
        num_classes: int,
        example_input: Tensor,
        *,
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        label_smoothing: float = 0.0,
        class_names: Sequence[str] | None = None,
        log_squared_loss: bool = False,
    ) -> None:
        super().__init__()
        if class_names is not None and len(class_names) != num_classes:
            raise ConfigError(
                f"class_names has {len(class_names)} names, num_classes is {num_classes}: name every class"
            )
        self.num_classes = num_classes
        self.example_input_array = example_input
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.class_names = None if class_names is None else list(class_names)
        self.log_squared_loss = log_squared_loss
        self.val_accuracy = _accuracy(num_classes)
        self.test_accuracy = _accuracy(num_classes)

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, ..., num_classes] of a batch of inputs."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean cross-entropy of one batch, logged as ``train/loss``."""
        loss, logits, targets = self._loss(batch)
        self.log("train/loss", loss, batch_size=len(targets))
        if self.log_squared_loss:
            with torch.no_grad():
                losses = functional.cross_entropy(
                    logits, targets, label_smoothing=self.label_smoothing, reduction="none"
                )
            self.log("train/squared_loss", losses.square().mean(), batch_size=len(targets))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log ``val/loss`` and ``val/accuracy``."""
        self._evaluate(batch, "val", self.val_accuracy)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log ``test/loss`` and ``test/accuracy``."""
        self._evaluate(batch, "test", self.test_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD over the parameters that are not frozen."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def _loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        inputs, targets = batch
        logits = self(inputs).flatten(0, -2)
        targets = targets.flatten()
        return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing), logits, targets

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str, accuracy: MulticlassAccuracy) -> None:
        loss, logits, targets = self._loss(batch)
        accuracy.update(logits, targets)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))
        # The attribute is named because Lightning finds metrics by id, which a copy of the module doesn't keep.
        name = f"{stage}_accuracy"
        self.log(f"{stage}/accuracy", accuracy, on_step=False, on_epoch=True, metric_attribute=name)


def _accuracy(num_classes: int) -> MulticlassAccuracy:
    # Validation of the arguments would look for the distinct values of every batch.
    return MulticlassAccuracy(num_classes, average="micro", validate_args=False)
