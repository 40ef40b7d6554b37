"""MobileNetV2 for small images."""

from __future__ import annotations

from typing import Any, final

import torch
import torchvision
from torch import Tensor

from .classifier import Classifier
from .examples import example_floats

_STAGES = [  # expansion, channels, blocks, stride: as published, but two strides are 1
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


@final
class MobileNetV2(Classifier):
    """MobileNetV2 of Sandler et al. 2018 for 32x32 images: torchvision's, which reduces by 8 here instead of 32.

    2,236,682 parameters at width 1 with 10 classes.

    Args:
        num_classes: number of classes.
        width: factor on all numbers of channels.
        dropout: dropout rate before the last layer.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.
    """

    def __init__(self, num_classes: int = 10, width: float = 1.0, dropout: float = 0.2, **training: Any) -> None:
        super().__init__(num_classes, example_floats(2, 3, 32, 32), **training)
        self.network = torchvision.models.MobileNetV2(num_classes, width, _STAGES, dropout=dropout)
        self.network.features[0][0].stride = (1, 1)
        self.to(memory_format=torch.channels_last)  # faster on processors and tensor cores, the more so when pruned

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes] of float images [batch, 3, height, width]."""
        logits: Tensor = self.network(inputs)
        return logits
