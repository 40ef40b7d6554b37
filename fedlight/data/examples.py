"""The examples of one split, ready to be read in batches by index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset, default_collate

from fedlight.errors import DataError


class Examples(ABC):
    """Examples that can be read in batches by index."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def batch(self, indices: Tensor) -> Any:
        """Return the examples at ``indices`` (int, shape [B]) as one batch."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray | None:
        """int64[len(self)]: the class of every example, counted from 0; None where there are no class labels."""


@final
@dataclass(frozen=True)
class Splits:
    """What a source holds.

    Attributes:
        train: examples for clients, server and validation to share.
        test: examples that only ``test`` reads; None where the source has none.
        val: examples of the source's own validation split; None where it has none.
        class_names: name of every class, None where unknown.
    """

    train: Examples
    test: Examples | None = None
    val: Examples | None = None
    class_names: Sequence[str] | None = None


@final
class TensorExamples(Examples):
    """Examples in memory: batches are gathered from one tensor, and normalised as they are read.

    x = (raw · scale - mean) / std per channel, with scale = 1/255 for uint8 and 1 otherwise. Raw uint8 images stay
    uint8 in memory (a quarter of the bytes); converting a batch costs less than keeping floats in cache would save.

    Args:
        inputs: [n, ...], channels in dimension 1 where mean and std are given.
        targets: [n, ...]; integers of shape [n] are class labels.
        mean: mean per channel of the scaled inputs, None to leave them as they are.
        std: standard deviation per channel, > 0; given together with ``mean``.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if len(inputs) != len(targets):
            raise DataError(f"{len(inputs)} inputs but {len(targets)} targets: every example needs one of each")
        self.inputs = inputs
        self.targets = targets
        unit = 255.0 if inputs.dtype == torch.uint8 else 1.0
        self._factor: Tensor | None = None
        self._offset: Tensor | None = None
        if mean is not None and std is not None:
            channels = inputs.shape[1] if inputs.dim() > 1 else 1
            if not len(mean) == len(std) == channels or min(std) <= 0:
                raise DataError(f"mean {list(mean)} and std {list(std)}: give {channels} of each, and std above 0")
            shape = [-1] + [1] * (inputs.dim() - 2)
            spread = torch.tensor(std, dtype=torch.float32).view(shape)
            self._factor = 1 / (unit * spread)
            self._offset = -torch.tensor(mean, dtype=torch.float32).view(shape) / spread
        elif unit != 1.0:
            self._factor = torch.tensor(1 / unit)

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised inputs and targets, shapes [B, ...]."""
        inputs = self.inputs.index_select(0, indices)
        if self._factor is not None:
            inputs = inputs * self._factor
            if self._offset is not None:
                inputs += self._offset
        return inputs, self.targets.index_select(0, indices)

    @property
    def labels(self) -> np.ndarray | None:
        """The targets, where they are one integer each."""
        return _class_labels(self.targets)


@final
class DatasetExamples(Examples):
    """Examples of any map-style Dataset, put together by ``default_collate``.

    Class labels are taken from a ``targets`` or ``labels`` attribute, as torchvision's data sets have, or from the last
    tensor of a TensorDataset; other data sets count as label-free. A random transform in the Dataset draws from
    torch's global generator, which the client seeds.

    Args:
        dataset: has ``__len__`` and ``__getitem__``.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        own = type(dataset)
        # Dataset itself has a __getitem__, which is there to be replaced.
        index = getattr(own, "__getitem__", Dataset.__getitem__)
        missing = [] if hasattr(own, "__len__") else ["__len__"]
        missing += ["__getitem__"] if index in (Dataset.__getitem__, IterableDataset.__getitem__) else []
        if missing:
            raise DataError(
                f"{own.__name__} has no {' and no '.join(missing)}: clients need a map-style Dataset, which has "
                "__len__ and __getitem__"
            )
        self.dataset = dataset
        self._length = len(dataset)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: Tensor) -> Any:
        """Return the collated batch, in the structure that the Dataset gives."""
        return default_collate([self.dataset[index] for index in indices.tolist()])

    @property
    def labels(self) -> np.ndarray | None:
        """The labels that the Dataset declares."""
        return _dataset_labels(self.dataset)


def _dataset_labels(dataset: Dataset[Any]) -> np.ndarray | None:
    """Return the class labels that a Dataset declares without being read example by example."""
    if isinstance(dataset, Subset):
        labels = _dataset_labels(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices)]
    declared = dataset.tensors[-1] if isinstance(dataset, TensorDataset) else getattr(dataset, "targets", None)
    if declared is None:
        declared = getattr(dataset, "labels", None)
    return None if declared is None else _class_labels(declared)


def _class_labels(targets: Any) -> np.ndarray | None:
    """Return targets as int64[n] when they are one integer >= 0 each, else None."""
    array = np.asarray(targets)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or (array.size and array.min() < 0):
        return None
    return array.astype(np.int64, copy=False)
