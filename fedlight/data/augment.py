"""Random changes to the inputs of training batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from fedlight.errors import ConfigError


class Augmentation(ABC):
    """Changes a batch of inputs at random; evaluation never sees it."""

    @abstractmethod
    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed inputs, shape [B, ...]; all randomness comes from ``generator``."""


@final
class CropFlip(Augmentation):
    """Pads each image with zeros, cuts it back at a random place, and mirrors it half the time.

    The usual recipe for CIFAR; zeros are the mean colour once images are normalised. Drawn per image.
    Source: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.

    Args:
        padding: pixels on each side, >= 0.
        flip: probability of a horizontal mirror image, in [0, 1].
    """

    def __init__(self, padding: int = 4, flip: float = 0.5) -> None:
        if padding < 0 or not 0 <= flip <= 1:
            raise ConfigError(f"CropFlip(padding={padding}, flip={flip}): use padding >= 0 and flip in [0, 1]")
        self.padding = padding
        self.flip = flip

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of the same shape [B, C, H, W]."""
        count, _, height, width = inputs.shape
        padded = functional.pad(inputs, (self.padding,) * 4)
        corner = torch.randint(2 * self.padding + 1, (2, count, 1), generator=generator)
        rows = corner[0] + torch.arange(height)
        columns = corner[1] + torch.arange(width)
        mirrored = torch.rand(count, 1, generator=generator) < self.flip
        columns = torch.where(mirrored, columns.flip(1), columns)
        image = torch.arange(count).view(-1, 1, 1)
        # Indexed dimensions come first: [B, H, W, C].
        return padded[image, :, rows.unsqueeze(2), columns.unsqueeze(1)].movedim(-1, 1).contiguous()
