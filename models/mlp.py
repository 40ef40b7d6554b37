"""Multilayer perceptrons: a classifier and a regressor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, final

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanSquaredError

from .classifier import Classifier
from .examples import example_floats


@final
class MLP(Classifier):
    """Fully connected layers with ReLU between them.

    Args:
        in_features: numbers per example; more dims than that are flattened.
        num_classes: number of classes.
        hidden: units of the hidden layers.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.
    """

    def __init__(
        self, in_features: int, num_classes: int = 10, hidden: Sequence[int] = (200, 200), **training: Any
    ) -> None:
        super().__init__(num_classes, example_floats(2, in_features), **training)
        self.layers = _layers((in_features, *hidden, num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes] of float inputs [batch, ...]."""
        logits: Tensor = self.layers(inputs.flatten(1))
        return logits


@final
class MLPRegressor(LightningModule):
    """Fully connected layers with ReLU between them, trained by the mean squared error and SGD.

    A batch is ``(inputs, targets)`` with targets [batch] or [batch, out_features].

    Args:
        in_features: numbers per example.
        out_features: numbers to predict per example.
        hidden: units of the hidden layers.
        lr: learning rate of SGD.
        momentum: momentum of SGD, in [0, 1).
        weight_decay: L2 penalty of SGD.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int = 1,
        hidden: Sequence[int] = (64, 64),
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.example_input_array = example_floats(2, in_features)
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.layers = _layers((in_features, *hidden, out_features))
        self.val_mse = MeanSquaredError()
        self.test_mse = MeanSquaredError()

    def forward(self, inputs: Tensor) -> Tensor:
        """Predictions [batch, out_features] of float inputs [batch, in_features]."""
        predictions: Tensor = self.layers(inputs)
        return predictions

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error of one batch, logged as ``train/loss``."""
        predictions, targets = self._predict(batch)
        loss = functional.mse_loss(predictions, targets)
        self.log("train/loss", loss, batch_size=len(targets))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log ``val/loss`` and ``val/mse``."""
        self._evaluate(batch, "val", self.val_mse)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log ``test/loss`` and ``test/mse``."""
        self._evaluate(batch, "test", self.test_mse)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD over the parameters that are not frozen."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def _predict(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        inputs, targets = batch
        predictions = self(inputs)
        # Targets [batch] beside predictions [batch, 1] would broadcast to [batch, batch].
        return predictions, targets.reshape(predictions.shape)

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str, mse: MeanSquaredError) -> None:
        predictions, targets = self._predict(batch)
        mse.update(predictions, targets)
        loss = functional.mse_loss(predictions, targets)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))
        self.log(f"{stage}/mse", mse, on_step=False, on_epoch=True, metric_attribute=f"{stage}_mse")


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for in_features, out_features in pairwise(sizes):
        layers += [nn.Linear(in_features, out_features), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
