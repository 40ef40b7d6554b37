"""Small convolutional networks: two convolutions and two fully connected layers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from fedlight.errors import ConfigError

from .classifier import Classifier
from .examples import example_floats

Variant = Literal["digits", "mnist", "fedmp", "cifar", "cifar5x5"]


@dataclass(frozen=True)
class _Layout:
    """Sizes of one variant; ``flat`` is the number of features that the convolutions leave."""

    example_shape: tuple[int, int, int]
    channels: tuple[int, int]
    kernel: int
    padding: int
    pool_after_first: bool
    flat: int
    hidden: int
    dropouts: tuple[float, float] = (0.0, 0.0)


_LAYOUTS: dict[str, _Layout] = {
    "digits": _Layout((1, 8, 8), (16, 32), 3, 1, False, 32 * 4 * 4, 64),
    "mnist": _Layout((1, 28, 28), (32, 64), 5, 2, True, 64 * 7 * 7, 512),
    "fedmp": _Layout((1, 28, 28), (32, 64), 5, 0, True, 64 * 4 * 4, 512),
    "cifar5x5": _Layout((3, 32, 32), (32, 64), 5, 0, True, 64 * 5 * 5, 512),
    "cifar": _Layout((3, 32, 32), (32, 64), 3, 0, False, 64 * 14 * 14, 128, (0.25, 0.5)),
}


@final
class ConvNet(Classifier):
    """Two convolutions and two fully connected layers, in the sizes that the literature uses.

    | variant | input | layers | parameters |
    |---|---|---|---|
    | digits | 1x8x8 | conv 3x3 16, conv 3x3 32, pool, 64 | 38,282 |
    | mnist | 1x28x28 | conv 5x5 32, pool, conv 5x5 64, pool, 512 (McMahan et al. 2017, section 3) | 1,663,370 |
    | fedmp | 1x28x28 | the same without padding | 582,026 |
    | cifar5x5 | 3x32x32 | fedmp's on colour images (PFLlib's FedAvgCNN), half the MACs of the next | 878,538 |
    | cifar | 3x32x32 | conv 3x3 32, conv 3x3 64, pool, dropout .25, 128, dropout .5 (Reddi et al. 2021) | 1,626,442 |

    Args:
        variant: which of these.
        num_classes: number of classes.
        norm: ``batch`` puts a BatchNorm behind every convolution.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.

    Raises:
        ConfigError: there is no such variant.
    """

    def __init__(
        self,
        variant: Variant = "digits",
        num_classes: int = 10,
        norm: Literal["none", "batch"] = "none",
        **training: Any,
    ) -> None:
        if variant not in _LAYOUTS:
            raise ConfigError(f"ConvNet has no variant {variant!r}: choose one of {', '.join(_LAYOUTS)}")
        layout = _LAYOUTS[variant]
        super().__init__(num_classes, example_floats(2, *layout.example_shape), **training)
        self.layers = nn.Sequential(_layers(layout, num_classes, norm == "batch"))
        self.to(memory_format=torch.channels_last)  # faster on processors and tensor cores, the more so when pruned

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes] of float images [batch, channels, height, width]."""
        logits: Tensor = self.layers(inputs)
        return logits


def _layers(layout: _Layout, num_classes: int, batch_norm: bool) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    in_channels = layout.example_shape[0]
    for index, (channels, pool) in enumerate(
        zip(layout.channels, (layout.pool_after_first, True), strict=True), start=1
    ):
        layers[f"conv{index}"] = nn.Conv2d(in_channels, channels, layout.kernel, padding=layout.padding)
        if batch_norm:
            layers[f"norm{index}"] = nn.BatchNorm2d(channels)
        layers[f"relu{index}"] = nn.ReLU()
        if pool:
            layers[f"pool{index}"] = nn.MaxPool2d(2)
        in_channels = channels
    before_hidden, before_head = layout.dropouts
    if before_hidden:
        layers["dropout1"] = nn.Dropout(before_hidden)
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(layout.flat, layout.hidden)
    layers["relu3"] = nn.ReLU()
    if before_head:
        layers["dropout2"] = nn.Dropout(before_head)
    layers["head"] = nn.Linear(layout.hidden, num_classes)
    return layers
