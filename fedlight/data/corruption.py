"""What is wrong with clients' training data: the interface, and noise in labels and inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from fedlight.errors import ConfigError, DataError


class Corruption(ABC):
    """Changes the training data of some clients; what validation, test and the server read stays as it is.

    Nothing is stored per client but its level: the changes are made anew, and always the same, whenever a client's
    data are read.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the level, with its unit, in tables and files."""

    @abstractmethod
    def levels(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draw float64[num_clients], how strongly each client is hit; 0: not at all."""


class LabelCorruption(Corruption):
    """Changes class labels."""

    @abstractmethod
    def relabel(self, labels: Tensor, num_classes: int, level: float, generator: torch.Generator) -> Tensor:
        """Return other labels for all examples of a client that is hit.

        Args:
            labels: int64[n], in [0, num_classes); not to be written to.
            num_classes: number of classes.
            level: this client's, not 0.
            generator: this client's, the same every time.
        """


class InputCorruption(Corruption):
    """Changes inputs, before they are normalised: images are floats in [0, 1]."""

    @abstractmethod
    def change(self, inputs: Tensor, level: float, seed: int, indices: Tensor) -> Tensor:
        """Return changed inputs of the same shape for one batch of a client that is hit.

        Args:
            inputs: float[B, ...]; may be written to.
            level: this client's, not 0.
            seed: this client's, in [0, 2**63), the same every time.
            indices: int[B], positions of the examples in the data set.

        Raises:
            DataError: inputs of this shape can't be changed so.
        """


@final
class LabelNoise(LabelCorruption):
    """A share of clients have wrong labels: of a noisy client's n labels exactly round(level · n) are changed.

    ``symmetric`` replaces a label by one of the other classes, each equally likely; ``pair`` by the next class,
    (y + 1) mod C. Which labels are changed is drawn per client, once and for all.

    Source: J. Xu et al., "FedCorr: Multi-Stage Federated Learning for Label Noise Correction", CVPR 2022, section 4.1:
    a share ρ of noisy clients with levels uniform in [τ, 1]; there each client is noisy with probability ρ, here the
    number of noisy clients is fixed. Kinds of noise: B. Han et al., "Co-teaching", NeurIPS 2018, section 4.

    Args:
        share: share of clients that are noisy, in [0, 1]; they are round(share · N).
        level: share of a noisy client's labels that are wrong, in (0, 1]; the least where ``max_level`` is set.
        max_level: levels are drawn uniformly from [level, max_level]; None: all are ``level``.
        kind: what a label becomes.
    """

    def __init__(
        self,
        share: float = 0.3,
        level: float = 0.5,
        max_level: float | None = None,
        kind: Literal["symmetric", "pair"] = "symmetric",
    ) -> None:
        self.share = check_share(share)
        self.low, self.high = _check_range("level", level, max_level, 1.0)
        self.kind = kind

    @property
    def name(self) -> str:
        """``label_noise``: share of wrong labels."""
        return "label_noise"

    def levels(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draw who is noisy, and how much."""
        return draw_levels(num_clients, self.share, self.low, self.high, rng)

    def relabel(self, labels: Tensor, num_classes: int, level: float, generator: torch.Generator) -> Tensor:
        """Return the labels with exactly round(level · n) of them changed."""
        wrong = torch.randperm(len(labels), generator=generator)[: round(level * len(labels))]
        if self.kind == "pair":
            step = torch.ones(len(wrong), dtype=labels.dtype)
        else:
            step = torch.randint(1, num_classes, (len(wrong),), generator=generator)
        changed = labels.clone()
        changed[wrong] = (labels[wrong] + step) % num_classes
        return changed


@final
class FeatureNoise(InputCorruption):
    """A share of clients have noisy inputs: x + std · z with z ~ N(0, 1) per entry, fixed for each example.

    Images are floats in [0, 1] when the noise is added, and aren't clipped. The noise belongs to the example, as that
    of a bad sensor does: every epoch sees the same. Reading a batch draws it again, at some 15 µs per example of 784
    entries and no memory.

    Source: Q. Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study", ICDE 2022, section 4.2:
    party i of N has noise of variance σ · i / N; here the standard deviation is drawn.

    Args:
        share: share of clients that are noisy, in [0, 1]; they are round(share · N).
        std: standard deviation of the noise, > 0; the least where ``max_std`` is set.
        max_std: standard deviations are drawn uniformly from [std, max_std]; None: all are ``std``.
    """

    def __init__(self, share: float = 0.3, std: float = 0.3, max_std: float | None = None) -> None:
        self.share = check_share(share)
        self.low, self.high = _check_range("std", std, max_std, float("inf"))

    @property
    def name(self) -> str:
        """``feature_noise_std``: standard deviation of the noise."""
        return "feature_noise_std"

    def levels(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draw who is noisy, and how much."""
        return draw_levels(num_clients, self.share, self.low, self.high, rng)

    def change(self, inputs: Tensor, level: float, seed: int, indices: Tensor) -> Tensor:
        """Add each example's own noise."""
        generator = torch.Generator()
        for example, index in zip(inputs, indices.tolist(), strict=True):
            # Modulo, since seeds end at 2**63; neighbouring seeds give unrelated draws.
            generator.manual_seed((seed + index) % 2**63)
            example += level * torch.randn(example.shape, generator=generator)
        return inputs


def check_share(share: float) -> float:
    """Return ``share`` if it is a share of clients, else raise ConfigError."""
    if not 0 <= share <= 1:
        raise ConfigError(f"share is {share}: a share of clients must be in [0, 1]")
    return share


def draw_levels(num_clients: int, share: float, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Return float64[num_clients]: uniform in [low, high] for round(share · N) clients drawn at random, else 0."""
    levels = np.zeros(num_clients)
    hit = rng.permutation(num_clients)[: round(share * num_clients)]
    levels[hit] = rng.uniform(low, high, size=hit.size)
    return levels


def need_images(inputs: Tensor, rule: str) -> None:
    """Raise DataError where inputs are not images of 1 or 3 channels."""
    if inputs.dim() != 4 or inputs.shape[1] not in (1, 3):
        raise DataError(
            f"data.corruption {rule} changes images [C, H, W] of 1 or 3 channels, but these inputs have shape "
            f"{list(inputs.shape[1:])}: leave it out"
        )


def _check_range(name: str, low: float, high: float | None, end: float) -> tuple[float, float]:
    """Return the ends of a range of levels; raises ConfigError where it isn't one above 0 and up to ``end``."""
    allowed = "above 0" if end == float("inf") else f"in (0, {end:g}]"
    if not 0 < low <= end or low == float("inf"):
        raise ConfigError(f"{name} is {low}: it must be {allowed}; a share of 0 hits nobody")
    if high is None:
        return low, low
    if not low <= high <= end or high == float("inf"):
        raise ConfigError(f"max_{name} is {high}: it must be {allowed} and at least {name} = {low}")
    return low, high
