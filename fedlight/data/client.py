"""One client's view of the data, and the batches of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor

from fedlight.core.types import ClientData
from fedlight.data.augment import Augmentation
from fedlight.data.damage import Damage, relabelled
from fedlight.data.examples import Examples
from fedlight.errors import DataError

_EVALUATION_BATCH = 256


@final
class IndexedClient(ClientData):
    """Examples picked by index; holds no copy of them, so it is cheap to make anew in every round.

    A last batch of a single example would break batch normalisation, so it is merged into the one before it.

    Args:
        examples: what all clients share.
        indices: int[n], this client's examples.
        batch_size: examples per batch, >= 1.
        labels: int64[len(examples)], None where there are none.
        num_classes: length of the label counts.
        augment: changes the inputs of training batches at random.
        damage: what is wrong with this client's inputs and labels.
    """

    def __init__(
        self,
        examples: Examples,
        indices: Tensor,
        batch_size: int,
        labels: Tensor | None = None,
        num_classes: int = 0,
        augment: Augmentation | None = None,
        damage: Damage | None = None,
    ) -> None:
        self._examples = examples
        self._indices = indices
        self._batch_size = batch_size
        self._labels = labels
        self._num_classes = num_classes
        self._augment = augment
        self._damage = damage

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return len(self._indices)

    @property
    def num_batches(self) -> int:
        """Number of batches of one epoch, ⌈n / B⌉, less one where the last is merged."""
        return len(batch_sizes(self.num_examples, self._batch_size))

    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        """Yield the batches of one epoch, each example once, in an order drawn from ``generator``."""
        order = torch.randperm(self.num_examples, generator=generator)
        for places in torch.split(order, batch_sizes(self.num_examples, self._batch_size)):
            batch = self._read(places)
            yield batch if self._augment is None else self._augmented(batch, generator)

    def _read(self, places: Tensor) -> Any:
        """Return the examples at these places (int64[B], counted within the client's own), as the client has them."""
        indices = self._indices.index_select(0, places)
        if self._damage is None:
            return self._examples.batch(indices)
        change, labels = self._damage.change, self._damage.labels
        batch = self._examples.batch(indices) if change is None else self._examples.changed(indices, change)
        return batch if labels is None else relabelled(batch, labels.index_select(0, places))

    def _augmented(self, batch: Any, generator: torch.Generator) -> Any:
        if self._augment is None or not isinstance(batch, tuple | list):
            raise DataError(
                f"data.augment changes the first of a batch's tensors, but a batch is a {type(batch).__name__}: "
                "leave augment out and put the change into the Dataset"
            )
        return (self._augment(batch[0], generator), *batch[1:])

    def in_order(self) -> Iterator[Any]:
        """Yield batches of all examples, unaugmented and in the order of the indices; larger ones than in training."""
        for places in torch.split(torch.arange(self.num_examples), max(self._batch_size, _EVALUATION_BATCH)):
            yield self._read(places)

    def first(self, count: int) -> IndexedClient:
        """Return the client with its first examples only."""
        return self._of(torch.arange(min(count, self.num_examples)))

    def halves(self) -> tuple[ClientData, ClientData]:
        """Return two halves that don't overlap and have the same mix of labels: every other example, sorted by label.

        Raises:
            DataError: fewer than two examples.
        """
        if self.num_examples < 2:
            raise DataError("a single example can't be halved: set data.server_fraction higher")
        labels = self._own_labels()
        order = torch.arange(self.num_examples) if labels is None else torch.argsort(labels, stable=True)
        return self._of(order[::2]), self._of(order[1::2])

    def _of(self, places: Tensor) -> IndexedClient:
        damage = self._damage
        if damage is not None and damage.labels is not None:
            damage = Damage(damage.change, damage.labels.index_select(0, places))
        return IndexedClient(
            self._examples,
            self._indices.index_select(0, places),
            self._batch_size,
            self._labels,
            self._num_classes,
            self._augment,
            damage,
        )

    def _own_labels(self) -> Tensor | None:
        """Return int64[n], the labels as the client has them; None where there are no class labels."""
        if self._damage is not None and self._damage.labels is not None:
            return self._damage.labels
        return None if self._labels is None else self._labels.index_select(0, self._indices)

    def label_counts(self) -> Tensor | None:
        """Return int64[num_classes], the client's labels of each class, wrong ones too; None where there are none."""
        labels = self._own_labels()
        return None if labels is None else torch.bincount(labels, minlength=self._num_classes)


@final
class EvaluationBatches:
    """Batches in a fixed order, for Lightning's evaluation loops; every process reads all of them.

    Args:
        examples: what to read from.
        indices: int[n], which examples.
        batch_size: examples per batch, >= 1.
    """

    def __init__(self, examples: Examples, indices: Tensor, batch_size: int) -> None:
        self._examples = examples
        self._parts = torch.split(indices, batch_size) if len(indices) else ()

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Any]:
        return (self._examples.batch(picked) for picked in self._parts)


@final
class OneItem:
    """The training "loader" of a server: one item per epoch, since one epoch is one round."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        return iter((0,))


def batch_sizes(num_examples: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of one epoch; a last batch of one example goes into the one before it."""
    full, rest = divmod(num_examples, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    if rest == 1 and full:
        sizes[-2:] = [batch_size + 1]
    return sizes
