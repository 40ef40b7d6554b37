"""Clients that hold what others hold."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.data.partition import IID, Assignment, Partition, offsets_of
from fedlight.errors import ConfigError


@final
class DuplicatedClients(Partition):
    """A share of the clients hold copies of others' examples; the rest share all examples out by another rule.

    round(share · N) clients, drawn at random, each copy one of the others, drawn at random with replacement, example
    for example. The amounts of all clients therefore sum to more than the number of examples, while no example is
    lost. ``FederatedDataModule.statistics().copy_of`` tells who copies whom. Copies share memory with the original.

    Source: the "duplicate" clients of data valuation, as in Y. Ghorbani, J. Zou, "Data Shapley", ICML 2019, section 3,
    who ask that equal data get equal value.

    Args:
        share: share of clients that are copies, in [0, 1); at least one client stays an original.
        partition: how the originals share the examples out; None for IID.
    """

    def __init__(self, share: float = 0.2, partition: Partition | None = None) -> None:
        if not 0 <= share < 1:
            raise ConfigError(f"share is {share}: the share of clients that are copies must be in [0, 1)")
        self.share = share
        self.partition = partition or IID()

    @property
    def column(self) -> str | None:
        """That of the other rule."""
        return self.partition.column

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Let the other rule share out, then copy."""
        num_copies = min(round(self.share * num_clients), num_clients - 1)
        own = self.partition.assign(labels, num_examples, num_clients - num_copies, rng)
        copies = np.zeros(num_clients, dtype=bool)
        copies[rng.permutation(num_clients)[:num_copies]] = True
        originals = np.flatnonzero(~copies)
        # The number of the original within the other rule's clients, for every client.
        source = np.empty(num_clients, dtype=np.int64)
        source[originals] = np.arange(originals.size)
        source[copies] = rng.integers(originals.size, size=num_copies)
        names = None if own.names is None else [own.names[index] for index in source.tolist()]
        order = np.concatenate([own.of(index) for index in source.tolist()])
        return Assignment(order, offsets_of(own.sizes[source]), names, originals[source])
