"""The data of a federated run, as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from fedlight.core.seeds import SERVER, derive_seed, numpy_generator
from fedlight.core.types import ClientData, FederatedData
from fedlight.data.augment import Augmentation
from fedlight.data.client import EvaluationBatches, IndexedClient, OneItem
from fedlight.data.corruption import Corruption
from fedlight.data.damage import Corruptions, Damage
from fedlight.data.examples import Examples, Splits
from fedlight.data.partition import IID, Assignment, Partition
from fedlight.data.source import Source
from fedlight.data.statistics import PartitionStatistics, class_counts
from fedlight.errors import ConfigError, DataError


@final
class FederatedDataModule(LightningDataModule, FederatedData):
    """Shares one data set out among clients, and holds back what evaluation and the server need.

    The training examples are shuffled by ``seed`` and cut into three parts that don't overlap: validation
    (``validation_fraction``), the server's own (``server_fraction``), and the clients' (the rest, at most
    ``max_train_examples`` of it), which ``partition`` shares out. The test set is read by ``test`` alone.

    Validation steers (early stopping, the choice of a checkpoint), so by default it reads examples held back from
    training, or the source's own validation split where there is one. ``validate_on: test`` is for plotting curves of
    test accuracy over rounds as papers do; choose nothing by them then.

    Args:
        dataset: where the data come from.
        num_clients: number of clients, >= 1.
        partition: who holds which example; None for :class:`~fedlight.data.IID`.
        batch_size: examples per training batch of a client, >= 1. A last batch of one example is merged into the one
            before it, which batch normalisation needs.
        eval_batch_size: examples per batch of validation and test, >= 1.
        validation_fraction: share of the training examples held back for validation, in [0, 1); 0 for no validation.
            Unused where the source has a validation split or with ``validate_on: test``.
        validate_on: what validation reads.
        server_fraction: share of the training examples held back for the server, in [0, 1).
        max_train_examples: most examples that the clients share; None for all.
        augment: random change to the inputs of clients' training batches.
        corruption: what is wrong with clients' training data, applied in this order; validation, test and the server's
            own examples stay clean.
        seed: seed of the split and the partition.
    """

    def __init__(
        self,
        dataset: Source,
        num_clients: int,
        partition: Partition | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 512,
        validation_fraction: float = 0.1,
        validate_on: Literal["holdout", "test"] = "holdout",
        server_fraction: float = 0.0,
        max_train_examples: int | None = None,
        augment: Augmentation | None = None,
        corruption: list[Corruption] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least_one = {
            "num_clients": num_clients,
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "max_train_examples": 1 if max_train_examples is None else max_train_examples,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise ConfigError(f"data.{name} is {value}: it must be at least 1")
        if min(validation_fraction, server_fraction) < 0 or validation_fraction + server_fraction >= 1:
            raise ConfigError(
                f"data.validation_fraction = {validation_fraction} and data.server_fraction = {server_fraction}: "
                "each must be at least 0, and their sum below 1 to leave examples for the clients"
            )
        self.dataset = dataset
        self.num_clients = num_clients
        self.partition = partition or IID()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.validation_fraction = validation_fraction
        self.validate_on = validate_on
        self.server_fraction = server_fraction
        self.max_train_examples = max_train_examples
        self.augment = augment
        self.corruption = list(corruption or [])
        self.seed = seed
        self._shared: _Shared | None = None

    def prepare_data(self) -> None:
        """Fetch what is missing, on one process."""
        self.dataset.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Read the data and share them out; does nothing the second time."""
        if self._shared is None:
            self._shared = self._share_out(self.dataset.load())

    @property
    def num_examples(self) -> np.ndarray:
        """int64[num_clients]: number of training examples of every client."""
        return self._ready().sizes

    @property
    def class_names(self) -> Sequence[str] | None:
        """Name of every class, None where the source knows none."""
        return self._ready().splits.class_names

    @property
    def corruption_levels(self) -> Mapping[str, np.ndarray]:
        """Name of every corruption to float64[num_clients], the true level of every client; 0: it is clean."""
        return self._ready().corruptions.levels

    def statistics(self) -> PartitionStatistics:
        """Return who holds what, by the true labels, and what is wrong with it."""
        shared = self._ready()
        counts = None if shared.labels is None else class_counts(shared.assignment, shared.labels, shared.num_classes)
        return PartitionStatistics(
            sizes=shared.sizes,
            counts=counts,
            class_names=shared.splits.class_names,
            client_names=shared.assignment.names,
            copy_of=shared.assignment.copy_of,
            levels=shared.corruptions.levels,
        )

    def client(self, client: int) -> ClientData:
        """Return the training data of one client, with all that is wrong with them."""
        if not 0 <= client < self.num_clients:
            raise IndexError(f"client {client} of {self.num_clients}")
        return self._client(self._ready(), client)

    def server(self) -> ClientData | None:
        """Return the server's own held-out training examples, or None when it holds none."""
        shared = self._ready()
        return self._view(shared, shared.server) if len(shared.server) else None

    def train_dataloader(self) -> Iterable[Any]:
        """Return one item: one epoch is one round, and the server asks for clients' data itself."""
        return OneItem()

    def val_dataloader(self) -> Iterable[Any]:
        """Return the batches that steer; none, with Lightning's warning, where nothing is held back for it."""
        shared = self._ready()
        if self.validate_on == "test":
            return self.test_dataloader()
        if shared.splits.val is not None:
            return self._all_batches(shared.splits.val)
        return EvaluationBatches(shared.splits.train, shared.validation, self.eval_batch_size)

    def test_dataloader(self) -> Iterable[Any]:
        """Return the test set in batches; raises DataError where the source has none."""
        test = self._ready().splits.test
        if test is None:
            raise DataError(
                f"{type(self.dataset).__name__} has no test set: give it one, or use `validate` and "
                "validate_on: holdout instead"
            )
        return self._all_batches(test)

    def _ready(self) -> _Shared:
        self.setup()
        assert self._shared is not None  # noqa: S101 - for the type checker: setup has just set it
        return self._shared

    def _all_batches(self, examples: Examples) -> EvaluationBatches:
        return EvaluationBatches(examples, torch.arange(len(examples)), self.eval_batch_size)

    def _client(self, shared: _Shared, client: int) -> IndexedClient:
        indices = torch.from_numpy(shared.assignment.of(client))
        labels = None if shared.labels is None else shared.labels.index_select(0, indices)
        return self._view(shared, indices, self.augment, shared.corruptions.of(client, labels))

    def _view(
        self, shared: _Shared, indices: Tensor, augment: Augmentation | None = None, damage: Damage | None = None
    ) -> IndexedClient:
        return IndexedClient(
            shared.splits.train, indices, self.batch_size, shared.labels, shared.num_classes, augment, damage
        )

    def _share_out(self, splits: Splits) -> _Shared:
        total = len(splits.train)
        if total == 0:
            raise DataError(f"{type(self.dataset).__name__} has no training examples: check what it points to")
        order = numpy_generator(self.seed, -1, SERVER, "split").permutation(total).astype(np.int32)
        holds_out = self.validate_on == "holdout" and splits.val is None
        num_validation = round(self.validation_fraction * total) if holds_out else 0
        num_server = round(self.server_fraction * total)
        validation, server, pool = np.split(order, [num_validation, num_validation + num_server])
        pool = pool[: self.max_train_examples]
        labels = splits.train.labels
        column = self.partition.column
        groups = labels if column is None else splits.train.column(column)
        rng = np.random.default_rng(derive_seed(self.seed, -1, SERVER, "partition"))
        assignment = self.partition.assign(None if groups is None else groups[pool], len(pool), self.num_clients, rng)
        self._check(assignment)
        num_classes = 0 if labels is None else int(labels.max()) + 1
        shared = _Shared(
            splits,
            replace(assignment, order=pool[assignment.order]),
            torch.from_numpy(validation),
            torch.from_numpy(server),
            None if labels is None else torch.from_numpy(labels),
            num_classes,
            Corruptions(self.corruption, self.num_clients, num_classes, self.seed),
        )
        for client in shared.corruptions.first_hit():
            # What doesn't fit these data is said now, and not when that client is first drawn.
            next(self._client(shared, client).first(1).in_order())
        return shared

    def _check(self, assignment: Assignment) -> None:
        """Raise DataError where a partition, perhaps of the user's own, has left a client without examples."""
        rule, sizes = type(self.partition).__name__, assignment.sizes
        if len(sizes) != self.num_clients:
            raise DataError(f"partition {rule} made {len(sizes)} clients, but data.num_clients is {self.num_clients}")
        starved = np.flatnonzero(sizes < 1)
        if starved.size:
            raise DataError(
                f"partition {rule} leaves {starved.size} of {self.num_clients} clients without examples, the first is "
                f"client {starved[0]}: lower data.num_clients, or make the partition less unequal"
            )


@final
@dataclass(frozen=True)
class _Shared:
    """What :meth:`FederatedDataModule.setup` makes."""

    splits: Splits
    assignment: Assignment
    validation: Tensor
    server: Tensor
    labels: Tensor | None
    num_classes: int
    corruptions: Corruptions

    @cached_property
    def sizes(self) -> np.ndarray:
        return self.assignment.sizes
