"""Label skew by few classes per client."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.data.amounts import Amounts, share_out
from fedlight.data.partition import (
    Assignment,
    Partition,
    assign_by_counts,
    begin_by_class,
    check_min_samples,
    equal_sizes,
    offsets_of,
    or_min_samples,
)
from fedlight.errors import ConfigError, DataError


@final
class ClassesPerClient(Partition):
    """Every client holds examples of exactly k classes.

    Clients choose in turn the k classes that the fewest have chosen so far, ties drawn at random, so that the numbers
    of owners of two classes differ by at most one. A class is shared equally among its owners. Amounts are equal up to
    rounding for balanced classes where N · k is a multiple of the number of classes.

    With ``amounts`` every client draws a w, and a class is shared among its owners by their w, at least one example
    each: amounts then follow the law as closely as the sizes of the classes allow.

    Args:
        classes_per_client: k, >= 1.
        min_samples: least number of examples of a client, >= 1.
        amounts: the law of the w, for both skews at once; None: equal shares.
    """

    def __init__(self, classes_per_client: int = 2, min_samples: int = 1, amounts: Amounts | None = None) -> None:
        if classes_per_client < 1:
            raise ConfigError(f"data.partition.classes_per_client is {classes_per_client}: it must be at least 1")
        self.classes_per_client = classes_per_client
        self.min_samples = check_min_samples(min_samples)
        self.amounts = amounts

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Draw each client's classes, then share the classes out."""
        labels, _, pools = begin_by_class(labels, num_clients, self.min_samples, "ClassesPerClient")
        classes = np.flatnonzero(pools)
        k = self.classes_per_client
        if k > classes.size:
            raise DataError(
                f"classes_per_client is {k}, but the data have {classes.size} classes: lower classes_per_client"
            )
        if k * num_clients < classes.size:
            raise DataError(
                f"{num_clients} clients with {k} classes each can't hold all {classes.size} classes: raise "
                "classes_per_client or data.num_clients"
            )
        counts = np.zeros((num_clients, pools.size), dtype=np.int64)
        weights = np.ones(num_clients) if self.amounts is None else self.amounts.weights(num_clients, rng)
        owned = _balanced_choice(num_clients, classes.size, k, rng)
        for index, label in enumerate(classes):
            owners = rng.permutation(np.flatnonzero(owned[:, index]))
            if pools[label] < owners.size:
                raise DataError(
                    f"class {label} has {pools[label]} examples for the {owners.size} clients that should hold it: "
                    "lower data.num_clients or classes_per_client"
                )
            counts[owners, label] = share_out(int(pools[label]), weights[owners], 1)
        smallest = int(counts.sum(axis=1).min())
        if smallest < self.min_samples:
            raise DataError(
                f"ClassesPerClient leaves a client with {smallest} examples, below min_samples = {self.min_samples}: "
                f"lower data.num_clients{or_min_samples(self.min_samples)}, or raise "
                "classes_per_client"
            )
        return assign_by_counts(counts, labels, rng)


@final
class Shards(Partition):
    """Examples sorted by class are cut into N · s equal shards, and every client gets s of them at random.

    A shard may straddle two classes, so a client holds at most 2 s classes, mostly at most s. Amounts differ by at most
    s examples. Source: B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017, section 3 (s = 2).

    Args:
        shards_per_client: s, >= 1.
        min_samples: least number of examples of a client, >= 1.
    """

    def __init__(self, shards_per_client: int = 2, min_samples: int = 1) -> None:
        if shards_per_client < 1:
            raise ConfigError(f"data.partition.shards_per_client is {shards_per_client}: it must be at least 1")
        self.shards_per_client = shards_per_client
        self.min_samples = check_min_samples(min_samples)

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Sort, cut, and deal the shards out."""
        labels, _, _ = begin_by_class(labels, num_clients, self.min_samples, "Shards")
        num_shards = num_clients * self.shards_per_client
        if num_examples < num_shards:
            raise DataError(
                f"{num_examples} examples can't be cut into {num_clients} x {self.shards_per_client} shards: lower "
                "data.num_clients or shards_per_client"
            )
        shards = equal_sizes(num_examples, num_shards, 1)
        shuffled = rng.permutation(num_examples)
        by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
        owner_of_shard = rng.permutation(num_shards) // self.shards_per_client
        owners = np.repeat(owner_of_shard, shards)
        sizes = np.bincount(owners, minlength=num_clients)
        if sizes.min() < self.min_samples:
            raise DataError(
                f"Shards leaves a client with {sizes.min()} examples, below min_samples = {self.min_samples}: lower "
                f"data.num_clients{or_min_samples(self.min_samples)}"
            )
        order = by_class[np.argsort(owners, kind="stable")].astype(np.int32)
        return Assignment(order, offsets_of(sizes))


def _balanced_choice(num_clients: int, num_classes: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return bool[N, C] with k true per row, and column sums that differ by at most one."""
    chosen = np.zeros((num_clients, num_classes), dtype=bool)
    load = np.zeros(num_classes)
    for row, ties in zip(chosen, rng.random((num_clients, num_classes)), strict=True):
        row[np.argpartition(load + ties, k - 1)[:k]] = True
        load += row
    return chosen
