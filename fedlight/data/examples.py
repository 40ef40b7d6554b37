"""The examples of one split, ready to be read in batches by index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset, default_collate

from fedlight.errors import DataError

Change = Callable[[Tensor, Tensor], Tensor]
"""(inputs [B, ...], int[B] positions of their examples) to inputs of the same shape."""


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

    def changed(self, indices: Tensor, change: Change) -> Any:
        """Return a batch whose inputs went through ``change``: as they come, since nothing is known of their units.

        Raises:
            DataError: a batch's first entry is no tensor of floats.
        """
        batch = self.batch(indices)
        if not isinstance(batch, tuple | list) or not isinstance(batch[0], Tensor) or not batch[0].is_floating_point():
            raise DataError(
                "data.corruption changes the inputs, floats that come first in a batch, and these data have no such "
                "thing: leave out what changes inputs, or put the change into the Dataset"
            )
        return (change(batch[0], indices), *batch[1:])

    def column(self, name: str) -> np.ndarray:
        """Return [len(self)], the value of every example in a column that natural partitions go by.

        Raises:
            DataError: there is no such column.
        """
        return column_of({}, name)


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
        columns: one value per example, by column name, for natural partitions.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        if len(inputs) != len(targets):
            raise DataError(f"{len(inputs)} inputs but {len(targets)} targets: every example needs one of each")
        self.inputs = inputs
        self.targets = targets
        self._columns = columns or {}
        for name, values in self._columns.items():
            if np.shape(values) != (len(inputs),):
                raise DataError(
                    f"column {name!r} has shape {np.shape(values)}: it needs one value for each of the "
                    f"{len(inputs)} examples"
                )
        self._unit = unit = 255.0 if inputs.dtype == torch.uint8 else 1.0
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

    def changed(self, indices: Tensor, change: Change) -> tuple[Tensor, Tensor]:
        """Return a batch whose inputs went through ``change`` before they are normalised: images as floats in [0, 1].

        Raises:
            DataError: the inputs are integers that aren't images.
        """
        inputs = self.inputs.index_select(0, indices)
        if inputs.dtype != torch.uint8 and not inputs.is_floating_point():
            raise DataError(
                "data.corruption changes the inputs, but these are whole numbers (tokens?), not floats or images: "
                "leave out what changes inputs"
            )
        inputs = change(inputs.float() / self._unit, indices)
        if self._factor is not None:
            inputs = inputs * (self._factor * self._unit)
            if self._offset is not None:
                inputs += self._offset
        return inputs, self.targets.index_select(0, indices)

    @property
    def labels(self) -> np.ndarray | None:
        """The targets, where they are one integer each."""
        return _class_labels(self.targets)

    def column(self, name: str) -> np.ndarray:
        """Return the values of a column."""
        return column_of(self._columns, name)


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

    def column(self, name: str) -> np.ndarray:
        """Return the Dataset's attribute of that name, or the column of a Hugging Face data set."""
        found = _dataset_column(self.dataset, name)
        if found is None or found.shape != (len(self),):
            raise DataError(
                f"{type(self.dataset).__name__} has no column {name!r}: natural partitions need an attribute of that "
                "name with one value per example"
            )
        return found


def column_of(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return a column; raises DataError, with the names that are there, where it is missing."""
    if name not in columns:
        known = f"its columns are {', '.join(columns)}" if columns else "it has none"
        raise DataError(f"the data set has no column {name!r} ({known}): name one that is there in data.partition")
    return np.asarray(columns[name])


def _dataset_column(dataset: Any, name: str) -> np.ndarray | None:
    """Return one value per example, None where the Dataset knows nothing by that name."""
    if isinstance(dataset, Subset):
        values = _dataset_column(dataset.dataset, name)
        return None if values is None else values[np.asarray(dataset.indices)]
    if name in (getattr(dataset, "column_names", None) or ()):
        return np.asarray(dataset[name])
    values = getattr(dataset, name, None)
    return None if values is None or callable(values) else np.asarray(values)


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
