"""VGG-11 for small images."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from .classifier import Classifier
from .examples import example_floats


@final
class VGG11(Classifier):
    """VGG-11 of Simonyan and Zisserman 2015 for 32x32 images: torchvision's convolutions and one linear layer.

    9,231,114 parameters with BatchNorm and 10 classes.

    Args:
        num_classes: number of classes.
        norm: ``batch`` puts a BatchNorm behind every convolution.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.
    """

    def __init__(self, num_classes: int = 10, norm: Literal["none", "batch"] = "batch", **training: Any) -> None:
        super().__init__(num_classes, example_floats(2, 3, 32, 32), **training)
        self.features = make_layers(cfgs["A"], batch_norm=norm == "batch")
        self.head = nn.Linear(512, num_classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # faster on processors and tensor cores, the more so when pruned

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes] of float images [batch, 3, 32, 32]."""
        logits: Tensor = self.head(self.features(inputs).flatten(1))
        return logits
