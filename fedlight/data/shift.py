"""Feature shift: every client sees the world in its own way."""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from torch import Tensor

from fedlight.data.corruption import InputCorruption, check_share, draw_levels, need_images
from fedlight.errors import ConfigError


@final
class Rotation(InputCorruption):
    """A client's images are all turned by its own angle, drawn uniformly from [-max, max] degrees.

    By ``torchvision.transforms.v2.functional.rotate``, bilinear; corners that come from outside are 0 (black).
    Source: rotated clients as in A. Ghosh et al., "An Efficient Framework for Clustered Federated Learning" (IFCA),
    NeurIPS 2020, section 5, with angles from a range instead of four.

    Args:
        max_degrees: largest angle, in (0, 180].
        share: share of clients whose images are turned, in [0, 1].
    """

    def __init__(self, max_degrees: float = 45.0, share: float = 1.0) -> None:
        if not 0 < max_degrees <= 180:
            raise ConfigError(f"max_degrees is {max_degrees}: it must be in (0, 180]")
        self.max_degrees = max_degrees
        self.share = check_share(share)

    @property
    def name(self) -> str:
        """``rotation_degrees``: the angle, counter-clockwise."""
        return "rotation_degrees"

    def levels(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the angles."""
        return draw_levels(num_clients, self.share, -self.max_degrees, self.max_degrees, rng)

    def change(self, inputs: Tensor, level: float, seed: int, indices: Tensor) -> Tensor:
        """Turn a batch."""
        from torchvision.transforms.v2 import InterpolationMode, functional

        need_images(inputs, "Rotation")
        turned: Tensor = functional.rotate(inputs, level, interpolation=InterpolationMode.BILINEAR)
        return turned


@final
class Blur(InputCorruption):
    """A client's images are all out of focus by its own amount: a Gaussian with σ drawn uniformly from (0, max] pixels.

    By ``torchvision.transforms.v2.functional.gaussian_blur`` with a kernel that reaches 3 σ, or as far as the image.
    Source: one of the corruptions of D. Hendrycks, T. Dietterich, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", ICLR 2019.

    Args:
        max_sigma: largest σ in pixels, > 0.
        share: share of clients whose images are blurred, in [0, 1].
    """

    def __init__(self, max_sigma: float = 1.5, share: float = 1.0) -> None:
        if not 0 < max_sigma < float("inf"):
            raise ConfigError(f"max_sigma is {max_sigma}: it must be a number of pixels above 0")
        self.max_sigma = max_sigma
        self.share = check_share(share)

    @property
    def name(self) -> str:
        """``blur_sigma_pixels``: σ of the Gaussian."""
        return "blur_sigma_pixels"

    def levels(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the σ."""
        return draw_levels(num_clients, self.share, 0.0, self.max_sigma, rng)

    def change(self, inputs: Tensor, level: float, seed: int, indices: Tensor) -> Tensor:
        """Blur a batch."""
        from torchvision.transforms.v2 import functional

        need_images(inputs, "Blur")
        reach = min(math.ceil(3 * level), min(inputs.shape[-2:]) - 1)
        blurred: Tensor = functional.gaussian_blur(inputs, [2 * reach + 1] * 2, [level] * 2)
        return blurred


@final
class Colour(InputCorruption):
    """A client's camera has its own brightness, contrast and (for RGB) saturation and hue.

    The client draws a strength s uniformly from (0, max], and four signs: brightness, contrast and saturation are
    multiplied by 1 + s or 1 - s, and the hue turned by s / 2 of the colour circle either way. By
    ``torchvision.transforms.v2.functional.adjust_*``, as in ``ColorJitter``, but once per client.

    Args:
        max_strength: largest s, in (0, 1].
        share: share of clients that are changed, in [0, 1].
    """

    def __init__(self, max_strength: float = 0.5, share: float = 1.0) -> None:
        if not 0 < max_strength <= 1:
            raise ConfigError(f"max_strength is {max_strength}: it must be in (0, 1]")
        self.max_strength = max_strength
        self.share = check_share(share)

    @property
    def name(self) -> str:
        """``colour_strength``: s."""
        return "colour_strength"

    def levels(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the strengths."""
        return draw_levels(num_clients, self.share, 0.0, self.max_strength, rng)

    def change(self, inputs: Tensor, level: float, seed: int, indices: Tensor) -> Tensor:
        """Change the colours of a batch."""
        from torchvision.transforms.v2 import functional

        need_images(inputs, "Colour")
        signs = 2 * torch.randint(2, (4,), generator=torch.Generator().manual_seed(seed)) - 1
        brightness, contrast, saturation, hue = (level * signs).tolist()
        # Elsewhere than in [0, 1] torchvision's conversions between colour spaces are undefined.
        changed = functional.adjust_brightness(inputs.clamp(0, 1), 1 + brightness)
        changed = functional.adjust_contrast(changed, 1 + contrast)
        if inputs.shape[1] == 3:
            changed = functional.adjust_saturation(changed, 1 + saturation)
            changed = functional.adjust_hue(changed, hue / 2)
        result: Tensor = changed
        return result
