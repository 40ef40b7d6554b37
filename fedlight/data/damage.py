"""All corruptions of a run together, and what they do to one client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from fedlight.core.seeds import SERVER, derive_seed, numpy_generator, torch_generator
from fedlight.data.corruption import Corruption, InputCorruption, LabelCorruption
from fedlight.data.examples import Change
from fedlight.errors import ConfigError, DataError


@final
@dataclass(frozen=True)
class Damage:
    """What is wrong with one client's data.

    Attributes:
        change: what happens to the inputs of a batch; None: nothing.
        labels: int64[n], the labels that the client has in place of the true ones; None: the true ones.
    """

    change: Change | None
    labels: Tensor | None


@final
class Corruptions:
    """The corruptions of a run, in the order in which they apply.

    Costs 8 bytes per client and corruption; everything else is made when a client's data are read.

    Args:
        parts: what is wrong.
        num_clients: number of clients.
        num_classes: number of classes; 0 where there are no class labels.
        seed: seed of the split and the partition.

    Raises:
        ConfigError: two of one kind.
        DataError: labels shall be changed, and there are none, or they are all of one class.
    """

    def __init__(self, parts: Sequence[Corruption], num_clients: int, num_classes: int, seed: int) -> None:
        self._parts = parts
        self._num_classes = num_classes
        self._seed = seed
        self._levels: dict[str, np.ndarray] = {}
        for part in parts:
            if part.name in self._levels:
                raise ConfigError(f"data.corruption holds {type(part).__name__} twice: give one of each kind")
            if isinstance(part, LabelCorruption) and num_classes < 2:
                raise DataError(
                    f"data.corruption {type(part).__name__} changes class labels, but the data set has "
                    f"{num_classes or 'no'} class{'' if num_classes else ' labels'}: leave it out"
                )
            rng = numpy_generator(seed, -1, SERVER, f"corruption/{part.name}")
            self._levels[part.name] = part.levels(num_clients, rng)

    @property
    def levels(self) -> Mapping[str, np.ndarray]:
        """Name of the corruption to float64[num_clients], how strongly each client is hit; 0: not at all."""
        return self._levels

    def of(self, client: int, labels: Tensor | None) -> Damage | None:
        """Return what is wrong with a client that has these labels (int64[n]); None: nothing."""
        hits = [(part, float(self._levels[part.name][client])) for part in self._parts]
        hits = [(part, level) for part, level in hits if level]
        if not hits:
            return None
        wrong: Tensor | None = None
        for part, level in hits:
            if isinstance(part, LabelCorruption) and labels is not None:
                generator = torch_generator(self._seed, -1, client, f"corruption/{part.name}")
                wrong = part.relabel(labels if wrong is None else wrong, self._num_classes, level, generator)
        changes = [
            (part, level, derive_seed(self._seed, -1, client, f"corruption/{part.name}"))
            for part, level in hits
            if isinstance(part, InputCorruption)
        ]

        def change(inputs: Tensor, indices: Tensor) -> Tensor:
            for part, level, seed in changes:
                inputs = part.change(inputs, level, seed, indices)
            return inputs

        return Damage(change if changes else None, wrong)

    def first_hit(self) -> Sequence[int]:
        """Return a client that is hit, for every corruption of inputs that hits any: to try the changes on."""
        hit = [self._levels[part.name] != 0 for part in self._parts if isinstance(part, InputCorruption)]
        return sorted({int(np.argmax(one)) for one in hit if one.any()})


def relabelled(batch: object, labels: Tensor) -> tuple[object, ...]:
    """Return a batch (inputs, labels, ...) with other labels.

    Raises:
        DataError: the batch has no class labels in second place.
    """
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        old = batch[1]
        if isinstance(old, torch.Tensor) and old.shape == labels.shape and not old.is_floating_point():
            return (batch[0], labels.to(old.dtype), *batch[2:])
    raise DataError(
        "data.corruption changes labels, which must be the second entry of a batch, one whole number per example: "
        "let the Dataset give (inputs, label), or leave it out"
    )
