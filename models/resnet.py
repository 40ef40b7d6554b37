"""ResNet-18 for small images, with a choice of norm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from fedlight.errors import ConfigError

from .classifier import Classifier
from .examples import example_floats

_NUM_BLOCKS = 8


def _group_norm(channels: int, num_groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(num_groups, channels)


@final
class ResNet18(Classifier):
    """ResNet-18 of He et al. 2016 for 32x32 images: 3x3 stem, no pooling behind it, 1x1 convolutions as shortcuts.

    11,173,962 parameters at width 64 with BatchNorm and 10 classes.

    Args:
        num_classes: number of classes.
        width: channels of the first stage; the stages have 1, 2, 4 and 8 times as many.
        norm: ``batch``, ``group``, ``instance`` (with scale and shift) or ``none``. Without a norm the last convolution
            of every block starts smaller by the root of the number of blocks, which keeps the activations in range.
        num_groups: groups of ``group``; divides ``width``.
        in_channels: channels of the images.
        image_size: height and width of the example input; the network takes any size from 8 upwards.
        **training: ``lr``, ``momentum``, ``weight_decay``, ``label_smoothing``, ``class_names``,
            ``log_squared_loss`` of :class:`Classifier`.

    Raises:
        ConfigError: there is no such norm, or its groups don't divide the width.
    """

    def __init__(
        self,
        num_classes: int = 10,
        width: int = 64,
        norm: Literal["batch", "group", "instance", "none"] = "batch",
        num_groups: int = 8,
        in_channels: int = 3,
        image_size: int = 32,
        **training: Any,
    ) -> None:
        super().__init__(num_classes, example_floats(2, in_channels, image_size, image_size), **training)
        norms: dict[str, Callable[..., nn.Module]] = {
            "batch": nn.BatchNorm2d,
            "group": partial(_group_norm, num_groups=num_groups),
            "instance": partial(nn.InstanceNorm2d, affine=True),
            "none": nn.Identity,
        }
        if norm not in norms:
            raise ConfigError(f"ResNet18 has no norm {norm!r}: choose one of {', '.join(norms)}")
        if norm == "group" and width % num_groups:
            raise ConfigError(f"ResNet18: num_groups {num_groups} does not divide width {width}: change one")
        norm_layer = norms[norm]
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm1 = norm_layer(width)
        self.relu = nn.ReLU()
        self.layer1 = _stage(width, width, 1, norm_layer)
        self.layer2 = _stage(width, 2 * width, 2, norm_layer)
        self.layer3 = _stage(2 * width, 4 * width, 2, norm_layer)
        self.layer4 = _stage(4 * width, 8 * width, 2, norm_layer)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8 * width, num_classes)
        self._initialise(scale_last=_NUM_BLOCKS**-0.5 if norm == "none" else 1.0)
        self.to(memory_format=torch.channels_last)  # faster on processors and tensor cores, the more so when pruned

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, classes] of float images [batch, channels, height, width]."""
        features = self.relu(self.norm1(self.conv1(inputs)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.head(self.pool(features).flatten(1))
        return logits

    def _initialise(self, scale_last: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, BasicBlock):
                    module.conv2.weight.mul_(scale_last)


def _stage(in_channels: int, channels: int, stride: int, norm_layer: Callable[..., nn.Module]) -> nn.Sequential:
    shortcut = None
    if stride != 1 or in_channels != channels:
        shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm_layer(channels))
    first = BasicBlock(in_channels, channels, stride, shortcut, norm_layer=norm_layer)
    return nn.Sequential(first, BasicBlock(channels, channels, norm_layer=norm_layer))
