"""How a ratio is spread over the layers: uniform, by shape (ERK), or by what the clients' statistics say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from fedlight.errors import ConfigError

Floats = npt.NDArray[np.float64]


class LayerRatios(ABC):
    """A rule from one pruning ratio to one per layer, with the same entries kept in total.

    Attributes:
        learns: whether it asks for the layers' mean scores.
    """

    learns: bool = False

    @abstractmethod
    def weigh(self, shapes: Sequence[Sequence[int]], means: Floats | None) -> Floats:
        """Return float64[num_layers], what the densities are proportional to until a layer is full.

        Args:
            shapes: shape of each layer's weight.
            means: mean score of each layer's entries where that is known, else None.
        """


@final
class UniformRatios(LayerRatios):
    """Every layer loses the same fraction."""

    def weigh(self, shapes: Sequence[Sequence[int]], means: Floats | None) -> Floats:
        """Return ones."""
        return np.ones(len(shapes))


@final
class ERKRatios(LayerRatios):
    """Erdős-Rényi-Kernel: d_l ∝ (Σ dims of W_l) / (Π dims of W_l), so small layers stay denser.

    A convolution weighs (C_in + C_out + k_h + k_w) / (C_in C_out k_h k_w), a linear layer (n_in + n_out) /
    (n_in n_out). Mocanu et al. 2018; with kernels: Evci et al. 2020, RigL, §3. Of a group of channels W is
    its first layer's weight.
    """

    def weigh(self, shapes: Sequence[Sequence[int]], means: Floats | None) -> Floats:
        """Return the shapes' Erdős-Rényi-Kernel weights."""
        return np.array([sum(shape) / np.prod(shape, dtype=np.float64) for shape in shapes], dtype=np.float64)


@final
class SensitivityRatios(LayerRatios):
    """Learnt: d_l ∝ (mean score of layer l's entries)^power, so layers whose loss would hurt stay denser.

    Sensitivity is not measured by trial removals but taken from the importance: with ``taylor`` (g·θ)² its mean is the
    first-order estimate of the squared rise of the loss per removed entry (Molchanov et al. 2019, eq. 8), summed up by
    clients while they train. The importance must not be normalised by group (``normalizer: null``): that would make
    all layers alike, and is refused. Before scores are known, uniform.

    Args:
        power: 0 is uniform; 0.5 turns squared scores into sizes.
    """

    learns = True

    def __init__(self, power: float = 0.5) -> None:
        if not power >= 0:
            raise ConfigError(f"power={power} would prune sensitive layers first: use 0 or more")
        self.power = power

    def weigh(self, shapes: Sequence[Sequence[int]], means: Floats | None) -> Floats:
        """Return the mean scores to the power."""
        if means is None or not np.any(means > 0):
            return np.ones(len(shapes))
        relative = np.maximum(means / means.max(), 1e-6)  # nothing to lose: a layer is never emptied
        weights: Floats = relative**self.power
        return weights


def densities(weights: Floats, sizes: Sequence[int], ratio: float) -> Floats:
    """Return the fraction of each layer that stays: d_l = min(1, ε w_l) with Σ d_l N_l = (1 - ratio) Σ N_l.

    ε is solved over the layers that aren't full; those of the largest weight become full while one would exceed 1.

    Args:
        weights: float64[num_layers], > 0.
        sizes: N_l, entries of each layer.
        ratio: fraction removed in all, in [0, 1).
    """
    counts = np.asarray(sizes, dtype=np.float64)
    full = np.zeros(len(counts), dtype=bool)
    while not full.all():
        budget = (1.0 - ratio) * counts[~full].sum() - ratio * counts[full].sum()
        scale = budget / (weights[~full] * counts[~full]).sum()
        if (scale * weights[~full]).max() <= 1.0 + 1e-12:
            return np.where(full, 1.0, np.minimum(1.0, scale * weights))
        full |= ~full & (weights == weights[~full].max())
    return np.ones(len(counts))


def exact_counts(layer_densities: Floats, sizes: Sequence[int], total: int) -> list[int]:
    """Round d_l N_l to whole entries that sum up to ``total``: the largest remainders are rounded up; one at least.

    The total is exceeded only where keeping one entry of every layer takes more.
    """
    targets = layer_densities * np.asarray(sizes, dtype=np.float64)
    counts = np.maximum(1, np.minimum(np.floor(targets + 1e-9).astype(np.int64), sizes))
    for index in np.argsort(-(targets - counts), kind="stable"):
        if counts.sum() >= total:
            break
        counts[index] += int(counts[index] < sizes[index])
    excess = int(counts.sum()) - total
    for index in np.argsort(-counts, kind="stable"):
        taken = max(0, min(excess, int(counts[index]) - 1)) if excess > 0 else 0
        counts[index] -= taken
        excess -= taken
    return [int(count) for count in counts]
